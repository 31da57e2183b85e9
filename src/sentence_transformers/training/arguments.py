"""Arguments of a training run: those of transformers, and what embeddings need beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from enum import Enum
from typing import Any, Union

from transformers import TrainingArguments

from sentence_transformers.training.batch_samplers import BatchSamplers, DefaultBatchSampler
from sentence_transformers.training.dataset_samplers import (
    MultiDatasetBatchSamplers,
    MultiDatasetDefaultBatchSampler,
)


# Annotations are read by transformers' command-line parser, which knows no `X | Y` on Python 3.10, and which
# takes the first of several types only where None is the second.
@dataclass
class BaseTrainingArguments(TrainingArguments):
    """Arguments of a training run; the others are those of `transformers.TrainingArguments`.

    Args:
        prompts: Put in front of the inputs: one text for all, or by column, by data set, or by data set and then
            column. May be given as JSON.
        batch_sampler: How rows are put into batches: a name of `BatchSamplers`, a class, or a function with
            the arguments of `DefaultBatchSampler`.
        multi_dataset_batch_sampler: From which data set the next batch comes: a name of
            `MultiDatasetBatchSamplers`, a class, or a function.
        router_mapping: Task of each column, for models with a Router; by data set where there are several.
        learning_rate_mapping: Learning rate of the parameters whose names a regular expression finds; the first
            that does counts.
        warmup_ratio: Share of the steps over which the learning rate rises; `warmup_steps` counts if it is given.

    Several processes, started with `torchrun` or `accelerate launch`: each has the whole model, and batches of
    `per_device_train_batch_size` rows of its own. Losses with in-batch negatives take those of all processes with
    `gather_across_devices=True`, and then train as one process would with all the rows. Evaluators run in the
    first process while the others encode for it.

    Models too large for one device are spread over several with FSDP2, on GPUs:

        fsdp=True,
        fsdp_config={
            "version": 2,
            "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "transformer_layer_cls_to_wrap": ["BertLayer"],
            "state_dict_type": "FULL_STATE_DICT",
        }

    `transformer_layer_cls_to_wrap` names the class of the model's layers. Checkpoints are then whole models as ever,
    and evaluators run in every process, since no process can encode alone.
    """

    prompts: Union[str, None, dict[str, str], dict[str, dict[str, str]]] = field(  # noqa: UP007, RUF036
        default=None, metadata={"help": "Prompts for the columns of the data sets, as text or JSON."}
    )
    batch_sampler: Union[  # noqa: UP007
        BatchSamplers, str, DefaultBatchSampler, Callable[..., DefaultBatchSampler]
    ] = field(default=BatchSamplers.BATCH_SAMPLER, metadata={"help": "How rows are put into batches."})
    multi_dataset_batch_sampler: Union[  # noqa: UP007
        MultiDatasetBatchSamplers,
        str,
        MultiDatasetDefaultBatchSampler,
        Callable[..., MultiDatasetDefaultBatchSampler],
    ] = field(
        default=MultiDatasetBatchSamplers.PROPORTIONAL,
        metadata={"help": "From which data set the next batch comes."},
    )
    router_mapping: Union[str, None, dict[str, str], dict[str, dict[str, str]]] = field(  # noqa: UP007, RUF036
        default_factory=dict, metadata={"help": "Task of each column, for models with a Router, as JSON."}
    )
    learning_rate_mapping: Union[str, None, dict[str, float]] = field(  # noqa: UP007, RUF036
        default_factory=dict, metadata={"help": "Learning rates by regular expression over parameter names."}
    )
    warmup_ratio: Union[float, None] = field(  # noqa: UP007
        default=None, metadata={"help": "Share of the steps over which the learning rate rises."}
    )

    def __post_init__(self) -> None:
        # Before anything is filled in: what is not chosen may end up with another value than its default.
        self._chosen = frozenset(
            known.name for known in fields(self) if known.init and getattr(self, known.name) != usual(known)
        )
        if self.warmup_ratio:
            if not 0 <= self.warmup_ratio <= 1:
                raise ValueError(f"warmup_ratio={self.warmup_ratio} is no share of the steps. Pass 0 to 1.")
            # Below one, transformers takes the number of steps for a share of all.
            self.warmup_steps: float = getattr(self, "warmup_steps", 0) or self.warmup_ratio
        super().__post_init__()
        self.batch_sampler = chosen(self.batch_sampler, BatchSamplers)
        self.multi_dataset_batch_sampler = chosen(self.multi_dataset_batch_sampler, MultiDatasetBatchSamplers)
        if isinstance(self.prompts, str) and self.prompts.lstrip().startswith("{"):
            self.prompts = read_mapping(self.prompts, "prompts")
        self.router_mapping = read_mapping(self.router_mapping, "router_mapping")
        self.learning_rate_mapping = read_mapping(self.learning_rate_mapping, "learning_rate_mapping")
        if getattr(self, "ddp_broadcast_buffers", None) is None:
            # A model runs several times in a step; copying buffers in between would void the earlier graphs.
            self.ddp_broadcast_buffers = False

    def usual_values(self) -> dict[str, Any]:
        """The arguments, by name, as they would be had none been chosen."""
        values = self.to_dict()
        for known in fields(self):
            if known.name in self._chosen:
                value = usual(known)
                values[known.name] = value.value if isinstance(value, Enum) else value
        return values

    def to_dict(self) -> dict[str, Any]:
        """The arguments as they can be written to JSON; samplers that are classes or functions by name."""
        values = super().to_dict()
        for name in ("batch_sampler", "multi_dataset_batch_sampler"):
            value = getattr(self, name)
            if callable(value):
                values[name] = (
                    f"{value.__module__}.{getattr(value, '__qualname__', type(value).__qualname__)}"
                )
        return values


def usual(known: Field[Any]) -> Any:
    """What an argument is when it is left out."""
    if known.default is not MISSING:
        return known.default
    return None if known.default_factory is MISSING else known.default_factory()


def chosen(value: Any, names: Any) -> Any:
    """A member of an enumeration by its value; classes and functions as they are.

    Raises:
        ValueError: If there is none of that name.
    """
    if callable(value) and not isinstance(value, str):
        return value
    try:
        return names(value)
    except ValueError:
        raise ValueError(
            f"{value!r} is not a valid {names.__name__}. Known: {', '.join(repr(name.value) for name in names)}; "
            "or pass a class."
        ) from None


def read_mapping(value: Any, name: str) -> dict[str, Any]:
    """A mapping that may be given as JSON; empty for None.

    Raises:
        ValueError: If it is something else.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"{name}={value!r} is no JSON: {error}.") from error
    if not isinstance(value or {}, dict):
        raise ValueError(f"{name}={value!r} is no mapping. Pass a dictionary, or one as JSON.")
    return value or {}
