"""Multilingual distillation: a student gives a text and its translations the vector that a teacher gives the text.

Reimers and Gurevych (2020), "Making Monolingual Sentence Embeddings Multilingual using Knowledge Distillation",
https://arxiv.org/abs/2004.09813. The teacher reads each source once; its vectors are kept in a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sentence_transformers.losses.base import LossPart
from sentence_transformers.losses.embed_distill import MSELoss
from sentence_transformers.recipes.config import TrainedConfig, option
from sentence_transformers.recipes.judging import dev_judge, judged, judges
from sentence_transformers.recipes.report import Report
from sentence_transformers.recipes.running import only_run
from sentence_transformers.recipes.tables import read_rows, some_of
from sentence_transformers.recipes.training import load, trained
from sentence_transformers.tensors.embeddings import Embeddings
from sentence_transformers.tensors.similarity import cos_sim

VECTORS = "teacher.npy"


@dataclass(kw_only=True)
class Config(TrainedConfig):
    """What multilingual distillation is told."""

    model: str = option("all-MiniLM-L6-v2", help="The teacher: a folder, or a name.")
    student: str | None = option(None, help="The model that learns; the teacher itself if none is given.")
    parallel: list[Path] = option(
        [], help="A table of translations, of sentences the teacher understands; once for each language."
    )
    parallel_test: list[Path] = option(
        [], help="The same, judged before and after by finding each other; may be given several times."
    )
    source: str | None = option(None, help="Column that the teacher reads; the first one if none is given.")
    target: str | None = option(
        None, help="Column of the translations; the first other one if none is given."
    )
    limit: int | None = option(None, help="Use only so many rows of each language, drawn at random.", least=1)
    contrast: float = option(
        0.0,
        help="Weight of telling each translation's vector from the others of the batch, beside the squared difference.",
        least=0,
    )
    epochs: float = option(3.0, help="Passes over the data.")
    learning_rate: float = option(1e-4, help="Highest learning rate.", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.parallel:
            raise ValueError("There is nothing to learn from. Pass at least one table of translations.")


class ContrastedMSELoss(MSELoss):
    """The squared difference to the teacher's vectors, and how well they are told from each other.

    With few translations the squared difference alone is soonest made small by giving all of them the mean of the
    teacher's vectors. So, beside it, each vector of the student is compared with all of the teacher's in the batch:
    weight × cross entropy of 20 × cosine, the right one being its own. The squared difference is summed over the
    dimensions here, so that both have about the same size.

    Args:
        model: The student.
        weight: Of the comparison.
    """

    def __init__(self, model: Any, weight: float) -> None:
        super().__init__(model)
        self.weight = weight

    def parts(
        self,
        embeddings: Sequence[Embeddings],
        labels: Tensor | None,
        *,
        rows: slice | None = None,
        context: Any = None,
    ) -> Iterator[LossPart]:
        assert labels is not None
        for part in super().parts(embeddings, labels, rows=rows, context=context):
            yield LossPart("difference", labels.shape[-1] * part.value)
        own = torch.arange(len(labels), device=labels.device)
        entropies = [
            nn.functional.cross_entropy(20 * cos_sim(column.values, labels.to(column.values)), own)
            for column in embeddings
        ]
        yield LossPart("contrast", self.weight * torch.stack(entropies).mean())

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {"weight": self.weight}


@dataclass(frozen=True)
class Translations:
    """Sentences the teacher understands, and the same in another language."""

    name: str
    sources: list[str]
    targets: list[str]


def run(config: Config) -> Report:
    """Teach a model further languages: it learns its teacher's vectors for sentences and translations."""
    all_judges = judges(config.dev, config.test)
    tests = read_translations(config.parallel_test, config, limit=None)
    pairs = joined(read_translations(config.parallel, config, limit=config.limit))
    with only_run("multilingual", config) as run:
        teacher = load(config.model, config)

        def figures(model: Any) -> dict[str, float]:
            found = {}
            for test in tests:
                found.update(translation_figures(teacher, model, test))
            return {**found, **judged(model, all_judges)}

        run.measure("start", lambda: figures(start(config, teacher)))

        def embed(folder: Path) -> None:
            teacher.encode_to(folder / VECTORS, pairs.sources, show_progress_bar=not config.quiet)

        vectors = run.step("teacher", embed, goes_on=True) / VECTORS

        def make() -> tuple[Any, Any, nn.Module]:
            from datasets import Dataset

            data = Dataset.from_dict(
                {"source": pairs.sources, "target": pairs.targets, "label": np.load(vectors)}
            )
            student = start(config, load(config.model, config))
            loss = ContrastedMSELoss(student, config.contrast) if config.contrast else MSELoss(student)
            return student, data, loss

        model = trained(run, make, config=config, judge=dev_judge(all_judges))
        run.measure("student", lambda: figures(model))
        return run.finish(model)


