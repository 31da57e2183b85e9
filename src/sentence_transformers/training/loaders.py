"""Which batches a trainer sees: collator, samplers and loaders of its data sets, checked beforehand.

Several data sets never mix within a batch; a stream of rows is read in the order it has. How a batch becomes a
loss stands in `trainer.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, IterableDataset

from sentence_transformers.training.batch_samplers import BATCH_SAMPLERS, BatchSamplers
from sentence_transformers.training.collator import BaseDataCollator
from sentence_transformers.training.columns import DATASET_NAME, check_dataset, stack_labels
from sentence_transformers.training.dataset_samplers import DATASET_SAMPLERS, MultiDatasetBatchSamplers
from sentence_transformers.training.streams import Interleaved
from sentence_transformers.training.whole_groups import shared_among

NOTHING_TO_EVALUATE = "no data set, only an evaluator"
"""Stands in for a data set where transformers insists on one."""


class LoadersMixin:
    """Loaders over the data sets of a trainer."""

    # What a trainer has.
    collator_class: type[BaseDataCollator]
    args: Any
    accelerator: Any
    train_dataset: Any
    eval_dataset: Any
    evaluator: Any
    data_collator: Any
    loss: Any
    valid_label_columns: list[str]
    _train_batch_size: int

    def get_data_collator(self, model: Any, args: Any, processing_class: Any = None) -> BaseDataCollator:
        """The collator that batches are made with where none is given."""
        return self.collator_class(
            preprocess_fn=model.preprocess,
            router_mapping=getattr(args, "router_mapping", None),
            prompts=getattr(args, "prompts", None),
        )

    def get_batch_sampler(
        self,
        dataset: Any,
        batch_size: int,
        drop_last: bool,
        valid_label_columns: list[str] | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
    ) -> BatchSampler | None:
        """What puts the rows of one data set into batches, as `args.batch_sampler` says.

        Args:
            dataset: The data set.
            batch_size: Rows of a batch.
            drop_last: Whether a last batch of fewer rows is left out.
            valid_label_columns: Names that mean a label.
            generator: Source of random order.
            seed: Its seed; the epoch is added.

        Returns:
            The sampler; None for a stream, which has the order it has.
        """
        choice = self.args.batch_sampler
        if is_stream(dataset):
            if choice != BatchSamplers.BATCH_SAMPLER:
                raise ValueError(
                    f"batch_sampler={choice!r} chooses rows by number, which a stream of rows does not have. Use "
                    "the default, or a data set that is not streamed."
                )
            return None
        options: dict[str, Any] = {
            "batch_size": batch_size,
            "drop_last": drop_last,
            "valid_label_columns": valid_label_columns,
            "generator": generator,
            "seed": seed,
        }
        return BATCH_SAMPLERS.get(choice, choice)(dataset, **options)

    def get_multi_dataset_batch_sampler(
        self,
        dataset: ConcatDataset,
        batch_samplers: list[BatchSampler],
        generator: torch.Generator | None = None,
        seed: int | None = 0,
    ) -> BatchSampler:
        """What takes batches from several data sets in turn, as `args.multi_dataset_batch_sampler` says.

        Args:
            dataset: The data sets one after another.
            batch_samplers: The sampler of each.
            generator: Source of random order.
            seed: Its seed.
        """
        choice = self.args.multi_dataset_batch_sampler
        options: dict[str, Any] = {
            "dataset": dataset,
            "batch_samplers": batch_samplers,
            "generator": generator,
            "seed": seed,
        }
        return DATASET_SAMPLERS.get(choice, choice)(**options)

    def get_train_dataloader(self) -> DataLoader:
        """Batches to train on.

        Raises:
            ValueError: If there is no training data.
        """
        if self.train_dataset is None:
            raise ValueError("Training needs train_dataset, and there is none.")
        return self._loader(self.train_dataset, self._train_batch_size, self.args.dataloader_drop_last)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Batches to evaluate on.

        Args:
            eval_dataset: Data to use instead of that of the trainer, or the name of one of its sets.

        Raises:
            ValueError: If there is none.
        """
        if isinstance(eval_dataset, str) and isinstance(self.eval_dataset, Mapping):
            eval_dataset = self.eval_dataset[eval_dataset]
        if eval_dataset is None or eval_dataset == NOTHING_TO_EVALUATE:
            eval_dataset = self.eval_dataset
        if eval_dataset is None:
            if self.evaluator is not None:
                return DataLoader(Nothing())
            raise ValueError("Evaluation needs eval_dataset or an evaluator, and there is neither.")
        return self._loader(eval_dataset, self.args.eval_batch_size, drop_last=False)

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        """Batches of a test set."""
        return self._loader(self.preprocess_dataset(test_dataset), self.args.eval_batch_size, drop_last=False)

    def _loader(self, dataset: Any, batch_size: int, drop_last: bool) -> DataLoader:
        """A loader over one data set, or over several whose batches do not mix."""
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        # With a generator of its own, a loader draws nothing from the one that dropout uses.
        options: dict[str, Any] = {
            "collate_fn": self.data_collator,
            "num_workers": self.args.dataloader_num_workers,
            "pin_memory": self.args.dataloader_pin_memory and torch.accelerator.is_available(),
            "persistent_workers": self.args.dataloader_persistent_workers,
            "prefetch_factor": self.args.dataloader_prefetch_factor,
            "generator": torch.Generator().manual_seed(seed),
        }
        several = isinstance(dataset, Mapping)
        by_name: Mapping[Any, Any] = dataset if several else {None: dataset}
        parts = list(by_name.values())
        # Those who write a sampler's method anew may have learnt it when it took no seed.
        seeds = {"seed": seed} if "seed" in inspect.signature(self.get_batch_sampler).parameters else {}
        if any(map(is_stream, parts)):
            return self._stream_loader(by_name, batch_size, drop_last, seed, options)
        samplers: list[Any] = [
            self.get_batch_sampler(
                part,
                batch_size=batch_size,
                drop_last=drop_last,
                valid_label_columns=self.valid_label_columns,
                generator=torch.Generator().manual_seed(seed),
                **seeds,
            )
            for part in parts
        ]

        def put_together(samplers: list[Any]) -> BatchSampler:
            if not several:
                return samplers[0]
            return self.get_multi_dataset_batch_sampler(
                dataset, batch_samplers=samplers, generator=torch.Generator().manual_seed(seed), seed=seed
            )

        if several:
            dataset = ConcatDataset(parts)
        sampler = shared_among(self.accelerator.num_processes, samplers, put_together)
        # Batches are not to be filled up with rows of others: those may be of another data set.
        self.accelerator.even_batches = False
        return self.accelerator.prepare(DataLoader(dataset, batch_sampler=sampler, **options))

    def _stream_loader(
        self,
        datasets: Mapping[Any, Any],
        batch_size: int,
        drop_last: bool,
        seed: int,
        options: dict[str, Any],
    ) -> DataLoader:
        """A loader over data sets of which some are streams."""
        from accelerate.data_loader import prepare_data_loader

        for part in filter(is_stream, datasets.values()):
            self.get_batch_sampler(part, batch_size, drop_last)
        accelerator = self.accelerator
        rows = Interleaved(
            datasets,
            batch_size=batch_size,
            drop_last=drop_last,
            round_robin=self.args.multi_dataset_batch_sampler == MultiDatasetBatchSamplers.ROUND_ROBIN,
            seed=seed,
            process=accelerator.process_index,
            processes=accelerator.num_processes,
        )
        # As if there were no other process: accelerate would have one read for all, and join their batches.
        return prepare_data_loader(
            DataLoader(rows, batch_size=None, **options),
            device=accelerator.device,
            num_processes=1,
            process_index=0,
            put_on_device=True,
            dispatch_batches=False,
        )

    # -- data sets ---------------------------------------------------------------------------------------

    def _check_datasets(self, dataset: Any) -> None:
        """Stop if data sets and losses do not suit each other."""
        if dataset is None:
            return
        by_name: Mapping[Any, Any] = dataset if isinstance(dataset, Mapping) else {None: dataset}
        if isinstance(self.loss, Mapping):
            if not isinstance(dataset, Mapping):
                raise ValueError(
                    f"The losses are given by data set ({list(self.loss)}), so the data sets must be, too: pass "
                    "{'name': dataset, ...}."
                )
            missing = [name for name in dataset if name not in self.loss]
            if missing:
                raise ValueError(
                    f"No loss is given for the data sets {missing}; there are some for {list(self.loss)}."
                )
        for name, part in by_name.items():
            loss = self.loss[name] if isinstance(self.loss, Mapping) else self.loss
            check_dataset(
                part,
                loss,
                label_columns=self.valid_label_columns,
                read_labels=getattr(self.data_collator, "read_labels", stack_labels),
                name=name,
            )

    def preprocess_dataset(self, dataset: Any = None, dataset_name: str | None = None) -> Any:
        """Let each row of several data sets say which it is from, where anything depends on it.

        The caller's data sets are left as they are.

        Args:
            dataset: One data set, or several by name.
            dataset_name: Its name.
        """
        if isinstance(dataset, Mapping):
            return {name: self.preprocess_dataset(part, name) for name, part in dataset.items()}
        if (
            dataset is None
            or dataset_name is None
            or not self.should_dataset_name_column_be_added(dataset, self.args, self.loss)
        ):
            return dataset
        if is_stream(dataset):
            if hasattr(dataset, "map"):
                return dataset.map(partial(with_dataset_name, name=dataset_name))
            return dataset
        if not hasattr(dataset, "with_transform"):
            return dataset
        transform = partial(
            self.add_dataset_name_transform, dataset_name=dataset_name, **own_transform_of(dataset)
        )
        return dataset.with_transform(transform)

    def should_dataset_name_column_be_added(self, dataset: Any, args: Any, loss: Any) -> bool:
        """Whether the loss, the prompts or the tasks depend on the data set a row is from."""
        by_dataset = (getattr(args, "prompts", None), getattr(args, "router_mapping", None))
        return isinstance(loss, Mapping) or any(
            isinstance(setting, Mapping) and setting for setting in by_dataset
        )

    @staticmethod
    def add_dataset_name_transform(
        batch: dict[str, list[Any]],
        dataset_name: str | None = None,
        transform: Callable[[dict[str, list[Any]]], dict[str, list[Any]]] | None = None,
        **kwargs: Any,
    ) -> dict[str, list[Any]]:
        """Add the name of the data set to rows, after the data set's own transform.

        Args:
            batch: Rows, by column.
            dataset_name: The name; None for no column.
            transform: What the data set did to its rows before.
            **kwargs: Ignored.
        """
        if transform is not None:
            batch = transform(batch)
        if dataset_name and batch:
            count = len(next(iter(batch.values())))
            return {**batch, DATASET_NAME: [dataset_name] * count}
        return batch


class Nothing(torch.utils.data.Dataset):
    """A data set without rows, where there is only an evaluator."""

    def __len__(self) -> int:
        return 0

    def __getitem__(self, number: int) -> Any:
        raise IndexError(number)


def named_datasets(dataset: Any) -> Any:
    """Several data sets as a plain dictionary by name; a single one as it is."""
    return dict(dataset) if isinstance(dataset, Mapping) else dataset


def is_stream(dataset: Any) -> bool:
    """Whether rows are read one after another and have no number."""
    return isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__")


def with_dataset_name(row: dict[str, Any], name: str) -> dict[str, Any]:
    """A row with the name of its data set."""
    return {**row, DATASET_NAME: name}


def own_transform_of(dataset: Any) -> dict[str, Any]:
    """What a data set does to its rows when they are read, if anything."""
    settings = getattr(dataset, "_format_kwargs", None) or {}
    return {"transform": settings["transform"]} if callable(settings.get("transform")) else {}
