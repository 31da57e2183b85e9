"""The transformer as the first part of a model.

Loads any text checkpoint that transformers can load, turns texts into rows of tokens, and runs the model
over them, packed without padding where the architecture allows it and padded otherwise. What is known
about single architectures stands in `architectures.py`, the text side in `text.py`.
"""

from __future__ import annotations

import inspect
import logging
import os
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from sentence_transformers.arguments import accepts_older_names
from sentence_transformers.backend import attention, heads, native
from sentence_transformers.backend.lean import LeanEncoder, open_lean
from sentence_transformers.backend.lean import grown as grown_model
from sentence_transformers.inputs.packing import PackedLayout
from sentence_transformers.inputs.routed import split_routes
from sentence_transformers.inputs.rows import TokenRows
from sentence_transformers.inputs.tokens import read_token_ids
from sentence_transformers.modules.base import RowInputModule, locate
from sentence_transformers.modules.transformer import unpadding
from sentence_transformers.modules.transformer.architectures import (
    ENCODERS_OF_PAIRS,
    METHOD_OUTPUTS,
    PACKABLE,
    TASK_CLASSES,
    TASK_OUTPUTS,
    embedding_width,
    position_offset,
)
from sentence_transformers.modules.transformer.light_tokenizer import LightTokenizer, open_light
from sentence_transformers.modules.transformer.light_tokenizer import grown as grown_tokenizer
from sentence_transformers.modules.transformer.settings import read_settings
from sentence_transformers.modules.transformer.text import (
    UNLIMITED,
    TextTokenizer,
    fingerprint,
    is_pair,
    packed_features,
    padded_features,
)
from sentence_transformers.storage.folder import read_json, write_json
from sentence_transformers.tensors.padding import repad_flattened_features

logger = logging.getLogger(__name__)

_growing = threading.Lock()


