"""The model with a score, or a few, for each pair of texts.

What differs from other kinds: inputs are pairs, a head gives raw scores, and an activation makes of them what
users see. Loading and saving stand in `encoder/`, the loop over batches in `inference/`.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from sentence_transformers.arguments import accepts_older_names
from sentence_transformers.backend.float32_linear import compute_in_float32
from sentence_transformers.cross_encoder.activations import (
    KEY,
    path_to_save,
    saved_activation,
    saved_path,
    usual_activation,
    write_to_config,
)
from sentence_transformers.cross_encoder.fit import FitMixin
from sentence_transformers.cross_encoder.labels import scores_by_logits, with_labels
from sentence_transformers.cross_encoder.logit_score import (
    LogitScore,
    tokens_needed,
    transformer_with_logit_score,
)
from sentence_transformers.cross_encoder.pairs import Pair, is_one_pair, read_pairs, shown
from sentence_transformers.cross_encoder.results import (
    Activation,
    activated,
    contained,
    ranking,
    raw_scores,
    without_scores,
)
from sentence_transformers.encoder.base import BaseModel
from sentence_transformers.encoder.default_modules import transformer_with_head
from sentence_transformers.encoder.loading import LoadedModel, has_modules, read_model_config, without_missing
from sentence_transformers.encoder.saving import installed_versions
from sentence_transformers.inference.engine import wants_progress
from sentence_transformers.inference.options import DEFAULT_BATCH_SIZE, EncodeOptions
from sentence_transformers.inference.prompts import choose_prompt
from sentence_transformers.inference.sinks import TensorSink
from sentence_transformers.inference.workers import Pool
from sentence_transformers.inputs.collections import as_list, given_inputs
from sentence_transformers.modules.dense import Dense

if TYPE_CHECKING:
    from sentence_transformers.model_card.cross_encoder import CrossEncoderModelCardData

logger = logging.getLogger(__name__)

FLOAT32_KEY = "keep_in_fp32_modules"
"""Entry of the saved settings that names the layers which compute in float32."""


class CrossEncoder(BaseModel, FitMixin):
    """Scores pairs of texts, both of which it reads at once: slower than comparing vectors, and more exact.

    Args:
        model_name_or_path: A folder, or the name of a model: in the local cache, on the hub, or in an installed
            model package. Older name `model_name`. A causal language model scores by how much rather it would
            say "yes" than "no" (see `LogitScore`). Any other checkpoint without a head for classification gets
            a new one, which has to be trained.
        num_labels: Scores of each pair; None for what the checkpoint has, or 1 with a new head. With 2 or more a
            causal language model gets a new head too.
        max_length: Tokens to keep of each pair, special tokens included; None for the model's limit.
        device: Where to put the model, such as "cpu" or "cuda:0"; None for the best there is.
        automodel_args: Passed to the transformers model's `from_pretrained`; newer name `model_kwargs`.
        tokenizer_args: Passed to the tokenizer's `from_pretrained`; newer name `processor_kwargs`.
        config_args: Passed to the configuration's `from_pretrained`; newer name `config_kwargs`.
        cache_dir: Where downloaded files are kept; newer name `cache_folder`.
        trust_remote_code: Run Python code that comes with the model.
        revision: Branch, tag or commit of the repository.
        local_files_only: Use no network.
        default_activation_function: Makes scores of the head's raw scores; newer name `activation_fn`. None for
            what the model was saved with, else a sigmoid for one label and nothing for more.
        classifier_dropout: Dropout of the head while training, where the architecture has that setting.
        modules: The modules of the model, in place of a name.
        prompts: Texts to put in front of the first text of each pair, by name.
        default_prompt_name: Name of the prompt that is used when none is asked for.
        token: Access token of the hub.
        model_card_data: What the model card says.
        backend: What runs the transformer: "torch", "onnx" or "openvino"; the last two run a graph from the model's
            folder, or make one. `automodel_args` may then name it: `{"file_name": "model_O3.onnx"}`.
        keep_in_fp32_modules: Paths of linear layers, such as "0.model.classifier", that compute in float32 in a
            model of half precision; for a head, whose scores would be rounded. None for what the model was saved
            with.

    Raises:
        ModelNotFoundError: If the model is nowhere (a FileNotFoundError and a ValueError).
        ValueError: If `num_labels` is not what the checkpoint's head has, or the activation function that the
            model was saved with does not exist.

    Example:
        >>> from sentence_transformers import CrossEncoder
        >>> model = CrossEncoder("cross-encoder/ms-marco-MiniLM-L6-v2")  # doctest: +SKIP
        >>> model.predict([("How tall is it?", "It is 300 m tall."), ("How tall is it?", "It is red.")])  # doctest: +SKIP
        >>> model.rank("How tall is it?", ["It is red.", "It is 300 m tall."])  # doctest: +SKIP
    """

    model_type = "CrossEncoder"
    default_huggingface_organization = "cross-encoder"
    usual_prompts: Mapping[str, str] = {}
    input_unit = "pair"
    keep_in_fp32_modules: Sequence[str] = ()
    """Paths of the linear layers that compute in float32."""

    @accepts_older_names(
        model_name="model_name_or_path", model_kwargs="automodel_args", processor_kwargs="tokenizer_args",
        tokenizer_kwargs="tokenizer_args", config_kwargs="config_args", cache_folder="cache_dir",
        activation_fn="default_activation_function",
    )  # fmt: skip
    def __init__(
        self,
        model_name_or_path: str | None = None,
        num_labels: int | None = None,
        max_length: int | None = None,
        device: str | None = None,
        automodel_args: dict[str, Any] | None = None,
        tokenizer_args: dict[str, Any] | None = None,
        config_args: dict[str, Any] | None = None,
        cache_dir: str | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        local_files_only: bool = False,
        default_activation_function: Activation | None = None,
        classifier_dropout: float | None = None,
        *,
        modules: Iterable[nn.Module] | Mapping[str, nn.Module] | None = None,
        prompts: dict[str, str] | None = None,
        default_prompt_name: str | None = None,
        token: bool | str | None = None,
        model_card_data: CrossEncoderModelCardData | None = None,
        backend: str = "torch",
        keep_in_fp32_modules: list[str] | None = None,
    ) -> None:
        if num_labels is not None and (isinstance(num_labels, bool) or num_labels < 1):
            raise ValueError(
                f"num_labels={num_labels!r} gives no score. Pass 1 or more, or None for what the checkpoint has."
            )
        super().__init__(
            model_name_or_path,
            modules=modules,
            device=device,
            prompts=prompts,
            default_prompt_name=default_prompt_name,
            cache_folder=cache_dir,
            trust_remote_code=trust_remote_code,
            revision=revision,
            local_files_only=local_files_only,
            token=token,
            model_kwargs=automodel_args,
            processor_kwargs=tokenizer_args,
            config_kwargs={
                **(config_args or {}),
                **without_missing({"num_labels": num_labels, "classifier_dropout": classifier_dropout}),
            },
            model_card_data=model_card_data,
            backend=backend,
        )
        if keep_in_fp32_modules is None:
            # A graph has no layers, and its precision was chosen when it was made.
            keep_in_fp32_modules = (self._model_config.get(FLOAT32_KEY) or []) if backend == "torch" else []
        self.set_keep_in_fp32_modules(keep_in_fp32_modules)
        if max_length is not None:
            self.max_seq_length = max_length
        if default_activation_function is None:
            path = saved_path(self._model_config, self._held_config)
            if path is not None:
                default_activation_function = saved_activation(path, trust_remote_code=trust_remote_code)
        self.activation_fn = default_activation_function

    def _load(self, folder: Path, options: dict[str, Any]) -> LoadedModel:
        """Load a saved cross-encoder; of any other model take the transformer, with a head."""
        options = with_labels(folder, options)
        if has_modules(folder) and read_model_config(folder).get("model_type") != self.model_type:
            return LoadedModel(self._default_modules(folder, options))
        return super()._load(folder, options)

    def _default_modules(self, folder: Path, options: dict[str, Any]) -> OrderedDict[str, nn.Module]:
        if scores_by_logits(folder, options):
            return transformer_with_logit_score(folder, options)
        return transformer_with_head(folder, options)

    def _new_model_card_data(self) -> Any:
        from sentence_transformers.model_card.cross_encoder import CrossEncoderModelCardData

        return CrossEncoderModelCardData(local_files_only=self._local_files_only)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("activation_fn", "default_activation_function", "model"):
            # torch would take a module for a further part of the model, and not ask the property.
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    # -- what the model is made of -----------------------------------------------------------------------

    @property
    def model(self) -> Any:
        """The transformers model with its head."""
        return self.transformers_model

    @model.setter
    def model(self, value: nn.Module) -> None:
        self._first_module().auto_model = value

    @property
    def num_labels(self) -> int:
        """Scores of each pair."""
        for part in reversed(list(self)):
            if isinstance(part, LogitScore):
                return part.num_labels
            if isinstance(part, Dense) and part.module_output_name == "scores":
                return part.out_features
        return int(getattr(self._held_config, "num_labels", 1))

    def set_keep_in_fp32_modules(self, keep_in_fp32_modules: list[str]) -> None:
        """Choose the linear layers that compute in float32, while the model is in half precision.

        Args:
            keep_in_fp32_modules: Their paths, as `get_submodule` takes them; all others compute as usual. Empty
                for none.

        Raises:
            ValueError: If that is no list of paths, or one leads to anything but a plain `torch.nn.Linear`.
        """
        if not isinstance(keep_in_fp32_modules, (list, tuple)) or not all(
            isinstance(path, str) for path in keep_in_fp32_modules
        ):
            raise ValueError(
                f"keep_in_fp32_modules={keep_in_fp32_modules!r} is no list of paths. Pass a list such as "
                "['0.model.classifier']."
            )
        if keep_in_fp32_modules or self.keep_in_fp32_modules:
            compute_in_float32(self, keep_in_fp32_modules)
        self.keep_in_fp32_modules = list(keep_in_fp32_modules)

    @property
    def _held_config(self) -> Any:
        """The configuration, for whose sake no transformers model is made of one that was opened without."""
        held = getattr(self._first_module(), "held_config", None) if len(self) else None
        return self.config if held is None else held

    @property
    def max_length(self) -> int | None:
        """Tokens that are kept of each pair; older name of `max_seq_length`."""
        return self.max_seq_length

    @max_length.setter
    def max_length(self, value: int | None) -> None:
        self.max_seq_length = value

    @property
    def activation_fn(self) -> Activation:
        """Makes scores of raw scores (n, labels) where a call names no other; None sets the usual one."""
        return self._activation_fn

    @activation_fn.setter
    def activation_fn(self, value: Activation | None) -> None:
        self.__dict__["_activation_fn"] = self.get_default_activation_fn() if value is None else value

    @property
    def default_activation_function(self) -> Activation:
        """Older name of `activation_fn`."""
        return self.activation_fn

    @default_activation_function.setter
    def default_activation_function(self, value: Activation | None) -> None:
        self.activation_fn = value

    def get_default_activation_fn(self) -> nn.Module:
        """The usual function for this number of labels: a sigmoid for one, nothing for more."""
        return usual_activation(self.num_labels)

    def is_singular_input(self, inputs: Any) -> bool:
        """Whether this is one pair rather than a collection of pairs."""
        return is_one_pair(inputs)

    # -- scoring -----------------------------------------------------------------------------------------

    def predict(
        self,
        sentences: Any = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        show_progress_bar: bool | None = None,
        num_workers: int = 0,
        activation_fct: Activation | None = None,
        apply_softmax: bool | None = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        *,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        activation_fn: Activation | None = None,
        device: str | list[str] | None = None,
        pool: Pool | None = None,
        chunk_size: int | None = None,
        deterministic: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Score pairs of texts.

        Each distinct text is tokenised once, ahead of the model; pairs are ordered by their true length and
        computed in batches that hold a budget of tokens; equal pairs are computed once. The result is in the
        order of the pairs. May be called from several threads at once.

        Args:
            sentences: A list of pairs of texts, or one pair; a pair is a list or tuple. For a model whose
                `modalities` have "message" also conversations: lists of messages with `role` and `content`. Newer
                name `inputs`.
            batch_size: Pairs of a batch at most. Without it, batches are filled up to the token budget.
            show_progress_bar: Whether to show a bar that counts pairs; None shows it when the library's logger
                reports at INFO.
            num_workers: Has no effect; texts are always read ahead.
            activation_fct: Makes scores of the head's raw scores (n, labels), for this call; None for the
                model's `activation_fn`. Newer name `activation_fn`.
            apply_softmax: Turn the scores of several labels into probabilities.
            convert_to_numpy: Return one array; otherwise a list of tensors.
            convert_to_tensor: Return one tensor; wins over `convert_to_numpy`.
            inputs: Newer name of `sentences`.
            prompt_name: Name of the prompt to put in front of the first text of each pair.
            prompt: The prompt itself; wins over `prompt_name`. Empty for none.
            activation_fn: Newer name of `activation_fct`.
            device: Where to compute; a list of devices starts one process for each for this call.
            pool: Worker processes from `start_multi_process_pool`.
            chunk_size: Pairs that are sent to a worker at a time; None for a fitting number.
            deterministic: Give each pair the very same bits alone and in any batch; see `SentenceTransformer.encode`.
            **kwargs: Handed to those modules that want them.

        Returns:
            For n pairs an array or tensor (n,) with one label and (n, labels) with several, or a list of n tensors;
            for one pair the same without the first dimension.

        Raises:
            ValueError: If an argument makes no sense, or an input is no pair of texts.
            RuntimeError: If a worker process failed.
        """
        del num_workers
        if activation_fct is not None and activation_fn is not None:
            raise TypeError("activation_fct and activation_fn are the same argument. Pass one of them.")
        if sentences is not None or inputs is not None:
            inputs = given_inputs(sentences, inputs)
        self._check_kwargs(kwargs, "predict")
        options = EncodeOptions(
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            convert_to_numpy=convert_to_numpy and not convert_to_tensor,
            convert_to_tensor=convert_to_tensor,
            deterministic=deterministic,
        )
        pairs, single = read_pairs(inputs, takes_messages="message" in self.modalities)
        text_prompt = choose_prompt(
            self.prompts, default_prompt_name=self.default_prompt_name, prompt=prompt, prompt_name=prompt_name
        )
        as_asked = {"as_numpy": options.convert_to_numpy, "as_tensor": options.convert_to_tensor}
        if not pairs:
            return without_scores(**as_asked)
        if self._is_shared_work(pairs, pool, device):
            scores = self._scores_of_processes(pairs, options, text_prompt, pool, device, chunk_size, kwargs)
        else:
            scores = self._scores_here(pairs, options, text_prompt, device, kwargs)
        scores = activated(
            scores,
            activation_fn or activation_fct or self.activation_fn,
            apply_softmax=bool(apply_softmax),
            num_labels=self.num_labels,
            apart=deterministic,
        )
        return contained(scores, **as_asked, single=single)

    def _scores_here(
        self,
        pairs: Sequence[Pair],
        options: EncodeOptions,
        prompt: str | None,
        device: Any,
        kwargs: dict[str, Any],
    ) -> Tensor:
        """Raw scores (n, labels), computed in this process."""
        sink = TensorSink(len(pairs))
        self._compute_here(
            pairs,
            sink,
            finish=raw_scores,
            packed=True,
            prompt=prompt,
            device=device,
            max_rows=options.max_rows,
            shows_progress=wants_progress(options.show_progress_bar),
            module_kwargs={key: value for key, value in kwargs.items() if key in self.get_model_kwargs()},
            reading_kwargs={**kwargs, **without_missing({"logits_of_tokens": tokens_needed(list(self))})},
            deterministic=options.deterministic,
        )
        assert sink.tensor is not None
        return sink.tensor

    def _scores_of_processes(
        self,
        pairs: Sequence[Pair],
        options: EncodeOptions,
        prompt: str | None,
        pool: Pool | None,
        devices: Any,
        chunk_size: int | None,
        kwargs: dict[str, Any],
    ) -> Tensor:
        """Raw scores (n, labels), computed in worker processes. Activations need not be sent to those."""
        sink = TensorSink(len(pairs))
        self._compute_in_processes(
            pairs,
            sink,
            {
                "prompt": prompt,
                "batch_size": options.batch_size,
                "deterministic": options.deterministic,
                "kwargs": kwargs,
            },
            pool=pool,
            devices=devices,
            chunk_size=chunk_size,
            shows_progress=wants_progress(options.show_progress_bar),
        )
        assert sink.tensor is not None
        return sink.tensor

    def _encode_share(self, inputs: Sequence[Any], options: dict[str, Any]) -> Any:
        """Raw scores (n, labels) of what another process has sent, where the model is."""
        quiet = EncodeOptions(
            batch_size=options["batch_size"], show_progress_bar=False, deterministic=options["deterministic"]
        )
        return self._scores_here(inputs, quiet, options["prompt"], None, options["kwargs"]).cpu().numpy()

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        batch_size: int = DEFAULT_BATCH_SIZE,
        show_progress_bar: bool | None = None,
        num_workers: int = 0,
        activation_fct: Activation | None = None,
        apply_softmax: bool | None = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        activation_fn: Activation | None = None,
        device: str | list[str] | None = None,
        pool: Pool | None = None,
        chunk_size: int | None = None,
        deterministic: bool = False,
    ) -> list[dict[str, Any]]:
        """Order documents by how well they answer a query.

        Args:
            query: A text.
            documents: The texts to order.
            top_k: How many of the best to return; None for all.
            return_documents: Put the texts into the result.
            batch_size: As in `predict`.
            show_progress_bar: As in `predict`.
            num_workers: Has no effect.
            activation_fct: As in `predict`.
            apply_softmax: Has no effect on a single label.
            convert_to_numpy: Has no effect: scores come as plain numbers.
            convert_to_tensor: Has no effect either.
            prompt_name: Name of the prompt to put in front of the query.
            prompt: The prompt itself.
            activation_fn: As in `predict`.
            device: As in `predict`.
            pool: As in `predict`.
            chunk_size: As in `predict`.
            deterministic: As in `predict`.

        Returns:
            A dictionary for each document, the best first: its number `corpus_id`, its `score`, and its `text`
            if asked for. Documents with equal scores keep their order.

        Raises:
            ValueError: If the model gives several scores for a pair, or an argument makes no sense.
        """
        del num_workers, apply_softmax, convert_to_numpy, convert_to_tensor
        if self.num_labels != 1:
            raise ValueError(
                f"CrossEncoder.rank() orders by one score, and this model gives {self.num_labels} for each pair "
                "(num_labels). Use CrossEncoder.predict() with pairs instead."
            )
        if not isinstance(query, str):
            raise ValueError(
                f"query is {shown(query)}. Pass one text; for several queries call rank for each."
            )
        if documents is None or isinstance(documents, str):
            raise ValueError(f"documents is {shown(documents)}. Pass a list of texts.")
        if top_k is not None and top_k < 0:
            raise ValueError(f"top_k={top_k} is no number of documents. Pass 0 or more, or None for all.")
        texts = as_list(documents)
        scores = self.predict(
            [(query, text) for text in texts],
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            activation_fct=activation_fct,
            activation_fn=activation_fn,
            prompt_name=prompt_name,
            prompt=prompt,
            device=device,
            pool=pool,
            chunk_size=chunk_size,
            deterministic=deterministic,
        )
        return [
            {
                "corpus_id": number,
                "score": float(scores[number]),
                **({"text": texts[number]} if return_documents else {}),
            }
            for number in ranking(scores, top_k)
        ]

    # -- files -------------------------------------------------------------------------------------------

    def _config_to_save(self) -> dict[str, Any]:
        kept = {FLOAT32_KEY: list(self.keep_in_fp32_modules)} if self.keep_in_fp32_modules else {}
        return {
            **super()._config_to_save(),
            **without_missing({KEY: path_to_save(self.activation_fn)}),
            **kept,
        }

    def save(
        self,
        path: str,
        model_name: str | None = None,
        create_model_card: bool = True,
        train_datasets: list[str] | None = None,
        safe_serialization: bool = True,
    ) -> None:
        """Save the model into a folder that every release can load; arguments as in the base."""
        if self.config is not None:
            write_to_config(
                self.config, self.activation_fn, installed_versions().get("sentence_transformers")
            )
        super().save(path, model_name, create_model_card, train_datasets, safe_serialization)
