"""PCA: embeddings become shorter by their principal components, in a layer behind the model.

The components come from the embeddings of some texts (`principal.py`); the model is not trained. The layer is a `Dense`
without activation. Where a model gives vectors of length one, so does the shorter one: a `Normalize` follows.

The layer has no bias unless `centre` is asked for. With it, vectors are measured from the mean of the texts, which
changes all angles between them; without, a vector is its own projection, and the angles stay as near as so few
dimensions allow. With `whiten`, later directions count more than by their size (Su, Cao, Liu, Ou 2021, "Whitening
Sentence Representations for Better Semantics and Faster Retrieval", https://arxiv.org/abs/2103.15316).

With `adjust`, the components are only the start: the projection is moved until texts that stand in one row of a table
keep their cosines (`kept_cosines.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sentence_transformers.modules.dense import Dense
from sentence_transformers.modules.normalize import Normalize
from sentence_transformers.recipes.config import JudgedConfig, option
from sentence_transformers.recipes.judging import judged, judges
from sentence_transformers.recipes.kept_cosines import keep_cosines
from sentence_transformers.recipes.principal import Components, principal_components
from sentence_transformers.recipes.report import Report
from sentence_transformers.recipes.running import Run
from sentence_transformers.recipes.students import has_length_one
from sentence_transformers.recipes.teaching import VECTORS, pairs_of_files, texts_of_files
from sentence_transformers.recipes.training import load


@dataclass(kw_only=True)
class Config(JudgedConfig):
    """What PCA is told."""

    texts: list[Path] = option(
        [],
        help="Texts to look at: lines of a .txt, or columns of a table (also .gz). Several times, if you like.",
    )
    columns: list[str] = option([], help="Columns of tables to read, of those that have them; else `text`.")
    limit: int | None = option(None, help="Use only so many texts, drawn at random.", least=2)
    width: list[int] = option(
        [128],
        help="Numbers in an embedding; several times for a table. The last one is the finished model's.",
    )
    whiten: float = option(
        0.0,
        help="How far directions are made to count alike: 0 not at all, 1 wholly; 0.5 often helps.",
        least=0,
    )
    centre: bool = option(False, help="Measure vectors from the mean of the texts: the layer has a bias.")
    adjust: int = option(
        0,
        help="Passes in which the projection learns to keep the cosines of texts in one row; 10 do. No labels needed.",
        least=0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.texts:
            raise ValueError("There is nothing to find components in. Pass at least one file of texts.")
        if not self.width or min(self.width) < 1:
            raise ValueError(f"width={self.width} leaves nothing. Pass positive numbers.")
        if self.adjust and self.centre:
            raise ValueError("adjust keeps cosines, which centre changes. Pass one of them.")


def run(config: Config) -> Report:
    """Make embeddings shorter by their principal components (PCA); the model is not trained."""
    model = load(config.model, config)
    width = model.get_sentence_embedding_dimension()
    if max(config.width) > width:
        raise ValueError(
            f"width={max(config.width)} is more than the {width} numbers of the model's embeddings. Pass 1 to {width}."
        )
    run = Run("pca", config)
    all_judges = judges(config.dev, config.test)

    def embed(folder: Path) -> None:
        texts = texts_of_files(config.texts, config.columns, config.limit, config.seed)
        model.encode_to(folder / VECTORS, texts, show_progress_bar=not config.quiet)

    vectors = run.step("embeddings", embed, goes_on=True) / VECTORS

    def analyse(folder: Path) -> None:
        found = principal_components(np.load(vectors, mmap_mode="r"))
        np.savez(folder / "components.npz", **vars(found))

    components = Components(**np.load(run.step("components", analyse) / "components.npz"))
    widths = list(dict.fromkeys(config.width))
    projections = {width: components.projection(width, whiten=config.whiten) for width in widths}
    if config.adjust:

        def adjust(folder: Path) -> None:
            pairs = numbered_pairs(config)
            rows = np.load(vectors)
            moved = {
                str(width): keep_cosines(projection, rows, pairs, epochs=config.adjust, seed=config.seed)
                for width, projection in projections.items()
            }
            np.savez(folder / "projections.npz", **moved)  # type: ignore[arg-type]

        found = np.load(run.step("adjusted", adjust) / "projections.npz")
        projections = {width: found[str(width)] for width in widths}

    def shorter_model(width: int) -> Any:
        mean = components.mean if config.centre else None
        return shortened(load(config.model, config), projections[width], mean)

    def figures(model: Any) -> dict[str, Any]:
        width = model.get_sentence_embedding_dimension()
        return {
            "width": width,
            "% of variance": round(100 * components.kept(width), 2),
            **judged(model, all_judges),
            "bytes": 4 * width,
        }

    run.measure("start", lambda: figures(model))
    name = "adjusted" if config.adjust else "PCA"
    for width in widths:
        model = shorter_model(width)
        run.measure(f"{name} {width}", lambda model=model: figures(model))
    return run.finish(shorter_model(config.width[-1]))


def numbered_pairs(config: Config) -> list[tuple[int, int]]:
    """The pairs of texts in one row, by the numbers of their vectors.

    Raises:
        ValueError: If there are none.
    """
    texts = texts_of_files(config.texts, config.columns, config.limit, config.seed)
    number = {text: place for place, text in enumerate(texts)}
    pairs = [
        (number[first], number[second])
        for first, second in pairs_of_files(config.texts, config.columns)
        if first != second and first in number and second in number
    ]
    if not pairs:
        raise ValueError(
            "adjust needs texts that stand in one row of a table. Pass a table, and two columns or more of it."
        )
    return pairs


def shortened(model: Any, directions: np.ndarray, mean: np.ndarray | None = None) -> Any:
    """A model whose embeddings are projected.

    Args:
        model: A `SentenceTransformer`; the layer is put behind it.
        directions: What its embeddings are projected to, (W, D).
        mean: What is taken away from them before, (D,).
    """
    dense = Dense(
        directions.shape[1],
        directions.shape[0],
        bias=mean is not None,
        activation_function=torch.nn.Identity(),
        init_weight=torch.from_numpy(directions.astype(np.float32)),
        init_bias=None if mean is None else torch.from_numpy((-directions @ mean).astype(np.float32)),
    )
    is_of_length_one = has_length_one(model)
    model.append(dense.to(model.device))
    if is_of_length_one:
        model.append(Normalize())
    return model
