"""What a caller asks a cluster for, checked here, before anything is sent anywhere.

The model is looked up, its prompt chosen, and numbers are tried; what an actor then finds wrong can only be in the
inputs. Nothing here runs anything.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from sentence_transformers.encoder.loading import read_model_config
from sentence_transformers.inference.options import NEEDS_RANGES, EncodeOptions
from sentence_transformers.inference.prompts import TASK_PROMPTS, choose_prompt, prompt_name_of_task
from sentence_transformers.inference.workers import Parcel
from sentence_transformers.on_ray.actors import KINDS, Task
from sentence_transformers.storage.hub import find_model


@dataclass(frozen=True, kw_only=True)
class Room:
    """What each actor takes up on its machine.

    `num_cpus` None is one core, or beside a GPU what Ray gives; `ray_options` are further options of Ray's
    actors.
    """

    num_cpus: float | None = None
    num_gpus: float = 0
    ray_options: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name, value in (("num_cpus", self.num_cpus), ("num_gpus", self.num_gpus)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, Real) or value < 0):
                raise ValueError(f"{name}={value!r} is no share of a machine. Pass 0 or more.")

    @property
    def device(self) -> str:
        """Where a model goes; Ray shows an actor none but its own GPUs."""
        return "cuda" if self.num_gpus else "cpu"

    @property
    def cpus(self) -> float | None:
        """Cores to ask Ray for."""
        return 1 if self.num_cpus is None and not self.num_gpus else self.num_cpus

    @property
    def threads(self) -> int | None:
        """Threads to compute with on the CPU."""
        return max(1, int(self.cpus or 1)) if self.device == "cpu" else None

    def as_options(self) -> dict[str, Any]:
        """Options of Ray's actors."""
        asked = {"num_cpus": self.cpus, "num_gpus": self.num_gpus or None}
        return {
            **{name: value for name, value in asked.items() if value is not None},
            **(self.ray_options or {}),
        }


def check_installed() -> None:
    """Raise `ImportError` with what to install, unless Ray is there."""
    if importlib.util.find_spec("ray") is None:
        raise ImportError(
            "Encoding on a cluster needs the package ray, which is not installed: "
            "pip install 'sentence-transformers[ray]'"
        )


def check_count(name: str, value: Any) -> None:
    """Raise `ValueError` unless a number of things is 1 or more."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name}={value!r} is no number to work with. Pass 1 or more.")


def encoding_task(
    model: Any,
    *,
    room: Room,
    model_options: Mapping[str, Any] | None,
    task: str | None,
    prompt_name: str | None,
    prompt: str | None,
    batch_size: int,
    precision: str,
    ranges: Any,
    normalize_embeddings: bool,
    truncate_dim: int | None,
    deterministic: bool,
) -> Task:
    """The task of computing vectors; arguments as in `encode_dataset`."""
    check_installed()
    options = EncodeOptions(
        batch_size=batch_size,
        precision=precision,
        normalize=normalize_embeddings,
        truncate_dim=truncate_dim,
        deterministic=deterministic,
    )
    if ranges is not None and precision not in NEEDS_RANGES:
        raise ValueError(f"ranges belong to the precisions int8 and uint8, not to {precision!r}.")
    prompts, default_prompt_name, found = looked_up(model, "encode", model_options)
    if prompt is None and prompt_name is None and task is not None and task in TASK_PROMPTS:
        prompt_name = prompt_name_of_task(prompts, task)
    text = choose_prompt(
        prompts, default_prompt_name=default_prompt_name, prompt=prompt, prompt_name=prompt_name
    )
    return Task(
        method="encode",
        model=sent(found),
        model_options=dict(model_options or {}),
        device=room.device,
        threads=room.threads,
        options={
            "prompt": text or "",
            "batch_size": options.batch_size,
            "normalize_embeddings": options.normalize,
            "truncate_dim": options.truncate_dim,
            "deterministic": options.deterministic,
            **({"task": task} if task is not None else {}),
        },
        precision=precision,
        ranges=None if ranges is None else np.asarray(ranges),
    )


def scoring_task(
    model: Any,
    *,
    room: Room,
    model_options: Mapping[str, Any] | None,
    prompt_name: str | None,
    prompt: str | None,
    batch_size: int,
    activation_fn: Any,
    apply_softmax: bool,
    deterministic: bool,
) -> Task:
    """The task of scoring pairs; arguments as in `predict_dataset`."""
    check_installed()
    options = EncodeOptions(batch_size=batch_size, deterministic=deterministic)
    prompts, default_prompt_name, found = looked_up(model, "predict", model_options)
    text = choose_prompt(
        prompts, default_prompt_name=default_prompt_name, prompt=prompt, prompt_name=prompt_name
    )
    return Task(
        method="predict",
        model=sent(found),
        model_options=dict(model_options or {}),
        device=room.device,
        threads=room.threads,
        options={
            "prompt": text or "",
            "batch_size": options.batch_size,
            "activation_fn": activation_fn,
            "apply_softmax": apply_softmax,
            "deterministic": options.deterministic,
        },
    )


def looked_up(
    model: Any, method: str, options: Mapping[str, Any] | None
) -> tuple[dict[str, str], str | None, Any]:
    """The prompts of a model, the name of its default one, and the model or under which name actors find it."""
    kind = KINDS[method]
    if isinstance(model, kind):
        if options:
            raise ValueError(
                "model_options are for loading a model by its name, and this one is loaded already. Leave them out."
            )
        return model.prompts, model.default_prompt_name, model
    if isinstance(model, (*KINDS.values(),)):
        raise wrong_kind(f"This is a {type(model).__name__}", method)
    if not isinstance(model, (str, os.PathLike)):
        raise ValueError(
            f"{type(model).__name__} is no model. Pass the name of one, a folder, or a {kind.__name__}."
        )
    options = dict(options or {})
    if "device" in options:
        raise ValueError("Where actors put the model is told by num_gpus. Leave device out of model_options.")
    folder = find_model(
        str(model),
        organization=kind.default_huggingface_organization,
        token=options.get("token"),
        cache_folder=options.get("cache_folder") or options.get("cache_dir"),
        revision=options.get("revision"),
        local_files_only=options.get("local_files_only", False),
    )
    if not any((folder / name).is_file() for name in ("modules.json", "config.json", "adapter_config.json")):
        raise FileNotFoundError(
            f"{folder} holds no model: there is neither a modules.json nor a config.json in it."
        )
    config = read_model_config(folder)
    saved_as = config.get("model_type")
    if saved_as in {other.model_type for other in KINDS.values()} - {kind.model_type}:
        raise wrong_kind(f"{model} is a {saved_as}", method)
    prompts = {**kind.usual_prompts, **(config.get("prompts") or {}), **(options.get("prompts") or {})}
    default = options.get("default_prompt_name") or config.get("default_prompt_name")
    # An actor has a working folder of its own.
    local = Path(os.path.expanduser(model))
    return prompts, default, str(local.absolute()) if local.is_dir() else str(model)


def wrong_kind(what: str, method: str) -> ValueError:
    """An error that names the function for the other kind of model."""
    other = next(name for name in KINDS if name != method)
    return ValueError(
        f"{what}, which has no method {method}. For these there are {other} and {other}_dataset in "
        "sentence_transformers.on_ray."
    )


def sent(model: Any) -> Any:
    """A model as actors get it: by name, or once in the cluster's memory, for all of them."""
    if isinstance(model, str):
        return model
    import ray

    return ray.put(Parcel(model))
