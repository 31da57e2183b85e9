"""What models of every kind are: a sequence of modules that is loaded, saved, moved and asked.

A kind (dense, sparse, …) adds what its embeddings are and how they compare. How a model is read stands in
`loading.py`, how it is saved and published in `files.py`, adapters in `adapters.py`, how many inputs are computed,
here or in other processes, in `computing.py`, and the loop over batches in `inference/`.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from typing_extensions import Self

from sentence_transformers.arguments import accepts_older_names
from sentence_transformers.backend.openmp import release_helpers
from sentence_transformers.backend.untouched import every_module, first_tensor, has_hooks
from sentence_transformers.encoder.adapters import PeftAdapterMixin
from sentence_transformers.encoder.computing import ComputingMixin
from sentence_transformers.encoder.files import FilesMixin
from sentence_transformers.encoder.loading import (
    LoadedModel,
    has_modules,
    load_model,
    read_model_config,
    without_missing,
)
from sentence_transformers.encoder.optimizing import OptimizingMixin
from sentence_transformers.encoder.quantizing import QuantizingMixin
from sentence_transformers.encoder.reading import accepted_by, overrides, overrides_rows, reads_as_rows
from sentence_transformers.inference.memory import TokenBudget
from sentence_transformers.inference.prompts import check_prompt_name
from sentence_transformers.inference.tokens import RawSource, RowSource, Source
from sentence_transformers.inputs.packing import PackedLayout
from sentence_transformers.inputs.tokens import is_token_ids
from sentence_transformers.modules.base import InputModule, RowInputModule
from sentence_transformers.storage.environment import get_device_name
from sentence_transformers.storage.hub import find_model
from sentence_transformers.tensors.padding import repad_flattened_features

logger = logging.getLogger(__name__)

_listing = threading.local()

BACKENDS = ("torch", "onnx", "openvino")


class BaseModel(
    nn.Sequential, ComputingMixin, FilesMixin, QuantizingMixin, OptimizingMixin, PeftAdapterMixin
):
    """A sequence of modules with prompts, that can be saved, loaded and encoded with.

    Args:
        model_name_or_path: A folder, or the name of a model: in the local cache, on the hub, or in an
            installed model package.
        modules: The modules, in place of a name.
        device: Where to put the model, such as "cpu" or "cuda:0"; None for the best there is.
        prompts: Texts to put in front of inputs, by name.
        default_prompt_name: Name of the prompt that is used when none is asked for.
        cache_folder: Where downloaded files are kept.
        trust_remote_code: Run Python code that comes with the model.
        revision: Branch, tag or commit of the repository.
        local_files_only: Use no network.
        token: Access token of the hub.
        model_kwargs: Passed to the transformers model's `from_pretrained` (`dtype`, `attn_implementation`, …).
        processor_kwargs: Passed to the tokenizer's `from_pretrained`.
        config_kwargs: Passed to the configuration's `from_pretrained`.
        model_card_data: What the model card says; None for what can be found out.
        backend: What runs the transformer: "torch", "onnx" or "openvino"; the last two run a graph from the model's
            folder, or make one. `model_kwargs` may then name it: `{"file_name": "model_O3.onnx"}`.

    Raises:
        ModelNotFoundError: If the model is nowhere (a FileNotFoundError and a ValueError).
        ValueError: If arguments contradict each other, or the saved model is damaged.
    """

    model_type: str = "BaseModel"
    default_huggingface_organization: str | None = None
    usual_prompts: Mapping[str, str] = MappingProxyType({"query": "", "document": ""})
    """Prompts every model of this kind has, to begin with."""

    @accepts_older_names(tokenizer_kwargs="processor_kwargs", use_auth_token="token")
    def __init__(
        self,
        model_name_or_path: str | None = None,
        *,
        modules: Iterable[nn.Module] | Mapping[str, nn.Module] | None = None,
        device: str | None = None,
        prompts: dict[str, str] | None = None,
        default_prompt_name: str | None = None,
        cache_folder: str | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        local_files_only: bool = False,
        token: bool | str | None = None,
        model_kwargs: dict[str, Any] | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        model_card_data: Any = None,
        backend: str = "torch",
    ) -> None:
        if backend not in BACKENDS:
            raise ValueError(f"Unsupported backend {backend!r}. Pass 'torch', 'onnx' or 'openvino'.")
        if modules is not None and model_name_or_path:
            raise ValueError(
                f"Both a model name ({model_name_or_path!r}) and modules are given, and the modules would be ignored. "
                "Pass one of them."
            )
        self.backend = backend
        self.trust_remote_code = trust_remote_code
        base_model: str | None = None
        if modules is not None:
            loaded = LoadedModel(as_ordered(modules))
        elif model_name_or_path:
            folder = find_model(
                str(model_name_or_path),
                organization=self.default_huggingface_organization,
                token=token,
                cache_folder=cache_folder,
                revision=revision,
                local_files_only=local_files_only,
            )
            options = without_missing(
                {
                    "trust_remote_code": trust_remote_code,
                    "local_files_only": local_files_only or None,
                    "token": token,
                    "cache_folder": cache_folder,
                    "revision": revision,
                    "model_kwargs": model_kwargs,
                    "processor_kwargs": processor_kwargs,
                    "config_kwargs": config_kwargs,
                    "backend": backend,
                }
            )
            loaded = self._load(folder, options)
            base_model = str(model_name_or_path)
        else:
            loaded = LoadedModel(OrderedDict())
        super().__init__(loaded.modules)
        self.module_kwargs = loaded.module_kwargs
        self._model_config = dict(loaded.config)
        self._model_card_data = model_card_data
        self._base_model_name = base_model
        self._revision = revision
        self._local_files_only = local_files_only

        saved_prompts = loaded.config.get("prompts") or {}
        self.prompts: dict[str, str] = {**self.usual_prompts, **saved_prompts, **(prompts or {})}
        self.default_prompt_name: str | None = default_prompt_name or loaded.config.get("default_prompt_name")
        if self.default_prompt_name is not None:
            check_prompt_name("Default prompt name", self.default_prompt_name, self.prompts)
            logger.warning(
                "The prompt %r is put in front of every text. Pass prompt='' to encode without it.",
                self.default_prompt_name,
            )
        self._target_device = torch.device(get_device_name() if device is None else device)
        self._budgets: dict[str, TokenBudget] = {}
        if not any(getattr(part, "hf_device_map", None) for part in every_module(self)):
            self.to(self._target_device)
        self.eval()
        for part in self:
            if hasattr(part, "on_model_ready"):
                part.on_model_ready(self)
        # Who loads a model often leaves it to other threads, as servers do.
        release_helpers()

    def _load(self, folder: Path, options: dict[str, Any]) -> LoadedModel:
        """Load a saved model, or make one from a plain checkpoint."""
        if has_modules(folder):
            return load_model(folder, options)
        if not (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file():
            raise FileNotFoundError(
                f"{folder} holds no model: there is neither a modules.json nor a config.json in it."
            )
        return LoadedModel(self._default_modules(folder, options), {}, read_model_config(folder))

    def _default_modules(self, folder: Path, options: dict[str, Any]) -> OrderedDict[str, nn.Module]:
        """The modules of a model of this kind made from a plain transformers checkpoint."""
        raise NotImplementedError

    # -- what the model is made of -----------------------------------------------------------------------

    def __getitem__(self, which: int | slice) -> Any:
        """One part; or, for a slice, several in a plain `torch.nn.Sequential`, since they need not be a model."""
        if isinstance(which, slice):
            return nn.Sequential(OrderedDict(list(self._modules.items())[which]))
        return super().__getitem__(which)

    def _first_module(self) -> Any:
        return next(iter(self._modules.values()))

    def _last_module(self) -> Any:
        return next(reversed(self._modules.values()))

    def named_modules(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Module]]:
        """All modules; see `torch.nn.Module`. Those of a transformer are its real ones from now on.

        A checkpoint that was opened without transformers has no dropout, activations or layers to be seen,
        which whoever goes through the modules may want to change.
        """
        if not getattr(_listing, "members", False):
            self.transformers_model  # noqa: B018  (makes it)
        return super().named_modules(*args, **kwargs)

    def _named_members(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, Any]]:
        # Parameters and buffers are the same either way, and are asked for all the time.
        members = super()._named_members(*args, **kwargs)
        _listing.members = True
        try:
            first = next(members, None)
        finally:
            _listing.members = False
        if first is not None:
            yield first
            yield from members

    def apply(self, fn: Callable[[nn.Module], None]) -> Self:
        """Call a function with every module; see `torch.nn.Module`."""
        self.transformers_model  # noqa: B018  (makes it, as in `named_modules`)
        return super().apply(fn)

    @property
    def transformers_model(self) -> Any:
        """The first transformers model among the modules, or None."""
        for part in every_module(self):
            if "auto_model" in part._modules:
                return part.auto_model
        return None

    @property
    def config(self) -> Any:
        """The transformers configuration, or None for a model without a transformer."""
        return getattr(self.transformers_model, "config", None)

    @config.setter
    def config(self, value: Any) -> None:
        if self.transformers_model is None:
            raise AttributeError("This model has no transformer whose configuration could be set.")
        self.transformers_model.config = value

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the first module."""
        return self._first_module().tokenizer

    @tokenizer.setter
    def tokenizer(self, value: Any) -> None:
        self._first_module().tokenizer = value

    @property
    def processor(self) -> Any:
        """What prepares inputs: the first module's processor, or else its tokenizer."""
        first = self._first_module()
        return getattr(first, "processor", None) or getattr(first, "tokenizer", None)

    @property
    def max_seq_length(self) -> int | None:
        """Tokens that are kept of each input; longer ones are cut. None for a model without that notion."""
        return self.get_max_seq_length()

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        self._first_module().max_seq_length = value

    def get_max_seq_length(self) -> int | None:
        """Tokens that are kept of each input, or None for a model without that notion."""
        return getattr(self._first_module(), "max_seq_length", None)

    @property
    def modalities(self) -> list[Any]:
        """Kinds of input the model takes, such as "text" and "image"."""
        return list(getattr(self._first_module(), "modalities", ["text"]))

    def supports(self, modality: Any) -> bool:
        """Whether the model takes a kind of input; a tuple asks for all of its kinds."""
        known = self.modalities
        if modality in known:
            return True
        return isinstance(modality, tuple) and all(one in known for one in modality)

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        tensor = first_tensor(self)
        return self._target_device if tensor is None else tensor.device

    @property
    def computes_no_padding(self) -> bool:
        """Whether rows of any length may share a batch at no cost; so while gradients are computed."""
        return bool(getattr(self._first_module(), "computes_no_padding", False))

    @property
    def dtype(self) -> torch.dtype | None:
        """Type of the model's weights, or None for a model without floating-point weights."""
        tensors = chain(self.parameters(), self.buffers())
        return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), None)

    def get_backend(self) -> str:
        """What runs the transformer: "torch", "onnx" or "openvino"."""
        return self.backend

    def get_model_kwargs(self) -> list[str]:
        """Names of further arguments that `encode` hands to single modules."""
        names: dict[str, None] = {}
        for name, part in self.named_children():
            names.update(dict.fromkeys(self.module_kwargs.get(name, [])))
            names.update(dict.fromkeys(sorted(getattr(part, "forward_kwargs", ()))))
        return list(names)

    @property
    def model_card_data(self) -> Any:
        """What the model card says; made when first asked for."""
        if self._model_card_data is None:
            self._model_card_data = self._new_model_card_data()
        # Asked for each time: a copied model has copied card data, which speak of no model yet.
        if hasattr(self._model_card_data, "register_model") and self._model_card_data.model is not self:
            self._model_card_data.register_model(self)
        return self._model_card_data

    @model_card_data.setter
    def model_card_data(self, value: Any) -> None:
        self._model_card_data = value

    def _new_model_card_data(self) -> Any:
        from sentence_transformers.model_card.data import BaseModelCardData

        return BaseModelCardData(local_files_only=self._local_files_only)

    # -- running -----------------------------------------------------------------------------------------

    def forward(self, input: Any, **kwargs: Any) -> Any:
        """Run features through all modules.

        Args:
            input: From `preprocess` or `tokenize`. (Or a function, which is called and its result returned: so a
                whole step of training runs inside what is wrapped around the model.)
            **kwargs: Handed to those modules that want them.

        Returns:
            The features with what the modules added, such as `token_embeddings` and `sentence_embedding`.
        """
        return input() if callable(input) else self._through(self.named_children(), input, **kwargs)

    def _through(
        self, parts: Iterable[tuple[str, nn.Module]], features: dict[str, Any], **kwargs: Any
    ) -> dict[str, Any]:
        """Run features through some of the modules, given with their names."""
        for name, part in parts:
            if PackedLayout.read(features) is not None and not getattr(part, "reads_packed", False):
                features = repad_flattened_features(features)
            wanted = {*self.module_kwargs.get(name, ()), *getattr(part, "forward_kwargs", ())}
            accepted = {key: value for key, value in kwargs.items() if key in wanted}
            features = part(features, **accepted)
        return features

    @property
    def _runs_plainly(self) -> bool:
        """Whether features go through the modules in turn, and nobody looks at the whole."""
        return type(self).forward is BaseModel.forward and not has_hooks(self, [self])

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Turn inputs into the features of one padded batch.

        Args:
            inputs: A list of inputs.
            prompt: Put in front of every text.
            **kwargs: Settings of the first module.
        """
        first = self._first_module()
        prepare = getattr(first, "preprocess", None)
        if prepare is None or (
            isinstance(first, InputModule) and overrides(type(first), "tokenize", "preprocess")
        ):
            prepare = first.tokenize
            if prompt:
                inputs = [prompt + item for item in inputs]
        elif prompt:
            kwargs["prompt"] = prompt
        return prepare(inputs, **accepted_by(prepare, kwargs))

    def tokenize(self, texts: list[Any], **kwargs: Any) -> dict[str, Any]:
        """Older name of `preprocess`."""
        first = self._first_module()
        if hasattr(first, "tokenize"):
            return first.tokenize(texts, **accepted_by(first.tokenize, kwargs))
        return first.preprocess(texts, **accepted_by(first.preprocess, kwargs))

    def is_singular_input(self, inputs: Any) -> bool:
        """Whether this is one input rather than a collection of inputs."""
        if isinstance(inputs, (str, dict)) or is_token_ids(inputs):
            return True
        return not hasattr(inputs, "__iter__") or hasattr(inputs, "get_format_mimetype")

    def _source(self, inputs: Sequence[Any], *, packed: bool, prompt: str | None, **kwargs: Any) -> Source:
        """How the engine reads these inputs: as rows if the first module makes rows of them."""
        first = self._first_module()
        if isinstance(first, RowInputModule) and not self._customises_inputs() and reads_as_rows(inputs[0]):
            sample = first.read_rows(inputs[:1], prompt=prompt, **kwargs)
            if sample is not None:
                packs = packed and first.can_pack
                read = (inputs[0], sample)
                return RowSource(
                    first, packed=packs, device=self.device, sample=read, prompt=prompt, **kwargs
                )
        return RawSource(lambda items: self.preprocess(items, prompt=prompt, **kwargs))

    def _customises_inputs(self) -> bool:
        """Whether a subclass, or a custom first module, prepares inputs its own way."""
        first = type(self._first_module())
        return (
            type(self).tokenize is not BaseModel.tokenize
            or type(self).preprocess is not BaseModel.preprocess
            or (not first.__module__.startswith("sentence_transformers.") and overrides_rows(first))
        )

    def _check_kwargs(self, kwargs: dict[str, Any], method: str) -> None:
        """Refuse arguments that no module of this model takes."""
        known = {*self.get_model_kwargs(), "task", "processing_kwargs"}
        unknown = [name for name in kwargs if name not in known]
        if unknown:
            extra = ", ".join(self.get_model_kwargs()) or "none"
            raise ValueError(
                f"{type(self).__name__}.{method}() got arguments it does not know: {', '.join(unknown)}. The modules of "
                f"this model take these beyond the documented ones: {extra}."
            )

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Trade time for memory in training; see the method of the same name in transformers.

        Args:
            activation_checkpointing_kwargs: Passed on to every transformers model inside.
            **kwargs: The same.
        """
        found = [self.transformers_model, *(getattr(module, "auto_model", None) for module in self.modules())]
        for inner in {id(model): model for model in found if model is not None}.values():
            # The newer name, of transformers 5.23; the older one warns there, and goes with release 6.
            enable = (
                getattr(inner, "activation_checkpointing_enable", None) or inner.gradient_checkpointing_enable
            )
            enable(activation_checkpointing_kwargs, **kwargs)

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Older name of `activation_checkpointing_enable`."""
        self.activation_checkpointing_enable(gradient_checkpointing_kwargs, **kwargs)

    compile = OptimizingMixin.compile  # in place of torch's, which would reach no batch of `encode` whole

    def clear_placement_cache(self) -> None:
        """Forget what was prepared for the place the model was in."""
        self._budgets.clear()

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move or convert the model; see `torch.nn.Module.to`."""
        return super().to(*args, **kwargs)

    def cpu(self) -> Self:
        """Move the model to the CPU."""
        return super().cpu()

    def cuda(self, device: int | torch.device | None = None) -> Self:
        """Move the model to a GPU."""
        return super().cuda(device)

    def evaluate(self, evaluator: Any, output_path: str | None = None) -> Any:
        """Run an evaluator on the model.

        Args:
            evaluator: Called with the model and the folder.
            output_path: Folder for its files; made if need be.

        Returns:
            What the evaluator returns: a number, or numbers by name.
        """
        if output_path is not None:
            Path(output_path).mkdir(parents=True, exist_ok=True)
        return evaluator(self, output_path)

    # -- several models ----------------------------------------------------------------------------------

    @classmethod
    def merge(
        cls,
        models: Sequence[str | Path | Self],
        method: str = "linear",
        *,
        base_model: str | Path | Self | None = None,
        parameters: dict[str, Any] | None = None,
        dtype: str | torch.dtype | None = torch.float32,
        out_dtype: str | torch.dtype | None = None,
        device: str | torch.device = "cpu",
        batch_options: Any = None,
        **load_kwargs: Any,
    ) -> Self:
        """Make one model out of the weights of several that were trained from the same one.

        Args:
            models: Two or more models: names, folders, or instances, which are left as they are.
            method: "linear", "slerp", "task_arithmetic", "ties", "dare_linear" or "dare_ties".
            base_model: The model that all were trained from; the last four methods need it, and do not count it
                where it is among `models`. With "slerp", which of the two models is at `t=0` (else the first).
            parameters: Of the method, by name; a value for all models, or a list with one for each, where
                "(each)" stands. "linear": `weight` (each, 1.0), `normalize` (True). "slerp": `t` (0.5). The others:
                `weight` (each, 1.0), `lambda` (1.0), `normalize` (True for "ties", else False); all of them but
                "task_arithmetic" `density` (each, 1.0); those with "dare" `rescale` (True) and `seed` (0).
            dtype: Type to compute in; None for the widest of the models' own.
            out_dtype: Type of the result's weights; None for the type they were computed in.
            device: Where to compute, and where the result is.
            batch_options: Options of the package mergekit, which is not used; only None is possible.
            **load_kwargs: Passed to the constructor for models that are loaded by their name.

        Returns:
            A copy of the first model, in evaluation mode, with merged weights; prompts and other settings, and
            buffers of integers, are the first model's. Its model card is a new one.

        Raises:
            ValueError: If the models differ in more than their weights, there is no such method, or an argument
                does not fit the method.
            TypeError: If the method has no such parameter, or an instance is of another class.

        Example:
            >>> merged = SentenceTransformer.merge([model, other], parameters={"weight": [0.6, 0.4]})  # doctest: +SKIP
        """
        from sentence_transformers.encoder.merging import merge_models

        return merge_models(
            cls,
            models,
            method,
            base_model=base_model,
            parameters=parameters,
            dtype=dtype,
            out_dtype=out_dtype,
            device=device,
            batch_options=batch_options,
            **load_kwargs,
        )

    @classmethod
    def _from_folder(cls, input_path: str) -> Self:
        return cls(input_path)


def as_ordered(modules: Iterable[nn.Module] | Mapping[str, nn.Module]) -> OrderedDict[str, nn.Module]:
    """Modules by name, in order; those that come without names are numbered.

    Raises:
        ValueError: If there are none, or one is not a torch module.
    """
    if isinstance(modules, Mapping):
        ordered = OrderedDict(modules)
    elif isinstance(modules, nn.Module) and not isinstance(modules, (nn.Sequential, nn.ModuleList)):
        raise ValueError(f"modules is a single {type(modules).__name__}. Pass a list: modules=[...].")
    else:
        ordered = OrderedDict((str(number), module) for number, module in enumerate(modules))
    if not ordered:
        raise ValueError("modules is empty: a model needs at least one module.")
    for name, module in ordered.items():
        if not isinstance(module, nn.Module):
            raise ValueError(f"Module {name} is {type(module).__name__}, which is not a torch.nn.Module.")
    return ordered
