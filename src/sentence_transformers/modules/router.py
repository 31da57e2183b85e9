"""Branches of a model: queries one way, documents another.

A Router holds several sequences of modules and sends each batch through one of them, chosen by the task,
the kind of input, or the key the inputs come with. It may be the first part of a model or stand later.
`Asym` is its older name, and a Router without newer settings is saved the way `Asym` was.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import nn
from typing_extensions import Self

from sentence_transformers.arguments import accepts_older_names
from sentence_transformers.inputs.routed import split_routes
from sentence_transformers.inputs.rows import TokenRows
from sentence_transformers.modules.base import RowInputModule, locate
from sentence_transformers.modules.parts import inside, load_part, save_code, save_part
from sentence_transformers.storage.folder import read_json, write_json
from sentence_transformers.storage.module_types import class_of, saved_type

Route = tuple[str | None, str | tuple[str, ...] | None]
"""A task and a kind of input, either of which may be None for any."""


class Router(RowInputModule):
    """Sends each batch through one of several sequences of modules.

    Args:
        sub_modules: The modules of each route, in order, by the route's name.
        default_route: Route for inputs that ask for none.
        allow_empty_key: Whether inputs may ask for no route. Without a default route such inputs pass a Router
            that stands later in the model unchanged, and are refused by one that comes first.
        route_mappings: Routes for pairs of a task and a kind of input; None stands for any of them. A task
            that is a route's own name needs no entry.

    Raises:
        ValueError: If there is no route, or a route that is named does not exist.
    """

    config_file_name: str = "router_config.json"
    config_keys: list[str] = ["default_route", "allow_empty_key", "route_mappings"]
    forward_kwargs: set[str] = {"task", "modality"}
    reads_packed: ClassVar[bool] = True

    def __init__(
        self,
        sub_modules: Mapping[str, Sequence[nn.Module] | nn.Module],
        default_route: str | bool | None = None,
        allow_empty_key: bool = True,
        route_mappings: Mapping[Route, str] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(default_route, bool):
            # Asym took allow_empty_key in this place.
            allow_empty_key = default_route
            default_route = None
        if not sub_modules:
            raise ValueError("A Router needs at least one route. Pass sub_modules={'query': [...], ...}.")
        self.sub_modules = nn.ModuleDict(
            {
                name: nn.Sequential(*([modules] if isinstance(modules, nn.Module) else modules))
                for name, modules in sub_modules.items()
            }
        )
        self.default_route = default_route
        self.allow_empty_key = allow_empty_key
        self.route_mappings: dict[Route, str] = dict(route_mappings or {})
        for place, route in (("default_route", default_route), *self.route_mappings.items()):
            if route is not None and route not in self.sub_modules:
                raise ValueError(
                    f"{place}: there is no route {route!r}. Routes: {', '.join(self.sub_modules)}."
                )

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing that only newer releases know, and that Asym's file cannot say."""
        return self.default_route is None and not self.route_mappings

    @property
    def save_in_root(self) -> bool:
        """Whether the part is saved into the model's own folder when it comes first; an Asym never was."""
        return not self.is_plain

    @property
    def saved_class_name(self) -> str:
        """Name to save the part under: the older one where that says everything."""
        return "Asym" if self.is_plain else "Router"

    @classmethod
    def for_query_document(
        cls,
        query_modules: list[nn.Module],
        document_modules: list[nn.Module],
        default_route: str | None = "document",
        allow_empty_key: bool = True,
    ) -> Self:
        """A Router with the routes "query" and "document"."""
        return cls(
            {"query": query_modules, "document": document_modules},
            default_route=default_route,
            allow_empty_key=allow_empty_key,
        )

    # -- choosing ----------------------------------------------------------------------------------------

    def route_for(self, task: str | None, modality: Any = None) -> str | None:
        """Name of the route for a task and a kind of input; None when they ask for none and may.

        Raises:
            ValueError: If there is no such route.
        """
        modality = tuple(modality) if isinstance(modality, list) else modality
        for route in ((task, modality), (task, None), (None, modality)):
            if route in self.route_mappings:
                return self.route_mappings[route]
        if task is not None:
            if task in self.sub_modules:
                return task
            raise ValueError(
                f"No route found for task type {task!r}. Available routes: {', '.join(self._known())}."
            )
        if self.default_route is not None:
            return str(self.default_route)
        if self.allow_empty_key:
            return None
        raise ValueError(
            f"Could not determine route for task={task!r}, modality={modality!r}. Available routes: "
            f"{', '.join(self._known())}. Pass task='…' to encode, or give the Router a default_route."
        )

    def _known(self) -> list[str]:
        return [f"task={name!r}" for name in self.sub_modules] + [
            f"(task={task!r}, modality={modality!r})" for task, modality in self.route_mappings
        ]

    def _first(self, task: str | None, modality: Any = None) -> Any:
        route = self.route_for(task, modality)
        if route is None:
            raise ValueError(
                f"Could not determine route for task={task!r}, modality={modality!r}. Available routes: "
                f"{', '.join(self._known())}. Pass task='…' to encode, or give the Router a default_route."
            )
        return self.sub_modules[route][0]

    # -- inputs ------------------------------------------------------------------------------------------

    def preprocess(
        self,
        inputs: Sequence[Any],
        prompt: str | None = None,
        task: str | None = None,
        modality: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Let the first module of the chosen route prepare the inputs.

        Args:
            inputs: Inputs, or single-entry dictionaries whose common key is the task.
            prompt: Put in front of every text.
            task: The task, where the inputs do not say.
            modality: The kind of input, for `route_mappings`; None for text.
            **kwargs: Passed to that module.
        """
        items, key = split_routes(inputs)
        task, modality = key or task, modality or "text"
        first = self._first(task, modality)
        prepare = first.preprocess if hasattr(first, "preprocess") else first.tokenize
        features = prepare(items, **({"prompt": prompt} if prompt else {}), **kwargs)
        features["task"], features["modality"] = task, modality
        return features

    def read_rows(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> TokenRows | None:
        """Rows of the chosen route's first module; None when that module makes none."""
        items, key = split_routes(inputs)
        task = key or kwargs.pop("task", None)
        modality = kwargs.pop("modality", None) or "text"
        first = self._first(task, modality)
        if not isinstance(first, RowInputModule):
            return None
        rows = first.read_rows(items, prompt=prompt, task=task, **kwargs)
        if rows is not None:
            rows.extras = {**rows.extras, "task": task, "modality": modality}
        return rows

    def collate_rows(self, rows: TokenRows, *, packed: bool) -> dict[str, Any]:
        """Batch of the module that made the rows."""
        first = self._first(rows.extras.get("task"), rows.extras.get("modality"))
        return first.collate_rows(rows, packed=packed)

    @property
    def can_pack(self) -> bool:
        """Whether every part of every route understands packed rows."""
        return all(
            all(getattr(module, "reads_packed", False) for module in modules)
            and bool(getattr(modules[0], "can_pack", False))
            for modules in self.sub_modules.values()
        )

    # -- the branch --------------------------------------------------------------------------------------

    def forward(
        self, features: dict[str, Any], task: str | None = None, modality: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Run the features through the chosen route."""
        route = self.route_for(task or features.get("task"), modality or features.get("modality"))
        if route is None:
            return features
        for module in self.sub_modules[route]:
            accepted = {key: kwargs[key] for key in kwargs if key in getattr(module, "forward_kwargs", ())}
            features = module(features, **accepted)
        return features

    # -- what it is --------------------------------------------------------------------------------------

    def get_sentence_embedding_dimension(self) -> int | None:
        """Width of the result, from the last module of the first route that says."""
        for modules in self.sub_modules.values():
            for module in reversed(modules):
                for name in ("get_embedding_dimension", "get_sentence_embedding_dimension"):
                    if hasattr(module, name):
                        return getattr(module, name)()
        return None

    get_embedding_dimension = get_sentence_embedding_dimension

    @property
    def tokenizer(self) -> Any:
        """Tokenizer of the default route, or of the first that has one."""
        order = sorted(self.sub_modules, key=lambda route: route != self.default_route)
        tokenizers = (getattr(self.sub_modules[route][0], "tokenizer", None) for route in order)
        return next((tokenizer for tokenizer in tokenizers if tokenizer is not None), None)

    @property
    def max_seq_length(self) -> int | None:
        """The largest maximum length of the routes; None if none has one."""
        limits = [getattr(modules[0], "max_seq_length", None) for modules in self.sub_modules.values()]
        return max((limit for limit in limits if limit is not None), default=None)

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        for modules in self.sub_modules.values():
            own = getattr(type(modules[0]), "max_seq_length", None)
            is_fixed = isinstance(own, property) and own.fset is None  # word vectors read any length
            if hasattr(modules[0], "max_seq_length") and not is_fixed:
                modules[0].max_seq_length = value

    def extra_repr(self) -> str:
        return f"default_route={self.default_route!r}, route_mappings={self.route_mappings!r}"

    # -- files -------------------------------------------------------------------------------------------

    def get_config_dict(self) -> dict[str, Any]:
        """The settings, with routes as text."""
        parameters: dict[str, Any] = {"allow_empty_key": self.allow_empty_key}
        if not self.is_plain:
            parameters["default_route"] = self.default_route
            parameters["route_mappings"] = {str(route): name for route, name in self.route_mappings.items()}
        return parameters

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write every module into a folder of its own, and a file that says which belongs to which route."""
        del args, kwargs
        types: dict[str, str] = {}
        structure: dict[str, list[str]] = {}
        saved: dict[nn.Module, str] = {}
        for route, modules in self.sub_modules.items():
            for number, module in enumerate(modules):
                if module not in saved:  # routes may share modules
                    folder = f"{route}_{number}_{type(module).__name__}"
                    target = Path(output_path) / folder
                    target.mkdir(parents=True, exist_ok=True)
                    save_part(module, target, safe_serialization=safe_serialization)
                    save_code(module, Path(output_path))
                    types[folder] = saved_type(module)
                    saved[module] = folder
            structure[route] = [saved[module] for module in modules]
        name = "config.json" if self.is_plain else self.config_file_name
        write_json(
            Path(output_path) / name,
            {"types": types, "structure": structure, "parameters": self.get_config_dict()},
        )

    @classmethod
    @accepts_older_names(input_path="model_name_or_path")
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        module_classes: Mapping[str, type] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load all routes; the older `config.json` of `Asym` is read too.

        Args:
            model_name_or_path: A local folder or the name of a repository.
            subfolder: Folder of this part inside the model.
            token: Access token of the hub.
            cache_folder: Where downloaded files are kept.
            revision: Branch, tag or commit of the repository.
            local_files_only: Use no network.
            module_classes: Classes to use for type strings, before the usual ones.
            **kwargs: Passed to the modules' `load`; `trust_remote_code` lets unknown types be loaded.
        """
        where = locate(model_name_or_path, subfolder, token, cache_folder, revision, local_files_only)
        path = cls.load_file_path(filename=cls.config_file_name, **where)
        path = path or cls.load_file_path(filename="config.json", **where)
        if path is None:
            raise ValueError(
                f"{model_name_or_path}: the Router in {subfolder or 'the root'!r} has no configuration."
            )
        config = read_json(path)
        if not isinstance(config, dict) or not {"types", "structure"} <= config.keys():
            raise ValueError(
                f"{path} does not say which modules belong to which route. Is the model folder damaged?"
            )
        folder = Path(path).parent
        trust = bool(kwargs.get("trust_remote_code", False))
        loaded: dict[str, nn.Module] = {}
        for name, type_name in config["types"].items():
            kind = (module_classes or {}).get(type_name) or class_of(
                type_name, folder=folder, trust_remote_code=trust
            )
            loaded[name] = load_part(kind, inside(folder, name), kwargs)
        parameters = dict(config.get("parameters") or {})
        mappings = {
            ast.literal_eval(key): value
            for key, value in (parameters.pop("route_mappings", None) or {}).items()
        }
        missing = {name for names in config["structure"].values() for name in names} - loaded.keys()
        if missing:
            raise ValueError(
                f"{path} has routes through {sorted(missing)}, but does not say of what type these are."
            )
        routes = {route: [loaded[name] for name in names] for route, names in config["structure"].items()}
        return cls(routes, **parameters, route_mappings=mappings)


Asym = Router
