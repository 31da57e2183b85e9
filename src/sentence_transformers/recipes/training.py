"""Training within a recipe: the arguments its config asks for, its curve, and going on after a kill.

The trainer is that of the kind of model; nothing here knows a method.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from sentence_transformers.inference.prompts import choose_prompt, prompt_name_of_task
from sentence_transformers.recipes.config import TrainedConfig
from sentence_transformers.recipes.judging import Judge
from sentence_transformers.recipes.running import Run
from sentence_transformers.storage.folder import write_json

CHECKPOINTS, CURVE, MODEL = "checkpoints", "curve.json", "model"
LOGS = 20
"""Entries of the loss in a curve, about."""


def load(name: str, config: Any, **options: Any) -> Any:
    """A `SentenceTransformer` by name or folder, on the device of a config, with its `max_length`."""
    from sentence_transformers.sentence_transformer.model import SentenceTransformer

    model = SentenceTransformer(str(name), device=config.device, **options)
    if getattr(config, "max_length", None) is not None:
        model.max_seq_length = config.max_length
    return model


def repooled(model: Any, pooling: str) -> Any:
    """The transformer of a model, with a pooling of that kind behind it and nothing else."""
    from sentence_transformers.modules.pooling import Pooling
    from sentence_transformers.sentence_transformer.model import SentenceTransformer

    transformer = model[0]
    parts = [transformer, Pooling(transformer.get_word_embedding_dimension(), pooling_mode=pooling)]
    return SentenceTransformer(modules=parts, device=str(model.device))


def trained(
    run: Run,
    make: Callable[[], tuple[Any, Mapping[str, list[Any]] | Any, nn.Module]],
    *,
    config: TrainedConfig,
    name: str = "training",
    judge: Judge | None = None,
    kind: str = "SentenceTransformer",
    roles: Mapping[str, str] | None = None,
    arguments: Mapping[str, Any] | None = None,
    **trainer_options: Any,
) -> Any:
    """A trained model: trained now, or by an earlier process, or begun by one and finished now.

    However often the process was killed, the weights are those of an undisturbed run (on a CPU, bit for bit).

    Args:
        run: The run this belongs to.
        make: Gives the model to train, the data (columns, or a data set) and the loss; it is called only if
            there is something left to train, and must give the same for the same seed.
        config: How to train.
        name: Of the step.
        judge: Judges every epoch. The figure is written into the curve as "dev".
        kind: Class of the model, one of `KINDS`.
        roles: Columns that hold a "query" or a "document". They get the prompts that the model has for these, as they
            do when it is judged.
        arguments: Further training arguments.
        **trainer_options: Further arguments of the trainer.

    Returns:
        The model, read anew from its folder.
    """

    def work(folder: Path) -> None:
        import torch
        import transformers
        from datasets import Dataset

        transformers.set_seed(config.seed)
        trainer_class, arguments_class, _ = classes_of(kind)
        model, data, loss = make()
        if isinstance(data, Mapping) and data and isinstance(next(iter(data.values())), list):
            data = Dataset.from_dict(dict(data))
        checkpoints = folder / CHECKPOINTS
        epochs, best = "epoch", config.keep_best and judge is not None
        options: dict[str, Any] = {
            "output_dir": str(checkpoints),
            "num_train_epochs": config.epochs,
            "per_device_train_batch_size": config.batch_size,
            "learning_rate": config.learning_rate,
            "warmup_ratio": config.warmup_ratio,
            "eval_strategy": epochs if judge is not None else "no",
            "save_strategy": epochs if best else "steps",
            "save_steps": config.save_steps,
            "save_total_limit": 1,
            "load_best_model_at_end": best,
            "metric_for_best_model": f"eval_{judge.metric(model)}" if judge is not None and best else None,
            "greater_is_better": True if best else None,
            "logging_steps": 1 / LOGS,
            "seed": config.seed,
            "report_to": "none",
            "disable_tqdm": config.quiet,
            "use_cpu": torch.device(model.device).type == "cpu",
            "prompts": own_prompts(model, roles or {}) or None,
            **(arguments or {}),
        }
        trainer = trainer_class(
            model,
            arguments_class(**options),
            data,
            loss=loss,
            evaluator=judge.evaluator if judge is not None else None,
            **trainer_options,
        )
        if config.quiet:
            # Without a progress bar, transformers prints what it logs instead.
            trainer.remove_callback(transformers.PrinterCallback)
        trainer.train(resume_from_checkpoint=last_checkpoint(checkpoints))
        entries = curve(trainer.state.log_history, judge.metric(model) if judge is not None else None)
        end = {"step": trainer.state.global_step, "epoch": round(trainer.state.epoch or 0.0, 4)}
        is_judged = any("dev" in entry and entry["step"] == end["step"] for entry in entries)
        if judge is not None and not best and not is_judged:
            # An earlier process was killed while it judged the last epoch.
            entries.append({**end, "dev": judge(model)})
        write_json(folder / CURVE, entries)
        model.save_pretrained(str(folder / MODEL))

    folder = run.step(name, work, goes_on=True)
    # Only now: a process that was killed while it removed them would later go on from half a checkpoint.
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    _, _, model_class = classes_of(kind)
    return model_class(str(folder / MODEL), device=config.device)


def own_prompts(model: Any, roles: Mapping[str, str]) -> dict[str, str]:
    """The prompts by column that `encode_query` and `encode_document` of a model put in front of such texts.

    Args:
        model: A `SentenceTransformer`.
        roles: "query" or "document", by column.
    """
    found = {
        column: choose_prompt(
            model.prompts,
            default_prompt_name=model.default_prompt_name,
            prompt=None,
            prompt_name=prompt_name_of_task(model.prompts, role),
        )
        for column, role in roles.items()
    }
    return {column: prompt for column, prompt in found.items() if prompt}


KINDS = ("SentenceTransformer", "CrossEncoder")


def classes_of(kind: str) -> tuple[Any, Any, Any]:
    """Trainer, arguments and model of a kind."""
    if kind == "CrossEncoder":
        from sentence_transformers.cross_encoder.model import CrossEncoder
        from sentence_transformers.cross_encoder.training import (
            CrossEncoderTrainer,
            CrossEncoderTrainingArguments,
        )

        return CrossEncoderTrainer, CrossEncoderTrainingArguments, CrossEncoder
    from sentence_transformers.sentence_transformer.model import SentenceTransformer
    from sentence_transformers.sentence_transformer.training import (
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )

    return SentenceTransformerTrainer, SentenceTransformerTrainingArguments, SentenceTransformer


def last_checkpoint(folder: Path) -> str | None:
    """The last checkpoint that was written to its end, or None; one that was not is removed."""
    numbered = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    for path in sorted(numbered, key=lambda path: -int(path.name.rpartition("-")[2])):
        if is_whole(path):
            return str(path)
        shutil.rmtree(path)
    return None


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint was written to its end: the trainer writes its state last."""
    state = checkpoint / "trainer_state.json"
    try:
        return state.is_file() and bool(json.loads(state.read_text(encoding="utf-8")))
    except ValueError:  # half of it
        return False


def curve(log_history: list[dict[str, Any]], figure: str | None) -> list[dict[str, Any]]:
    """What a trainer wrote down, as `step`, `epoch` and `loss` or `dev`: the evaluator's figure, in per cent."""
    entries = []
    for entry in log_history:
        place = {"step": entry["step"], "epoch": round(entry["epoch"], 4)}
        if "loss" in entry:
            entries.append({**place, "loss": entry["loss"]})
        elif figure is not None and f"eval_{figure}" in entry:
            entries.append({**place, "dev": round(100 * entry[f"eval_{figure}"], 2)})
    return entries
