"""Train one start without labels in five ways, on the same sentences, and judge all of them on STSb.

    python examples/unsupervised_learning/compare.py --data FOLDER --out FOLDER [--texts N] ...

The data are the hypotheses of `nli/train.tsv.gz`, without what they were hypotheses of, or another file with
sentences, and `stsb/en/{dev,test}.tsv.gz` (sentence1, sentence2, score). The start is one of `STARTS`, or a model of
your own. Each method is a recipe and leaves its report in a folder of --out; the table goes to `table.md` there. Run
it again after an interruption, and it goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.recipes import Report, recipe
from sentence_transformers.recipes.layers import with_layers
from sentence_transformers.recipes.training import repooled

TEACHER, LAYERS = "all-MiniLM-L6-v2", (0, 1, 2)

METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "TSDAE": (
        "tsdae",
        {"learning_rate": 1e-4, "cross_attention_learning_rate": 1e-3, "batch_size": 8},
    ),
    "SimCSE": ("simcse", {"learning_rate": 5e-5, "batch_size": 32}),
    "CT": ("ct", {"learning_rate": 1e-4, "batch_size": 16, "optimizer": "adamw_torch", "epochs": 24}),
    "CT in-batch": (
        "ct",
        {"in_batch_negatives": True, "learning_rate": 1e-4, "batch_size": 32, "optimizer": "adamw_torch"},
    ),
    "MLM": ("mlm", {"learning_rate": 1e-4, "batch_size": 16}),
}
"""The recipe of each method, and what it is told beside the common settings, or instead of them."""


def main() -> None:
    options = parse_arguments()
    start = STARTS[options.start](options) if options.start in STARTS else options.start
    reports = {name: trained(name, start, options) for name in options.methods or METHODS}
    table = "\n".join(rows(reports))
    (options.out / "table.md").write_text(table + "\n", encoding="utf-8")
    print(table)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data")
    parser.add_argument("--out", type=Path, required=True, help="folder for models and reports")
    parser.add_argument(
        "--start", default="language-model", help=f"{', '.join(STARTS)}, or a model (language-model)"
    )
    parser.add_argument(
        "--start-texts", type=int, default=5000, help="how many sentences the language model reads (5000)"
    )
    parser.add_argument(
        "--sentences", default="nli/train.tsv.gz", help="file to learn from (nli/train.tsv.gz)"
    )
    parser.add_argument("--column", default=None, help="its column (hypothesis, in nli/train.tsv.gz)")
    parser.add_argument("--texts", type=int, default=3000, help="how many sentences (3000)")
    parser.add_argument("--epochs", type=float, default=1, help="passes over them (1; 24 for CT)")
    parser.add_argument("--max-length", type=int, default=64, help="tokens of a sentence (64)")
    parser.add_argument("--keep-best", action="store_true", help="keep the pass that is best on dev")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), help="only these")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--device", default=None)
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser.parse_args()


def language_model(options: argparse.Namespace) -> str:
    """A language model of another field: the first layers of the teacher, with what they knew of sentences unlearned.

    They guess masked words of medical texts, with a high learning rate. What comes out is what BERT is for whoever
    comes to it from another field: it has a head that guesses words, and pools by the mean without having learned to.
    """
    mlm = recipe("mlm")
    config = mlm.Config(
        model=reduced(options.out / "first-layers", new_layers=0, seed=options.seed),
        texts=options.data / "text" / "medical.txt.gz",
        out=options.out / "language-model",
        limit=options.start_texts,
        max_length=options.max_length,
        learning_rate=1e-3,
        seed=options.seed,
        device=options.device,
        quiet=options.quiet,
        test=[options.data / "stsb" / "en" / "test.tsv.gz"],
    )
    return str(mlm.run(config).folder / "steps" / mlm.CHECKPOINT)


def new_layers(options: argparse.Namespace) -> str:
    """The word embeddings of the teacher under layers that have learned nothing."""
    return reduced(options.out / "new-layers", new_layers=len(LAYERS), seed=options.seed)


STARTS: Mapping[str, Callable[[argparse.Namespace], str]] = {
    "language-model": language_model,
    "new-layers": new_layers,
}
"""Models that were not trained on sentences, by name; each gives its folder."""


def reduced(folder: Path, *, new_layers: int, seed: int) -> str:
    """The first layers of the teacher, some of them made anew, saved once."""
    if not (folder / "modules.json").is_file():
        model = with_layers(SentenceTransformer(TEACHER), LAYERS, reset_last=new_layers, seed=seed)
        repooled(model, "mean").save_pretrained(str(folder))
    return str(folder)


def trained(name: str, start: str, options: argparse.Namespace) -> Report:
    """The report of one method."""
    module_name, settings = METHODS[name]
    module = recipe(module_name)
    common: dict[str, Any] = {
        "model": start,
        "texts": options.data / options.sentences,
        "column": options.column or ("hypothesis" if "nli" in options.sentences else None),
        "dev": options.data / "stsb" / "en" / "dev.tsv.gz",
        "test": [options.data / "stsb" / "en" / "test.tsv.gz"],
        "out": options.out / name.lower().replace(" ", "-"),
        "limit": options.texts,
        "epochs": options.epochs,
        "max_length": options.max_length,
        "pooling": "mean",
        "keep_best": options.keep_best,
        "seed": options.seed,
        "device": options.device,
        "quiet": options.quiet,
    }
    return module.run(module.Config(**{**common, **settings}))


def rows(reports: Mapping[str, Report]) -> list[str]:
    """One table of all reports, the start first, in Markdown."""
    lines = ["| model | dev | test | dev after each epoch | seconds |", "| --- | --- | --- | --- | --- |"]
    before = next(iter(reports.values())).row("start")
    lines.append(f"| start | {figure(before, 'dev')} | {figure(before, 'test')} | | |")
    for name, report in reports.items():
        after = report.row(name)
        epochs = " ".join(f"{entry['dev']:.2f}" for entry in report.curves["training"] if "dev" in entry)
        seconds = f"{report.seconds['training']:.0f}"
        lines.append(f"| {name} | {figure(after, 'dev')} | {figure(after, 'test')} | {epochs} | {seconds} |")
    return lines


def figure(row: Mapping[str, Any], split: str) -> str:
    """The figure of a row that was measured on a split."""
    return next(f"{value:.2f}" for name, value in row.items() if f" {split} " in f" {name} ")


if __name__ == "__main__":
    main()