def start(config: Config, teacher: Any) -> Any:
    """The student before it has learned anything; with a layer to the teacher's width, if its own is another."""
    if config.student is None:
        return teacher
    student = load(config.student, config)
    width, wanted = (model.get_sentence_embedding_dimension() for model in (student, teacher))
    if width != wanted:
        from sentence_transformers.modules.dense import Dense

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            dense = Dense(width, wanted, activation_function=nn.Identity())
        student.append(dense.to(student.device))
    return student


def read_translations(paths: Sequence[Path], config: Config, *, limit: int | None) -> list[Translations]:
    """Each table of translations, with a name for its languages.

    Raises:
        ValueError: If a table lacks a column, or has no second one, or tables cannot be told apart.
    """
    found = []
    for path in paths:
        rows = read_rows(path, [name for name in (config.source, config.target) if name is not None])
        source = config.source or next(iter(rows[0]))
        target = config.target or next((name for name in rows[0] if name != source), None)
        if target is None or target == source:
            raise ValueError(
                f"{path} needs two columns, sentences and their translations. It has only {source!r}."
            )
        chosen = [row for row in rows if row[source] and row[target]]
        if not chosen:
            raise ValueError(f"No row of {path} has both {source!r} and {target!r}.")
        chosen = some_of(chosen, limit, config.seed)
        sources, targets = [row[source] for row in chosen], [row[target] for row in chosen]
        found.append(Translations(f"{source}-{target}", sources, targets))
    if len({one.name for one in found}) == len(found):
        return found
    # Columns are called the same in every file, so that the files' names have to tell the languages.
    names = [path.name.partition(".")[0] for path in paths]
    if len(set(names)) < len(names):
        names = [f"{path.absolute().parent.name} {name}" for path, name in zip(paths, names, strict=True)]
    if len(set(names)) < len(names):
        raise ValueError(
            f"Tables of translations cannot be told apart: {', '.join(names)}. Pass each once, and give their columns, "
            "files or folders different names."
        )
    return [Translations(name, one.sources, one.targets) for name, one in zip(names, found, strict=True)]


def joined(several: Sequence[Translations]) -> Translations:
    """All translations in one."""
    return Translations(
        "all",
        [source for one in several for source in one.sources],
        [target for one in several for target in one.targets],
    )


def translation_figures(teacher: Any, model: Any, test: Translations) -> dict[str, float]:
    """How far a model's vectors of translations are from the teacher's of the sources, and how often a sentence's
    own translation is the nearest one, from either side."""
    from sentence_transformers.evaluation.mse import MSEEvaluator
    from sentence_transformers.evaluation.translation import TranslationEvaluator

    far = MSEEvaluator(test.sources, test.targets, teacher_model=teacher, write_csv=False)(model)
    found = TranslationEvaluator(test.sources, test.targets, write_csv=False)(model)
    return {
        # The evaluator gives 100 times the error.
        f"{test.name} MSE x 10,000": round(-100 * far["negative_mse"], 2),
        f"{test.name} found %": round(100 * found["src2trg_accuracy"], 2),
        f"{test.name} found back %": round(100 * found["trg2src_accuracy"], 2),
    }