class Transformer(RowInputModule):
    """A transformers model that gives an embedding for every token, or scores for every row.

    Args:
        model_name_or_path: Folder or hub name of a transformers checkpoint.
        max_seq_length: Tokens to keep of each input, special tokens included. None for the smaller of the
            model's and the tokenizer's limit.
        model_args: Passed to the model's `from_pretrained`; newer name `model_kwargs`.
        tokenizer_args: Passed to the tokenizer's `from_pretrained`; newer name `processor_kwargs`.
        config_args: Passed to the configuration's `from_pretrained`; newer name `config_kwargs`.
        cache_dir: Where downloaded files are kept; newer name `cache_folder`.
        do_lower_case: Lower-case texts before tokenising.
        tokenizer_name_or_path: Where the tokenizer is, if not with the model.
        backend: Only "torch" so far.
        transformer_task: Which head to load: "feature-extraction", "fill-mask", "sequence-classification",
            "text-generation".
        processing_kwargs: Settings for the tokenizer's call; kept with the model.
        modality_config: How each kind of input runs through the model; kept with the model.
        module_output_name: Entry of the features the result goes to; None for the task's usual one.
        unpad_inputs: Compute rows without padding: None where that is known to be exact, False never.
        query_length: Tokens to keep of a query; None for `max_seq_length`.
        document_length: Tokens to keep of a document; None for `max_seq_length`.
        query_expansion: Settings of late-interaction models; kept with the model.
    """

    config_file_name: str = "sentence_bert_config.json"
    config_keys: list[str] = [
        "transformer_task",
        "modality_config",
        "module_output_name",
        "processing_kwargs",
        "unpad_inputs",
        "query_length",
        "document_length",
        "query_expansion",
    ]
    save_in_root: bool = True
    reads_packed: ClassVar[bool] = True
    _tokenizer: Any
    _text_by_limit: dict[int | None, TextTokenizer]

    @accepts_older_names(cache_folder="cache_dir")
    def __init__(
        self,
        model_name_or_path: str,
        max_seq_length: int | None = None,
        model_args: dict[str, Any] | None = None,
        tokenizer_args: dict[str, Any] | None = None,
        config_args: dict[str, Any] | None = None,
        cache_dir: str | None = None,
        do_lower_case: bool = False,
        tokenizer_name_or_path: str | None = None,
        backend: str = "torch",
        *,
        transformer_task: str = "feature-extraction",
        model_kwargs: dict[str, Any] | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        processing_kwargs: dict[str, Any] | None = None,
        modality_config: dict[str, Any] | None = None,
        module_output_name: str | None = None,
        unpad_inputs: bool | None = None,
        query_length: int | None = None,
        document_length: int | None = None,
        query_expansion: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if backend != "torch":
            raise ValueError(
                f"backend={backend!r} is not available in this release, which runs models with 'torch'. "
                "'onnx' and 'openvino' come with a later one."
            )
        if transformer_task not in TASK_CLASSES:
            raise ValueError(
                f"Unknown transformer_task {transformer_task!r}. Known: {', '.join(TASK_CLASSES)}."
            )
        self.backend = backend
        self.do_lower_case = do_lower_case
        self.transformer_task = transformer_task
        self.modality_config = modality_config or text_only(transformer_task)
        self.module_output_name = module_output_name or TASK_OUTPUTS.get(transformer_task, "token_embeddings")
        self.processing_kwargs = processing_kwargs
        self.unpad_inputs = unpad_inputs
        self.query_length = query_length
        self.document_length = document_length
        self.query_expansion = query_expansion

        location = {"cache_dir": cache_dir} if cache_dir else {}
        config_options = {**location, **(config_args or {}), **(config_kwargs or {})}
        model_options = {**location, **(model_args or {}), **(model_kwargs or {})}
        tokenizer_options = {**location, **(tokenizer_args or {}), **(processor_kwargs or {})}
        folder = Path(model_name_or_path)
        lean = None
        if (
            folder.is_dir()
            and transformer_task == "feature-extraction"
            and not asks_for(config_options, model_options)
        ):
            lean = open_lean(folder)
        self.auto_model = lean or load_transformer(
            model_name_or_path, transformer_task, config_options, model_options
        )
        tokenizer_folder = Path(tokenizer_name_or_path or model_name_or_path)
        light = None
        if tokenizer_folder.is_dir() and not asks_for(tokenizer_options):
            light = open_light(tokenizer_folder)
        self.tokenizer = light or load_tokenizer(str(tokenizer_folder), tokenizer_options)
        self.max_seq_length = max_seq_length if max_seq_length is not None else self._natural_limit()

    # -- what the model is -------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name == "auto_model" and name in self.__dict__.get("_modules", {}):
            return self._transformers_model()
        return super().__getattr__(name)

    def _transformers_model(self) -> Any:
        """The transformers model; made now if the checkpoint was opened without transformers."""
        if isinstance(self._model, LeanEncoder):
            # Growing in the midst of `encode` must leave a model that can still be trained.
            with _growing, torch.inference_mode(False):
                if isinstance(self._model, LeanEncoder):
                    self._modules["auto_model"] = grown_model(self._model)
        return self._model

    @property
    def _model(self) -> Any:
        """The model as it is held: transformers', or a lean one."""
        return self._modules["auto_model"]

    @property
    def config(self) -> Any:
        """The transformers configuration of the model."""
        return self.auto_model.config

    @property
    def processor(self) -> Any:
        """What prepares inputs: the tokenizer."""
        return self.tokenizer

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer. `encode` never changes it; a changed one is noticed."""
        if isinstance(self._tokenizer, LightTokenizer):
            with _growing:
                if isinstance(self._tokenizer, LightTokenizer):
                    self._tokenizer = grown_tokenizer(self._tokenizer)
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._text_by_limit = {}

    @property
    def max_seq_length(self) -> int | None:
        """Tokens that are kept of each input, special tokens included; None for no limit."""
        return self._max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        self._max_seq_length = value

    @property
    def _encoder(self) -> Any:
        """What gives token embeddings: the model, or what its head stands on."""
        return self._model if self.transformer_task == "feature-extraction" else self._model.base_model

    def get_word_embedding_dimension(self) -> int:
        """Width of each token's embedding."""
        return embedding_width(self._model.config)

    get_embedding_dimension = get_word_embedding_dimension

    def __repr__(self) -> str:
        settings = {
            "max_seq_length": self.max_seq_length,
            "do_lower_case": self.do_lower_case,
            "architecture": getattr(self._model, "class_name", type(self._model).__name__),
        }
        return f"{type(self).__name__}({settings})"

    def _natural_limit(self) -> int | None:
        """The smaller of the model's and the tokenizer's limit; None where neither has one."""
        limits = (
            getattr(self._model.config, "max_position_embeddings", None),
            self._tokenizer.model_max_length,
        )
        return min((limit for limit in limits if limit is not None and limit < UNLIMITED), default=None)

    # -- inputs into features ----------------------------------------------------------------------------

    def text_tokenizer(self, max_length: int | None = None) -> TextTokenizer:
        """The private tokenizer for a maximum length; made again when what it depends on has changed."""
        limit = self.max_seq_length if max_length is None else max_length
        current = self._text_by_limit.get(limit)
        wanted = fingerprint(self._tokenizer, limit, self.do_lower_case)
        if current is None or current.fingerprint != wanted:
            current = TextTokenizer(self._tokenizer, max_length=limit, lowercase=self.do_lower_case)
            self._text_by_limit[limit] = current
        return current

    def read_rows(
        self,
        inputs: Sequence[Any],
        prompt: str | None = None,
        task: str | None = None,
        max_length: int | None = None,
        **kwargs: Any,
    ) -> TokenRows:
        """Tokenise texts, pairs, single-entry dictionaries of texts, or take token ids as they are.

        Args:
            inputs: The inputs, all of one kind.
            prompt: Put in front of every text (of a pair, the first).
            task: "query" or "document" chooses the maximum length of that task, if the model has one.
            max_length: Tokens to keep of each input, instead of what the model's settings say.
            **kwargs: Ignored.
        """
        del kwargs
        rows = read_token_ids(inputs)
        if rows is None:
            items, key = split_routes(inputs)
            rows = self._read_texts(items, prompt, max_length or self._limit_of(task or key))
            if key is not None and key not in self.modalities:
                rows.extras = {"task": key}  # for a Router further on
        else:
            check_known(rows.ids, self._model.config.vocab_size)
        self._check_positions(max(rows.lengths, default=0))
        return rows

    def _limit_of(self, task: str | None) -> int | None:
        """Tokens to keep of the inputs of a task; None for `max_seq_length`."""
        of_task = {"query": self.query_length, "document": self.document_length}.get(task or "")
        return of_task or self._text_settings(None).get("max_length")

    def _text_settings(self, processing_kwargs: dict[str, Any] | None) -> dict[str, Any]:
        """Settings for texts: those kept with the model, and those of a call."""
        return {
            name: value
            for settings in (self.processing_kwargs, processing_kwargs)
            for name, value in ((settings or {}).get("text") or {}).items()
        }

    def _read_texts(self, texts: list[Any], prompt: str | None, limit: int | None) -> TokenRows:
        text = self.text_tokenizer(limit)
        if not prompt:
            return text.rows(texts)
        rows = text.rows([with_prompt(prompt, item) for item in texts])
        rows.prompt_length = text.count(prompt) - text.ends_with_special_token()
        return rows

    def _check_positions(self, longest: int) -> None:
        """Refuse rows that are longer than the model's table of positions, if it has one."""
        table = getattr(getattr(self._encoder, "embeddings", None), "position_embeddings", None)
        if not isinstance(table, nn.Embedding):
            return
        positions = len(table.weight) - position_offset(self._model.config)
        if longest > positions:
            raise ValueError(
                f"An input of {longest} tokens does not fit this model, which has {positions} positions. Lower "
                f"model.max_seq_length (it is {self.max_seq_length}), or pass fewer token ids."
            )

    def collate_rows(self, rows: TokenRows, *, packed: bool) -> dict[str, Any]:
        """Build the features of one batch: packed one after another, or padded to the longest."""
        if packed:
            return packed_features(rows, offset=position_offset(self._model.config))
        return padded_features(rows, self._tokenizer)

    @property
    def can_pack(self) -> bool:
        """Whether this model computes packed rows exactly as padded ones."""
        config = self._model.config
        return (
            self.unpad_inputs is not False
            and (self.transformer_task == "feature-extraction" or heads.serves(self._model))
            and not getattr(config, "output_hidden_states", False)
            and not getattr(config, "output_attentions", False)
            and not getattr(config, "is_decoder", False)
            and not native.has_hooks(self._model)  # those who look in expect rows, (B, T, D)
            and (self._adopts_packing or native.runs(self._encoder))
        )

    @property
    def computes_no_padding(self) -> bool:
        """Whether `forward` leaves padding out, so that rows of any length may share a batch at no cost."""
        # Asked of the model: a part that was just made calls itself in training.
        if not (self._model.training or torch.is_grad_enabled()):
            return False  # the engine packs rows itself, and other callers get what transformers gives
        # A layer that is computed again in the backward pass does not find the rows it was computed for.
        return (
            self.can_pack
            and self._adopts_packing
            and not (self._model.training and recomputes(self.auto_model))
        )

    @property
    def _adopts_packing(self) -> bool:
        """Whether transformers' own forward computes packed rows with our attention."""
        config = self._model.config
        return config.model_type in PACKABLE and config._attn_implementation in ("sdpa", attention.NAME)

    def preprocess(
        self,
        inputs: Sequence[Any],
        prompt: str | None = None,
        processing_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Turn texts (or pairs, or token ids) into one padded batch.

        Args:
            inputs: A list of inputs, all of one kind.
            prompt: Put in front of every text.
            processing_kwargs: `{"text": {"max_length": n, "pad_to_multiple_of": m}}`: tokens to keep of each
                input, and a number that the length of the batch is a multiple of; other entries are ignored.
            **kwargs: `task` chooses the maximum length of that task.

        Returns:
            `input_ids`, `attention_mask` and what else the model reads, (B, T).
        """
        given = ((processing_kwargs or {}).get("text") or {}).get("max_length")
        rows = self.read_rows(inputs, prompt=prompt, **({"max_length": given} if given else {}), **kwargs)
        multiple = self._text_settings(processing_kwargs).get("pad_to_multiple_of")
        pad_to = -(-max(rows.lengths, default=1) // multiple) * multiple if multiple else None
        return padded_features(rows, self._tokenizer, pad_to=pad_to)

    def tokenize(self, texts: list[Any], padding: str | bool = True, **kwargs: Any) -> dict[str, Any]:
        """Older name of `preprocess`.

        Args:
            texts: A list of inputs.
            padding: True pads to the longest input, "max_length" to the maximum length.
            **kwargs: As in `preprocess`.
        """
        rows = self.read_rows(texts, **kwargs)
        pad_to = self.max_seq_length if padding == "max_length" else None
        return padded_features(rows, self._tokenizer, pad_to=pad_to)

    # -- features into embeddings ------------------------------------------------------------------------

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add `token_embeddings` (B, T, D) to the features; packed features give (1, sum of T, D).

        With a head for sequence classification add `scores` (B, labels) instead, from padded and packed features.

        Args:
            features: From `preprocess` or `collate_rows`. With a true entry `output_hidden_states` they also
                get `all_layer_embeddings`, a list of (B, T, D): what the first layer is given, then what
                each layer makes of it. (An entry of the features reaches the routes of a `Router` too.)
            **kwargs: Passed to the transformers model.
        """
        layout = PackedLayout.read(features)
        if layout is not None:
            features[self.module_output_name] = self._forward_packed(features, layout, kwargs)[0]
            return features
        asks_for_layers = bool(features.get("output_hidden_states"))
        if asks_for_layers:
            kwargs = {**kwargs, "output_hidden_states": True}
        if self.computes_no_padding and unpadding.applies_to(features, kwargs):
            tokens, *layers = self._forward_without_padding(features, kwargs)
        else:
            tokens, *layers = self._forward_padded(features, kwargs)
        if asks_for_layers:
            forget_capturing(self.auto_model)
        features[self.module_output_name] = tokens
        if layers:
            features["all_layer_embeddings"] = layers
        return features

    def _forward_padded(self, features: dict[str, Any], kwargs: dict[str, Any]) -> list[Tensor]:
        """The result, and what is known of the layers, as transformers computes padded rows, (B, T, D)."""
        wanted = ("input_ids", "attention_mask", "token_type_ids", "inputs_embeds", "position_ids")
        names = [*self.tokenizer.model_input_names, *wanted]
        given = {name: features[name] for name in dict.fromkeys(names) if name in features}
        outputs = self.auto_model(**given, **without_cache(self.auto_model), **kwargs, return_dict=True)
        return [outputs[0], *(outputs.get("hidden_states") or ())]

    def _forward_without_padding(self, features: dict[str, Any], kwargs: dict[str, Any]) -> list[Tensor]:
        """The same of the tokens alone; what stands at padding afterwards is zero, (B, T, D)."""
        packed, layout, places = unpadding.pack(features, offset=position_offset(self._model.config))
        shape = features["input_ids"].shape
        if self.transformer_task == "feature-extraction":
            return [
                unpadding.spread(tokens[0], places, shape)
                for tokens in self._forward_packed(packed, layout, kwargs)
            ]
        if kwargs or 0 in layout.lengths:
            return self._forward_padded(features, kwargs)
        scores = self._forward_packed(packed, layout, kwargs)[0]
        rows = places[packed["cu_seq_lens_q"][:-1].long()] // shape[1]  # the row of each score, (B,)
        return [torch.empty_like(scores).index_copy(0, rows, scores)]

    def _forward_packed(
        self, features: dict[str, Any], layout: PackedLayout, kwargs: dict[str, Any]
    ) -> list[Tensor]:
        """The same of packed rows, (1, sum of T, D); of a model with a head the scores, (B, labels)."""
        if self.transformer_task != "feature-extraction":
            if 0 in layout.lengths:  # without a token there is nothing for the head to look at
                return [
                    self.forward(repad_flattened_features({**features}), **kwargs)[self.module_output_name]
                ]
        elif layout.total == 0:
            width = self.get_word_embedding_dimension()
            return [torch.zeros(1, 0, width, dtype=self._model.dtype, device=self._model.device)]
        given = {
            name: features[name]
            for name in ("input_ids", "position_ids", "token_type_ids")
            if name in features
        }
        if not kwargs:
            fast = native.forward_of(self._encoder)
            if fast is not None:
                return [self._after_head(fast(layout, **given), layout)]
        if not self._adopts_packing:
            padded = self.forward(repad_flattened_features({**features}), **kwargs)
            result = padded[self.module_output_name]
            if self.transformer_task != "feature-extraction":
                return [result]
            return [result[padded["attention_mask"].bool()][None]]
        if self.auto_model.config._attn_implementation != attention.NAME:
            attention.adopt(self.auto_model)
        encoder = self._encoder
        with attention.packed(layout):
            outputs = encoder(**given, **without_cache(encoder), **kwargs, return_dict=True)
        return [self._after_head(outputs[0], layout), *(outputs.get("hidden_states") or ())]

    def _after_head(self, tokens: Tensor, layout: PackedLayout) -> Tensor:
        """What the model makes of packed token embeddings (1, sum of T, D): nothing more, or scores (B, labels)."""
        if self.transformer_task == "feature-extraction":
            return tokens
        return heads.packed_scores(self.auto_model, tokens[0], layout)

    # -- files -------------------------------------------------------------------------------------------

    def get_config_dict(self) -> dict[str, Any]:
        """Settings to save: in the form every release reads, and 6.2's entries where they say more."""
        config: dict[str, Any] = {"max_seq_length": self.max_seq_length, "do_lower_case": self.do_lower_case}
        usual = {
            "transformer_task": "feature-extraction",
            "modality_config": text_only("feature-extraction"),
            "module_output_name": "token_embeddings",
        }
        for key in self.config_keys:
            value = getattr(self, key)
            if value is not None and value != usual.get(key):
                config[key] = value
        return config

    def save(self, output_path: str, safe_serialization: bool = True, *args: Any, **kwargs: Any) -> None:
        """Write the model, the tokenizer and the settings into a folder."""
        del args, kwargs
        save_transformer(self.auto_model, output_path, safe_serialization)
        self.save_tokenizer(output_path)
        if self.transformer_task == "sequence-classification" and self.max_seq_length is not None:
            # Where releases before 6 look for it, which read no settings of ours with such a model.
            set_saved_limit(Path(output_path) / "tokenizer_config.json", self.max_seq_length)
        write_json(Path(output_path) / "sentence_bert_config.json", self.get_config_dict())

    @classmethod
    @accepts_older_names(
        input_path="model_name_or_path", tokenizer_kwargs="processor_kwargs", model_args="model_kwargs",
        tokenizer_args="processor_kwargs", config_args="config_kwargs",
    )  # fmt: skip
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        trust_remote_code: bool = False,
        model_kwargs: dict[str, Any] | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        backend: str = "torch",
        init_defaults: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load the part from a folder or a hub repository.

        Args:
            model_name_or_path: A local folder or the name of a repository.
            subfolder: Folder of this part inside the model.
            token: Access token of the hub.
            cache_folder: Where downloaded files are kept.
            revision: Branch, tag or commit of the repository.
            local_files_only: Use no network.
            trust_remote_code: Run Python code that comes with the model.
            model_kwargs: Passed to the model's `from_pretrained`.
            processor_kwargs: Passed to the tokenizer's `from_pretrained`.
            config_kwargs: Passed to the configuration's `from_pretrained`.
            backend: Only "torch" so far.
            init_defaults: Constructor arguments for those that the saved settings lack.
            **kwargs: Ignored.
        """
        del kwargs
        where = locate(model_name_or_path, subfolder, token, cache_folder, revision, local_files_only)
        settings = {**(init_defaults or {}), **read_settings(where)}
        hub_options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
        if not os.path.isdir(model_name_or_path):
            hub_options.update(token=token, revision=revision, local_files_only=local_files_only)
            if subfolder:
                hub_options["subfolder"] = subfolder
        place = (
            os.path.join(model_name_or_path, subfolder)
            if os.path.isdir(model_name_or_path)
            else model_name_or_path
        )
        for key, given in (
            ("model_kwargs", model_kwargs),
            ("processor_kwargs", processor_kwargs),
            ("config_kwargs", config_kwargs),
        ):
            settings[key] = {**hub_options, **(settings.get(key) or {}), **(given or {})}
        return cls(place, cache_dir=cache_folder, backend=backend, **settings)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # A model that packed rows names our attention, which a new process has yet to register.
        if self._model.config._attn_implementation == attention.NAME:
            attention.register()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_text_by_limit": {}}


def text_only(task: str) -> dict[str, Any]:
    """How text runs through a model for a task, as model folders state it."""
    return {
        "text": {"method": "forward", "method_output_name": METHOD_OUTPUTS.get(task, "last_hidden_state")}
    }


def set_saved_limit(path: Path, max_length: int) -> None:
    """Write into a saved tokenizer's settings how many tokens it keeps."""
    if path.is_file():
        write_json(path, {**read_json(path), "model_max_length": max_length})


def with_prompt(prompt: str, item: Any) -> Any:
    """A text with the prompt in front; of a pair, its first text. What is neither stays, to be refused later."""
    if isinstance(item, str):
        return prompt + item
    if is_pair(item):
        return (prompt + item[0], item[1])
    return item


def check_known(rows: Sequence[Sequence[int]], vocabulary_size: int) -> None:
    """Refuse token ids from outside that the model has no embedding for."""
    filled = [row for row in rows if row]
    lowest, highest = min(map(min, filled), default=0), max(map(max, filled), default=0)
    if lowest < 0 or highest >= vocabulary_size:
        raise ValueError(
            f"The token id {lowest if lowest < 0 else highest} is unknown to this model, whose vocabulary has "
            f"{vocabulary_size} tokens. Take ids from the model's own tokenizer."
        )


def asks_for(*options: dict[str, Any]) -> list[str]:
    """Settings a caller passes on to transformers, less those that say nothing about a local checkpoint."""
    silent = {"cache_dir", "local_files_only", "token", "revision"}
    return [
        key
        for given in options
        for key, value in given.items()
        if key not in silent and not (key == "trust_remote_code" and not value)
    ]


def recomputes(model: Any) -> bool:
    """Whether layers are computed again in the backward pass, to save memory."""
    newer = getattr(model, "is_activation_checkpointing", None)  # transformers 5.23 warns about the other
    return bool(model.is_gradient_checkpointing if newer is None else newer)


def forget_capturing(model: nn.Module) -> None:
    """Take off what transformers hangs on a model, for good, to collect the output of its layers.

    Left there, a model can neither be pickled nor compute packed rows (see `can_pack`). It comes back with
    the next call that asks for layers; seen with transformers 5.23.
    """
    for part in native.every_module(model):
        capturing = [
            number
            for number, hook in part._forward_hooks.items()
            if getattr(hook, "__module__", None) == "transformers.utils.output_capturing"
        ]
        for number in capturing:
            del part._forward_hooks[number]
            part._forward_hooks_with_kwargs.pop(number, None)
            part._forward_hooks_always_called.pop(number, None)
        part.__dict__.pop("_output_capturing_hooks_installed", None)


@lru_cache(maxsize=64)
def keeps_keys(kind: Any) -> bool:
    """Whether models of a class keep keys and values for generating on, which embedding never does."""
    return "past_key_values" in inspect.signature(kind.forward).parameters


def without_cache(model: Any) -> dict[str, bool]:
    """The argument that keeps a decoder from storing keys and values."""
    kind: Any = type(model)
    return {"use_cache": False} if keeps_keys(kind) else {}


def load_transformer(
    name: str, task: str, config_options: dict[str, Any], model_options: dict[str, Any]
) -> nn.Module:
    """Load the transformers model for a task, in evaluation mode.

    Raises:
        ValueError: If the weights are damaged.
        OSError: If a file is missing; from transformers.
    """
    import transformers
    from safetensors import SafetensorError

    config = load_config(name, config_options)
    kind = TASK_CLASSES[task]
    if task == "feature-extraction":
        kind = ENCODERS_OF_PAIRS.get(config.model_type, kind)
    with quiet_progress():
        try:
            return getattr(transformers, kind).from_pretrained(name, config=config, **model_options).eval()
        except SafetensorError as error:
            raise ValueError(
                f"The weights in {name} are damaged or incomplete ({error}). Save or download the model again."
            ) from error


def load_config(name: str, options: dict[str, Any]) -> Any:
    """Load the transformers configuration; for a folder with only an adapter, that of its base model."""
    from transformers import AutoConfig

    folder = Path(name)
    if (
        folder.is_dir()
        and not (folder / "config.json").is_file()
        and (folder / "adapter_config.json").is_file()
    ):
        name = read_json(folder / "adapter_config.json")["base_model_name_or_path"]
    return AutoConfig.from_pretrained(name, **options)


def load_tokenizer(name: str, options: dict[str, Any]) -> Any:
    """Load the transformers tokenizer.

    Raises:
        ValueError: If its file is damaged.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, **options)
    except Exception:
        # Whatever transformers makes of a truncated file, its error names another cause.
        if (Path(name) / "tokenizer.json").is_file():
            read_json(Path(name) / "tokenizer.json")
        raise


def save_transformer(model: Any, folder: str, safe_serialization: bool) -> None:
    """Write a transformers model; transformers itself writes safetensors only."""
    config = model.config
    implementation = config._attn_implementation
    if implementation == attention.NAME:
        # Another reader has no attention of that name.
        model.set_attn_implementation("sdpa")
    try:
        with quiet_progress():
            model.save_pretrained(folder)
    finally:
        if implementation == attention.NAME:
            model.set_attn_implementation(implementation)
    if not safe_serialization:
        path = Path(folder)
        for stale in path.glob("model*.safetensors*"):
            stale.unlink()
        torch.save(model.state_dict(), path / "pytorch_model.bin")


class quiet_progress:
    """Silence the bar that transformers draws while it loads or saves weights."""

    def __enter__(self) -> None:
        from transformers.utils import logging as transformers_logging

        self._logging = transformers_logging
        self._was_enabled = transformers_logging.is_progress_bar_enabled()
        if self._was_enabled:
            transformers_logging.disable_progress_bar()

    def __exit__(self, *details: Any) -> None:
        if self._was_enabled:
            self._logging.enable_progress_bar()
