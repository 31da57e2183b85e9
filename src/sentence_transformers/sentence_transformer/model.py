"""The model with one dense vector for each input.

What differs from other kinds: how vectors are cut, scaled and stored, and how they compare. Loading and
saving stand in `encoder/`, the loop over batches in `inference/`.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from sentence_transformers.arguments import accepts_older_names
from sentence_transformers.backend.untouched import every_module
from sentence_transformers.encoder.base import BaseModel
from sentence_transformers.encoder.default_modules import transformer_with_mean_pooling
from sentence_transformers.inference.engine import wants_progress
from sentence_transformers.inference.options import (
    DEFAULT_BATCH_SIZE,
    NEEDS_RANGES,
    EncodeOptions,
    check_truncate_dim,
)
from sentence_transformers.inference.prompts import choose_prompt, prompt_name_of_task
from sentence_transformers.inference.sinks import ArraySink, ListSink, TensorSink
from sentence_transformers.inference.workers import Pool
from sentence_transformers.inputs.collections import as_list, given_inputs
from sentence_transformers.inputs.packing import FIRST_TOKENS_ONLY
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.sentence_transformer.first_tokens import first_tokens_suffice
from sentence_transformers.sentence_transformer.results import empty_result, finished
from sentence_transformers.sentence_transformer.to_disk import ToDiskMixin
from sentence_transformers.tensors.precision import quantize_embeddings
from sentence_transformers.tensors.similarity import SimilarityFunction
from sentence_transformers.training.fit import FitMixin

if TYPE_CHECKING:
    from sentence_transformers.model_card.sentence_transformer import SentenceTransformerModelCardData

logger = logging.getLogger(__name__)


class SentenceTransformer(BaseModel, FitMixin, ToDiskMixin):
    """Maps texts (or images) to vectors whose distances say how alike they are.

    Args:
        model_name_or_path: A folder, or the name of a model: in the local cache, on the hub, or in an
            installed model package. A plain transformers checkpoint gets mean pooling.
        modules: The modules of the model, in place of a name.
        device: Where to put the model, such as "cpu" or "cuda:0"; None for the best there is.
        prompts: Texts to put in front of inputs, by name.
        default_prompt_name: Name of the prompt that is used when none is asked for.
        similarity_fn_name: How vectors compare: "cosine", "dot", "euclidean" or "manhattan"; None for what the
            model was saved with, else "cosine".
        cache_folder: Where downloaded files are kept.
        trust_remote_code: Run Python code that comes with the model.
        revision: Branch, tag or commit of the repository.
        local_files_only: Use no network.
        token: Access token of the hub.
        use_auth_token: Older name of `token`.
        truncate_dim: Keep this many leading dimensions of each vector; None keeps all.
        model_kwargs: Passed to the transformers model's `from_pretrained` (`dtype`, `attn_implementation`, …).
        tokenizer_kwargs: Passed to the tokenizer's `from_pretrained`; newer name `processor_kwargs`.
        config_kwargs: Passed to the configuration's `from_pretrained`.
        model_card_data: What the model card says.
        backend: What runs the transformer: "torch", "onnx" or "openvino"; the last two run a graph from the model's
            folder, or make one. `model_kwargs` may then name it: `{"file_name": "model_O3.onnx"}`.

    Example:
        >>> from sentence_transformers import SentenceTransformer
        >>> model = SentenceTransformer("all-MiniLM-L6-v2")
        >>> embeddings = model.encode(["The weather is lovely today.", "It's so sunny outside!"])
        >>> embeddings.shape
        (2, 384)
        >>> similarities = model.similarity(embeddings, embeddings)
    """

    model_type = "SentenceTransformer"
    default_huggingface_organization = "sentence-transformers"
    SUPPORTED_SIMILARITY_FN_NAMES = ("cosine", "dot", "euclidean", "manhattan")

    @accepts_older_names(processor_kwargs="tokenizer_kwargs")
    def __init__(
        self,
        model_name_or_path: str | None = None,
        modules: Iterable[nn.Module] | None = None,
        device: str | None = None,
        prompts: dict[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: str | SimilarityFunction | None = None,
        cache_folder: str | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        local_files_only: bool = False,
        token: bool | str | None = None,
        use_auth_token: bool | str | None = None,
        truncate_dim: int | None = None,
        model_kwargs: dict[str, Any] | None = None,
        tokenizer_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        model_card_data: SentenceTransformerModelCardData | None = None,
        backend: str = "torch",
    ) -> None:
        check_truncate_dim(truncate_dim)
        if use_auth_token is not None:
            logger.warning("use_auth_token is the older name of token, and will go.")
            if token is not None:
                raise ValueError("token and use_auth_token are the same argument. Pass token alone.")
            token = use_auth_token
        super().__init__(
            model_name_or_path,
            modules=modules,
            device=device,
            prompts=prompts,
            default_prompt_name=default_prompt_name,
            cache_folder=cache_folder,
            trust_remote_code=trust_remote_code,
            revision=revision,
            local_files_only=local_files_only,
            token=token,
            model_kwargs=model_kwargs,
            processor_kwargs=tokenizer_kwargs,
            config_kwargs=config_kwargs,
            model_card_data=model_card_data,
            backend=backend,
        )
        saved = self._model_config
        self.truncate_dim: int | None = (
            truncate_dim if truncate_dim is not None else saved.get("truncate_dim")
        )
        self.similarity_fn_name = similarity_fn_name or saved.get("similarity_fn_name")

    def _default_modules(self, folder: Path, options: dict[str, Any]) -> OrderedDict[str, nn.Module]:
        logger.warning(
            "No sentence-transformers model found in %s. Creating a new one with mean pooling.", folder
        )
        return transformer_with_mean_pooling(folder, options)

    def _new_model_card_data(self) -> Any:
        from sentence_transformers.model_card.sentence_transformer import SentenceTransformerModelCardData

        return SentenceTransformerModelCardData(local_files_only=self._local_files_only)

    # -- encoding ----------------------------------------------------------------------------------------

    def encode(
        self,
        sentences: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        show_progress_bar: bool | None = None,
        output_value: str | None = "sentence_embedding",
        precision: str = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | list[str] | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: Pool | None = None,
        chunk_size: int | None = None,
        *,
        inputs: Any = None,
        deterministic: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Compute embeddings.

        Texts are tokenised once and ahead of the model, ordered by their true length, and computed in batches
        that hold a budget of tokens; equal texts are computed once. The result is in the order of the inputs.
        May be called from several threads at once.

        Args:
            sentences: A text, or any collection of texts; also pairs of texts, token ids in place of texts, or
                what else the model's first module takes. Newer name `inputs`.
            prompt_name: Name of the prompt to put in front of each text.
            prompt: The prompt itself; wins over `prompt_name`. Empty for none.
            batch_size: Inputs of a batch at most. Without it, batches are filled up to the token budget.
            show_progress_bar: Whether to show a bar that counts inputs; None shows it when the library's logger
                reports at INFO.
            output_value: "sentence_embedding"; "token_embeddings" for one tensor (tokens, D) for each input; None
                for dictionaries with everything.
            precision: "float32", "int8", "uint8", "binary" or "ubinary"; see `quantize_embeddings`.
            convert_to_numpy: Return one array; otherwise a list of tensors.
            convert_to_tensor: Return one tensor; wins over `convert_to_numpy`.
            device: Where to compute; a list of devices starts one process for each for this call.
            normalize_embeddings: Scale vectors to length one, after any truncation.
            truncate_dim: Keep this many leading dimensions; None for the model's own setting.
            pool: Worker processes from `start_multi_process_pool`.
            chunk_size: Inputs that are sent to a worker at a time; None for a fitting number.
            inputs: Newer name of `sentences`.
            deterministic: Give each input the very same bits alone and in any batch, in any order, whatever the
                `batch_size`, on this machine with this number of threads. (Otherwise the last digits may differ.)
                BERT, RoBERTa and their kin take some percent longer on a CPU; other models, and other devices,
                compute one input at a time.
            **kwargs: Handed to those modules that want them, such as `task` to a Router.

        Returns:
            For a collection of n inputs an array or tensor (n, D), or a list of n tensors; for one input the
            same without the first dimension.

        Raises:
            ValueError: If an argument or an input makes no sense.
            RuntimeError: If a worker process failed.
        """
        inputs = given_inputs(sentences, inputs)
        self._check_kwargs(kwargs, "encode")
        options = EncodeOptions(
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            output_value=output_value,
            precision=precision,
            convert_to_numpy=convert_to_numpy and not convert_to_tensor,
            convert_to_tensor=convert_to_tensor,
            normalize=normalize_embeddings,
            truncate_dim=truncate_dim if truncate_dim is not None else self.truncate_dim,
            deterministic=deterministic,
        )
        if deterministic and precision in NEEDS_RANGES:
            raise ValueError(
                f"precision={precision!r} takes its ranges from all texts of a call, so no text's codes are its own. "
                "With deterministic=True encode as float32, and call quantize_embeddings with ranges."
            )
        single = self.is_singular_input(inputs)
        items: Sequence[Any] = [inputs] if single else as_list(inputs)
        text_prompt = choose_prompt(
            self.prompts, default_prompt_name=self.default_prompt_name, prompt=prompt, prompt_name=prompt_name
        )
        if not len(items):
            return empty_result(options)
        if self._is_shared_work(items, pool, device):
            result = self._encode_in_processes(items, options, text_prompt, pool, device, chunk_size, kwargs)
        else:
            result = self._encode_here(items, options, text_prompt, device, kwargs)
        result = self._converted(result, options)
        return result[0] if single else result

    def encode_query(
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        show_progress_bar: bool | None = None,
        output_value: str | None = "sentence_embedding",
        precision: str = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | list[str] | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: Pool | None = None,
        chunk_size: int | None = None,
        *,
        sentences: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Compute embeddings of queries: with the prompt "query", if there is one, and the route "query".

        Arguments, result and errors are those of `encode`.
        """
        return self._encode_as(
            "query",
            given_inputs(inputs, sentences),
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            output_value=output_value,
            precision=precision,
            convert_to_numpy=convert_to_numpy,
            convert_to_tensor=convert_to_tensor,
            device=device,
            normalize_embeddings=normalize_embeddings,
            truncate_dim=truncate_dim,
            pool=pool,
            chunk_size=chunk_size,
            **kwargs,
        )

    def encode_document(
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        show_progress_bar: bool | None = None,
        output_value: str | None = "sentence_embedding",
        precision: str = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | list[str] | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: Pool | None = None,
        chunk_size: int | None = None,
        *,
        sentences: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Compute embeddings of documents: with the first of the prompts "document", "passage" and "corpus" that
        there is, and the route "document".

        Arguments, result and errors are those of `encode`.
        """
        return self._encode_as(
            "document",
            given_inputs(inputs, sentences),
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            output_value=output_value,
            precision=precision,
            convert_to_numpy=convert_to_numpy,
            convert_to_tensor=convert_to_tensor,
            device=device,
            normalize_embeddings=normalize_embeddings,
            truncate_dim=truncate_dim,
            pool=pool,
            chunk_size=chunk_size,
            **kwargs,
        )

    def _encode_as(self, task: str, inputs: Any, *, prompt_name: str | None, **kwargs: Any) -> Any:
        """Encode for a task, with the first of its prompts that is configured."""
        if prompt_name is None and kwargs.get("prompt") is None:
            prompt_name = prompt_name_of_task(self.prompts, task)
        return self.encode(inputs, prompt_name=prompt_name, **{"task": task, **kwargs})

    def _encode_here(
        self,
        items: Sequence[Any],
        options: EncodeOptions,
        prompt: str | None,
        device: Any,
        kwargs: dict[str, Any],
    ) -> Any:
        """Encode in this process; gives an array, a tensor or a list, not yet quantised."""
        vectors = options.output_value == "sentence_embedding"
        sink: ArraySink | TensorSink | ListSink
        if not vectors:
            sink = ListSink(len(items))
        elif options.convert_to_numpy or options.precision != "float32":
            sink = ArraySink(len(items))
        else:
            sink = TensorSink(len(items))
        module_kwargs = {key: value for key, value in kwargs.items() if key in self.get_model_kwargs()}
        self._compute_here(
            items,
            sink,
            finish=lambda outputs: finished(outputs, options),
            packed=options.output_value is not None,
            prompt=prompt,
            device=device,
            max_rows=options.max_rows,
            shows_progress=wants_progress(options.show_progress_bar),
            module_kwargs=module_kwargs,
            reading_kwargs=kwargs,
            notes={FIRST_TOKENS_ONLY: True} if vectors and first_tokens_suffice(list(self)) else {},
            deterministic=options.deterministic,
        )
        if isinstance(sink, ListSink):
            return sink.items
        return sink.array if isinstance(sink, ArraySink) else sink.tensor

    def _encode_in_processes(
        self,
        items: Sequence[Any],
        options: EncodeOptions,
        prompt: str | None,
        pool: Pool | None,
        devices: Any,
        chunk_size: int | None,
        kwargs: dict[str, Any],
    ) -> Any:
        """Encode in worker processes: of a pool, of a distributed run, or started and ended here."""
        vectors = options.output_value == "sentence_embedding"
        sink: ArraySink | ListSink = ArraySink(len(items)) if vectors else ListSink(len(items))

        work = {
            "prompt": prompt or "",
            "batch_size": options.max_rows,
            "output_value": options.output_value,
            "normalize_embeddings": options.normalize,
            "truncate_dim": options.truncate_dim,
            "deterministic": options.deterministic,
            **kwargs,
        }
        self._compute_in_processes(
            items,
            sink,
            work,
            pool=pool,
            devices=devices,
            chunk_size=chunk_size,
            shows_progress=wants_progress(options.show_progress_bar),
        )
        return self._collected(sink, options)

    @staticmethod
    def _collected(sink: ArraySink | ListSink, options: EncodeOptions) -> Any:
        """What a sink holds, in the container that the next steps want."""
        if isinstance(sink, ListSink):
            return sink.items
        if options.convert_to_numpy or options.precision != "float32":
            return sink.array
        return torch.from_numpy(sink.array)

    @staticmethod
    def _converted(result: Any, options: EncodeOptions) -> Any:
        """Quantise and bring into the container that was asked for."""
        if options.output_value != "sentence_embedding":
            return result
        if options.precision != "float32":
            result = quantize_embeddings(result, options.precision)  # type: ignore[arg-type]
            if not options.convert_to_numpy:
                result = torch.from_numpy(result)
        if not options.convert_to_numpy and not options.convert_to_tensor:
            return list(result)
        return result

    # -- several processes -------------------------------------------------------------------------------

    def encode_multi_process(
        self,
        sentences: list[str] | None = None,
        pool: Pool | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        chunk_size: int | None = None,
        show_progress_bar: bool | None = None,
        precision: str = "float32",
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        *,
        inputs: Any = None,
    ) -> np.ndarray:
        """Compute embeddings in worker processes; `encode(…, pool=pool)` does the same.

        Args:
            sentences: Texts; newer name `inputs`.
            pool: From `start_multi_process_pool`.
            prompt_name: As in `encode`.
            prompt: As in `encode`.
            batch_size: As in `encode`.
            chunk_size: As in `encode`.
            show_progress_bar: As in `encode`.
            precision: As in `encode`.
            normalize_embeddings: As in `encode`.
            truncate_dim: As in `encode`.
            inputs: Newer name of `sentences`.

        Returns:
            An array (n, D).
        """
        if pool is None:
            raise ValueError(
                "encode_multi_process needs a pool. Start one with model.start_multi_process_pool()."
            )
        return self.encode(
            given_inputs(sentences, inputs),
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            precision=precision,
            normalize_embeddings=normalize_embeddings,
            truncate_dim=truncate_dim,
            pool=pool,
            chunk_size=chunk_size,
        )

    def _encode_share(self, inputs: Sequence[Any], options: dict[str, Any]) -> Any:
        """Encode what another process has sent, where the model is."""
        given = {key: value for key, value in options.items() if not (key == "batch_size" and value is None)}
        if given.pop("is_window", False):
            return self._encode_window(inputs, given)
        return self.encode(inputs, device=str(self.device), show_progress_bar=False, **given)

    @staticmethod
    def _encode_multi_process_worker(*args: Any) -> None:
        """Target of a worker process that others start themselves, with queues of their own.

        Called with (number,) device, model, and two queues. Takes `[number, batch_size, texts]`, behind which the
        prompt's name, the prompt, the precision and whether to normalise may stand, and gives
        `[number, embeddings]`: what releases 2 and 3 took and gave.
        """
        device, model, inputs, outputs = args[-4:]
        names = ("prompt_name", "prompt", "precision", "normalize_embeddings")
        while True:
            number, batch_size, texts, *further = inputs.get()
            options = {"device": device, "batch_size": batch_size, **dict(zip(names, further))}
            outputs.put([number, model.encode(texts, show_progress_bar=False, **options)])

    # -- comparing ---------------------------------------------------------------------------------------

    @property
    def similarity_fn_name(self) -> str:
        """How vectors compare: "cosine" (also if nothing was set), "dot", "euclidean" or "manhattan"."""
        if self._similarity_fn_name is None:
            self.similarity_fn_name = SimilarityFunction.COSINE
        return self._similarity_fn_name  # type: ignore[return-value]

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: str | SimilarityFunction | None) -> None:
        name = value.value if isinstance(value, SimilarityFunction) else value
        if name is not None and name not in self.SUPPORTED_SIMILARITY_FN_NAMES:
            raise ValueError(
                f"similarity_fn_name={name!r} does not compare single vectors. Pass one of "
                f"{', '.join(map(repr, self.SUPPORTED_SIMILARITY_FN_NAMES))}."
            )
        self._similarity_fn_name: str | None = name
        if name is not None:
            self._similarity = SimilarityFunction.to_similarity_fn(name)
            self._similarity_pairwise = SimilarityFunction.to_similarity_pairwise_fn(name)

    @property
    def similarity(self) -> Callable[..., Tensor]:
        """Function that compares all of one collection with all of another: (n, D), (m, D) -> (n, m)."""
        _ = self.similarity_fn_name
        return self._similarity

    @property
    def similarity_pairwise(self) -> Callable[..., Tensor]:
        """Function that compares two collections row by row: (n, D), (n, D) -> (n,)."""
        _ = self.similarity_fn_name
        return self._similarity_pairwise

    # -- width -------------------------------------------------------------------------------------------

    def get_sentence_embedding_dimension(self) -> int | None:
        """Width of the vectors, as far as it is known; after truncation, if there is one."""
        width = None
        for part in reversed(self._modules.values()):
            for name in ("get_embedding_dimension", "get_sentence_embedding_dimension"):
                if width is None and hasattr(part, name):
                    width = getattr(part, name)()
            if width is not None:
                break
        if self.truncate_dim is not None:
            return self.truncate_dim if width is None else min(width, self.truncate_dim)
        return width

    def get_embedding_dimension(self) -> int | None:
        """Width of the vectors; newer name of `get_sentence_embedding_dimension`."""
        return self.get_sentence_embedding_dimension()

    @contextmanager
    def truncate_sentence_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """Within the block, `encode` keeps this many leading dimensions; None keeps all."""
        check_truncate_dim(truncate_dim)
        before = self.truncate_dim
        self.truncate_dim = truncate_dim
        try:
            yield
        finally:
            self.truncate_dim = before

    def truncate_embeddings(self, truncate_dim: int | None) -> Any:
        """Newer name of `truncate_sentence_embeddings`."""
        return self.truncate_sentence_embeddings(truncate_dim)

    def set_pooling_include_prompt(self, include_prompt: bool) -> None:
        """Say whether the tokens of a prompt count in the pooling."""
        for part in every_module(self):
            if isinstance(part, Pooling):
                part.include_prompt = include_prompt

    def get_sentence_features(self, *features: Any) -> Any:
        """Ask the first module for the features of tokenised texts (models with word embeddings)."""
        return self._first_module().get_sentence_features(*features)

    # -- files -------------------------------------------------------------------------------------------

    def _config_to_save(self) -> dict[str, Any]:
        config = {**super()._config_to_save(), "similarity_fn_name": self.similarity_fn_name}
        if self.truncate_dim is not None:
            config["truncate_dim"] = self.truncate_dim
        return config

    @staticmethod
    def load(input_path: str) -> SentenceTransformer:
        """Load a model from a folder; the constructor does the same."""
        return SentenceTransformer(input_path)
