"""PCA: embeddings become shorter by their principal components, in a layer behind the model.

The components come from the embeddings of some texts (`principal.py`); the model is not trained. The layer is a `Dense`
without activation. Where a model gives vectors of length one, so does the shorter one: a `Normalize` follows.

The layer has no bias unless `centre` is asked for. With it, vectors are measured from the mean of the texts, which
changes all angles between them; without, a vector is its own projection, and the angles stay as near as so few
dimensions allow. With `whiten`, later directions count more than by their size (Su, Cao, Liu, Ou 2021, "Whitening
Sentence Representations for Better Semantics and Faster Retrieval", https://arxiv.org/abs/2103.15316).

With `adjust`, the components are only the start: the projection is moved until texts that stand in one row of a table
keep their cosines (`kept_cosines.py`). Components want many texts of all kinds, and pairs want to be like those that
will be compared, so `pairs` may be other tables than `texts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from sentence_transformers.recipes.running import Run, only_run
from sentence_transformers.recipes.students import has_length_one
from sentence_transformers.recipes.teaching import VECTORS, pairs_of_file, texts_of_files
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
    pairs: list[Path] = option(
        [],
        help="For adjust: tables with the texts to keep the cosines of; those of texts if none are given. "
        "All their rows count, whatever the limit.",
    )
    pair_columns: list[str] = option(
        [], help="For adjust: columns of which a row has two or more; those of columns if none are given."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.texts:
            raise ValueError("There is nothing to find components in. Pass at least one file of texts.")
        if not self.width or min(self.width) < 1:
            raise ValueError(f"width={self.width} leaves nothing. Pass positive numbers.")
        if self.adjust and self.centre:
            raise ValueError("adjust keeps cosines, which centre changes. Pass one of them.")
        for name in ("pairs", "pair_columns"):
            if getattr(self, name) and not self.adjust:
                raise ValueError(
                    f"{name} says what adjust looks at, and without it nothing does. Pass adjust=10, or leave {name} out."
                )


def run(config: Config) -> Report:
    """Make embeddings shorter by their principal components (PCA); the model is not trained."""
    model = load(config.model, config)
    width = model.get_sentence_embedding_dimension()
    if max(config.width) > width:
        raise ValueError(
            f"width={max(config.width)} is more than the {width} numbers of the model's embeddings. Pass 1 to {width}."
        )
    all_judges = judges(config.dev, config.test)
    pairs = pairs_to_keep(config) if config.adjust else []
    with only_run("pca", config) as run:

        def embed(folder: Path) -> None:
            model.encode_to(folder / VECTORS, texts_of(config), show_progress_bar=not config.quiet)

        vectors = run.step("embeddings", embed, goes_on=True) / VECTORS

        def analyse(folder: Path) -> None:
            found = principal_components(np.load(vectors, mmap_mode="r"))
            np.savez(folder / "components.npz", **vars(found))

        components = Components(**np.load(run.step("components", analyse) / "components.npz"))
        widths = list(dict.fromkeys(config.width))
        projections = {width: components.projection(width, whiten=config.whiten) for width in widths}
        if config.adjust:
            projections = adjusted(run, config, model, vectors, pairs, projections)

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


def adjusted(
    run: Run,
    config: Config,
    model: Any,
    vectors: Path,
    pairs: Sequence[tuple[str, str]],
    projections: Mapping[int, np.ndarray],
) -> dict[int, np.ndarray]:
    """Projections by their width, moved until pairs of texts keep their cosines.

    Args:
        run: The run this belongs to.
        config: What it is asked to do.
        model: Embeds the texts of `config.pairs`.
        vectors: File with the embeddings of `config.texts`, which hold the pairs if `config.pairs` is empty.
        pairs: Texts to keep the cosines of.
        projections: Where they start.
    """

    def embed(folder: Path) -> None:
        model.encode_to(folder / VECTORS, texts_in(pairs), show_progress_bar=not config.quiet)

    def adjust(folder: Path) -> None:
        number = {text: place for place, text in enumerate(texts_in(pairs) if apart else texts_of(config))}
        numbered = [(number[first], number[second]) for first, second in pairs]
        rows = np.load(vectors)
        moved = {
            str(width): keep_cosines(projection, rows, numbered, epochs=config.adjust, seed=config.seed)
            for width, projection in projections.items()
        }
        np.savez(folder / "projections.npz", **moved)  # type: ignore[arg-type]

    apart = bool(config.pairs)
    if apart:
        vectors = run.step("pairs", embed, goes_on=True) / VECTORS
    found = np.load(run.step("adjusted", adjust) / "projections.npz")
    return {width: found[str(width)] for width in projections}


def texts_of(config: Config) -> list[str]:
    """The texts that components are found in: the same ones each time."""
    return texts_of_files(config.texts, config.columns, config.limit, config.seed)


def pairs_to_keep(config: Config) -> list[tuple[str, str]]:
    """The pairs of different texts in one row; of the tables of `texts`, those whose vectors there are.

    Raises:
        ValueError: If there are none, or a table of `pairs` has none.
    """
    columns = config.pair_columns or config.columns
    found = []
    for path in config.pairs or config.texts:
        pairs = [(first, second) for first, second in pairs_of_file(path, columns) if first != second]
        if config.pairs and not pairs:
            named = ", ".join(map(repr, columns)) or "none are named"
            raise ValueError(
                f"No row of {path} holds two different texts in the columns to read ({named}). Pass a table, and two "
                "columns or more of it as pair_columns, such as --pair-columns sentence1 --pair-columns sentence2."
            )
        found += pairs
    if not config.pairs:
        texts = set(texts_of(config))
        found = [pair for pair in found if texts.issuperset(pair)]
    if not found:
        raise ValueError(
            "adjust needs texts that stand in one row of a table. Pass a table, and two columns or more of it; with "
            "pairs, it may be another one than those of texts."
        )
    return found


def texts_in(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """The texts of pairs, each once."""
    return list(dict.fromkeys(text for pair in pairs for text in pair))


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
