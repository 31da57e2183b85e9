"""The transformer as the first part of a model.

Loads any text checkpoint that transformers can load, turns texts into rows of tokens, and runs the model
over them (`running.py`). What is known about single architectures stands in `architectures.py`, the text side
in `text.py` and `messages.py`, loading and saving a checkpoint in `checkpoint.py`.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from typing_extensions import Self

from sentence_transformers.arguments import accepts_older_names
from sentence_transformers.backend import attention, last_token
from sentence_transformers.backend.exported import ExportedModel
from sentence_transformers.backend.graph_files import FORMATS
from sentence_transformers.backend.lean import CLASSIFICATION, LeanModel, open_lean
from sentence_transformers.backend.lean import grown as grown_model
from sentence_transformers.inputs.routed import split_routes
from sentence_transformers.inputs.rows import TokenRows
from sentence_transformers.inputs.tokens import read_token_ids
from sentence_transformers.modules.base import RowInputModule, locate
from sentence_transformers.modules.transformer.architectures import (
    METHOD_OUTPUTS,
    TASK_CLASSES,
    TASK_OUTPUTS,
    embedding_width,
    position_offset,
)
from sentence_transformers.modules.transformer.checkpoint import (
    asks_for,
    load_tokenizer,
    load_transformer,
    save_transformer,
    set_saved_limit,
)
from sentence_transformers.modules.transformer.light_tokenizer import LightTokenizer, open_light
from sentence_transformers.modules.transformer.light_tokenizer import grown as grown_tokenizer
from sentence_transformers.modules.transformer.messages import (
    READING_TASKS,
    ChatTemplate,
    content_format,
    is_conversation,
)
from sentence_transformers.modules.transformer.running import RunsRows
from sentence_transformers.modules.transformer.settings import read_settings
from sentence_transformers.modules.transformer.text import (
    UNLIMITED,
    TextTokenizer,
    fingerprint,
    is_pair,
    packed_features,
    padded_features,
)
from sentence_transformers.storage.folder import write_json

logger = logging.getLogger(__name__)

_growing = threading.Lock()


class Transformer(RunsRows, RowInputModule):
    """A transformers model that gives an embedding for every token, scores for every row, or what follows a row.

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
        backend: What runs the model: "torch", or "onnx" or "openvino" for a graph in its folder, which is made if
            there is none. `model_args` may then have `file_name` and `subfolder` of the graph; `export=True` to
            make a new one; for ONNX Runtime `provider`, `provider_options` and `session_options`; for OpenVINO
            `ov_config` and `target_device`.
        transformer_task: Which head to load: "feature-extraction", "fill-mask", "sequence-classification",
            "text-generation".
        processing_kwargs: Settings for the tokenizer's call; kept with the model. `{"chat_template": {…}}` are
            arguments of `apply_chat_template`, such as `add_generation_prompt`.
        modality_config: How each kind of input runs through the model; kept with the model. With an entry
            "message", pairs are written out by the tokenizer's chat template; None has one for the tasks
            "text-generation" and "sequence-classification" if there is a template.
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
    _chat: ChatTemplate | None = None

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
        if backend not in ("torch", *FORMATS):
            raise ValueError(f"Unsupported backend {backend!r}. Pass 'torch', 'onnx' or 'openvino'.")
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
        self.auto_model = self._load_model(model_name_or_path, config_options, model_options)
        tokenizer_folder = Path(tokenizer_name_or_path or model_name_or_path)
        light = None
        if tokenizer_folder.is_dir() and not asks_for(tokenizer_options):
            light = open_light(tokenizer_folder)
        self.tokenizer = light or load_tokenizer(str(tokenizer_folder), tokenizer_options)
        content = content_format(self._tokenizer) if transformer_task in READING_TASKS else None
        if modality_config is None and content is not None:
            self.modality_config["message"] = {**self.modality_config["text"], "format": content}
        self.max_seq_length = max_seq_length if max_seq_length is not None else self._natural_limit()

    def _load_model(self, name: str, config_options: dict[str, Any], model_options: dict[str, Any]) -> Any:
        """The model as it will be held: a graph, a checkpoint opened without transformers, or transformers' model."""
        task = self.transformer_task
        if self.backend != "torch":
            from sentence_transformers.modules.transformer.exported import load_exported

            return load_exported(name, self.backend, task, config_options, model_options)
        is_plain = os.path.isdir(name) and not asks_for(config_options, model_options)
        lean = (
            open_lean(Path(name), task)
            if is_plain and task in ("feature-extraction", CLASSIFICATION)
            else None
        )
        return lean or load_transformer(name, task, config_options, model_options)

    # -- what the model is -------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name == "auto_model" and name in self.__dict__.get("_modules", {}):
            return self._transformers_model()
        return super().__getattr__(name)

    def _transformers_model(self) -> Any:
        """The transformers model; made now if the checkpoint was opened without transformers."""
        if isinstance(self._model, LeanModel):
            # Growing in the midst of `encode` must leave a model that can still be trained.
            with _growing, torch.inference_mode(False):
                if isinstance(self._model, LeanModel):
                    self._modules["auto_model"] = grown_model(self._model)
        elif isinstance(self._model, ExportedModel):
            with _growing:
                return self._model.with_real_config()
        return self._model

    @property
    def _model(self) -> Any:
        """The model as it is held: transformers', or a lean one."""
        return self._modules["auto_model"]

    @property
    def held_model(self) -> Any:
        """The model as it is held, in which layers may be replaced: `model` would make transformers' of a lean one."""
        return self._model

    @property
    def graph_source(self) -> str | None:
        """Where the model came from that stands here as a graph; None for one with weights."""
        return self._model.name_or_path if isinstance(self._model, ExportedModel) else None

    @property
    def model(self) -> Any:
        """The transformers model; newer name of `auto_model`."""
        return self.auto_model

    @property
    def config(self) -> Any:
        """The transformers configuration of the model."""
        return self.auto_model.config

    @property
    def held_config(self) -> Any:
        """The configuration as it is held: transformers', or plain values under the same names."""
        return self._model.config

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
    def held_tokenizer(self) -> Any:
        """The tokenizer as it is held, which knows what rows need: `tokenizer` would make transformers' of a light one."""
        return self._tokenizer

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

    @property
    def modalities(self) -> list[Any]:
        """Kinds of input: "text", and "message" for a model that writes conversations out."""
        return ["text", *(["message"] if self._chat_template() else [])]

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
        processing_kwargs: dict[str, Any] | None = None,
        logits_of_tokens: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> TokenRows:
        """Tokenise texts, pairs, single-entry dictionaries of texts, or take token ids as they are.

        Args:
            inputs: The inputs, all of one kind.
            prompt: Put in front of every text (of a pair, the first); what a chat template writes has it as the
                message of the system.
            task: "query" or "document" chooses the maximum length of that task, if the model has one.
            max_length: Tokens to keep of each input, instead of what the model's settings say.
            processing_kwargs: `{"text": {"max_length": n}, "chat_template": {…}}`, on top of the model's own.
            logits_of_tokens: Of a causal model, the tokens whose logits are enough.
            **kwargs: Ignored.
        """
        del kwargs
        given = ((processing_kwargs or {}).get("text") or {}).get("max_length")
        rows = read_token_ids(inputs)
        if rows is None:
            items, key = split_routes(inputs)
            limit = max_length or given or self._limit_of(task or key)
            rows = self._read_texts(items, prompt, limit, processing_kwargs)
            if key is not None and key not in self.modalities:
                rows.extras = {"task": key}  # for a Router further on
        else:
            check_known(rows.ids, self._model.config.vocab_size)
        if logits_of_tokens is not None and self.transformer_task == "text-generation":
            rows.extras = {**rows.extras, last_token.TOKENS_ASKED_FOR: list(logits_of_tokens)}
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

    def _chat_template(self, processing_kwargs: dict[str, Any] | None = None) -> ChatTemplate | None:
        """What writes pairs and conversations out; None where texts are read as they are."""
        if "message" not in self.modality_config or self.transformer_task not in READING_TASKS:
            return None
        tokenizer = self.tokenizer
        if not getattr(tokenizer, "chat_template", None):
            return None
        settings: dict[str, Any] = {}
        for kwargs in (self.processing_kwargs, processing_kwargs):
            settings.update((kwargs or {}).get("chat_template") or {})
        current = self._chat
        if current is None or not current.is_of(tokenizer, settings):
            kind = self.modality_config["message"].get("format", "flat")
            current = self._chat = ChatTemplate(tokenizer, kind, settings)
        return current

    def _read_texts(
        self,
        texts: list[Any],
        prompt: str | None,
        limit: int | None,
        processing_kwargs: dict[str, Any] | None,
    ) -> TokenRows:
        text = self.text_tokenizer(limit)
        if texts and (is_pair(texts[0]) or is_conversation(texts[0])):
            chat = self._chat_template(processing_kwargs)
            if chat is not None:
                return TokenRows(ids=chat.rows(text, texts, prompt))
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
                input, and a number that the length of the batch is a multiple of; and as in `read_rows`.
            **kwargs: As in `read_rows`.

        Returns:
            `input_ids`, `attention_mask` and what else the model reads, (B, T).
        """
        rows = self.read_rows(inputs, prompt=prompt, processing_kwargs=processing_kwargs, **kwargs)
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
        if isinstance(self._model, ExportedModel):
            self._model.save_pretrained(output_path)
        else:
            save_transformer(self.auto_model, output_path, safe_serialization)
        self.save_tokenizer(output_path)
        if self.transformer_task in READING_TASKS and self.max_seq_length is not None:
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
            backend: As in the constructor.
            init_defaults: Constructor arguments for those that the saved settings lack.
            **kwargs: Ignored.
        """
        del kwargs
        where = locate(model_name_or_path, subfolder, token, cache_folder, revision, local_files_only)
        settings = {**(init_defaults or {}), **read_settings(where)}
        hub_options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
        is_local = os.path.isdir(model_name_or_path)
        if not is_local or backend != "torch":  # a graph may still have to be downloaded
            hub_options.update(token=token, revision=revision, local_files_only=local_files_only)
            if subfolder and not is_local:
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
        return {**self.__dict__, "_text_by_limit": {}, "_chat": None}


def text_only(task: str) -> dict[str, Any]:
    """How text runs through a model for a task, as model folders state it."""
    return {
        "text": {"method": "forward", "method_output_name": METHOD_OUTPUTS.get(task, "last_hidden_state")}
    }


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
