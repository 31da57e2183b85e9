"""PCA: embeddings become shorter by their principal components, in a layer behind the model.

The components come from the embeddings of some texts (`principal.py`), nothing is trained. The layer is a `Dense`
without activation. Where a model gives vectors of length one, so does the shorter one: a `Normalize` follows.

The layer has no bias unless `centre` is asked for. With it, vectors are measured from the mean of the texts, which
changes all angles between them; without, a vector is its own projection, and the angles stay as near as so few
dimensions allow. With `whiten`, later directions count more than by their size (Su, Cao, Liu, Ou 2021, "Whitening
Sentence Representations for Better Semantics and Faster Retrieval", https://arxiv.org/abs/2103.15316).
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
from sentence_transformers.recipes.principal import Components, principal_components
from sentence_transformers.recipes.report import Report
from sentence_transformers.recipes.running import Run
from sentence_transformers.recipes.students import has_length_one
from sentence_transformers.recipes.teaching import VECTORS, texts_of_files
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.texts:
            raise ValueError("There is nothing to find components in. Pass at least one file of texts.")
        if not self.width or min(self.width) < 1:
            raise ValueError(f"width={self.width} leaves nothing. Pass positive numbers.")


def run(config: Config) -> Report:
    """Make embeddings shorter by their principal components (PCA); nothing is trained."""
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

    def figures(model: Any) -> dict[str, Any]:
        width = model.get_sentence_embedding_dimension()
        return {
            "width": width,
            "% of variance": round(100 * components.kept(width), 2),
            **judged(model, all_judges),
            "bytes": 4 * width,
        }

    run.measure("start", lambda: figures(model))
    for shorter in dict.fromkeys(config.width):
        model = shortened(
            load(config.model, config), components, shorter, centre=config.centre, whiten=config.whiten
        )
        run.measure(f"PCA {shorter}", lambda model=model: figures(model))
    return run.finish(
        shortened(
            load(config.model, config),
            components,
            config.width[-1],
            centre=config.centre,
            whiten=config.whiten,
        )
    )


def shortened(
    model: Any, components: Components, width: int, *, centre: bool = False, whiten: float = 0.0
) -> Any:
    """A model whose embeddings are projected to their first components.

    Args:
        model: A `SentenceTransformer`; the layer is put behind it.
        components: Of its embeddings.
        width: How many components.
        centre: Take the mean away before.
        whiten: Each direction is divided by this power of its standard deviation, relative to the first.
    """
    variances = components.variances[:width] / components.variances[0]
    # A direction in which nothing differs says nothing, and must not be blown up.
    scale = np.where(variances > 1e-12, variances.clip(min=1e-12) ** (-whiten / 2), 0.0) if whiten else 1.0
    directions = components.directions[:width] * np.reshape(scale, (-1, 1))
    dense = Dense(
        directions.shape[1],
        width,
        bias=centre,
        activation_function=torch.nn.Identity(),
        init_weight=torch.from_numpy(directions.astype(np.float32)),
        init_bias=torch.from_numpy((-directions @ components.mean).astype(np.float32)) if centre else None,
    )
    is_of_length_one = has_length_one(model)
    model.append(dense.to(model.device))
    if is_of_length_one:
        model.append(Normalize())
    return model
