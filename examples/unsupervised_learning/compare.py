"""Train one start without labels in five ways, on the same sentences, and judge all of them on STSb.

    python examples/unsupervised_learning/compare.py --data FOLDER --out FOLDER [--texts N] ...

The data are the hypotheses of `nli/train.tsv.gz`, without what they were hypotheses of, or another file with
sentences, and `stsb/en/{dev,test}.tsv.gz` (sentence1, sentence2, score). The start is all-MiniLM-L6-v2 with three
of its six layers, all of them made anew, so that its word embeddings are all it knows; or a model of your own.
Each method is a recipe and leaves its report in a folder of --out; the table goes to `table.md` there. Run it again
after an interruption, and it goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.recipes import Report, recipe
from sentence_transformers.recipes.layers import with_layers
from sentence_transformers.recipes.training import repooled

TEACHER = "all-MiniLM-L6-v2"

METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "TSDAE": ("tsdae", {"learning_rate": 2e-4, "batch_size": 16}),
    "SimCSE": ("simcse", {"learning_rate": 5e-5, "batch_size": 32}),
    "CT": ("ct", {"learning_rate": 3e-5, "batch_size": 16}),
    "CT in-batch": (
        "ct",
        {"in_batch_negatives": True, "learning_rate": 1e-4, "batch_size": 32, "optimizer": "adamw_torch"},
    ),
    "MLM": ("mlm", {"learning_rate": 2e-4, "batch_size": 16}),
}
"""The recipe of each method, and what it is told beside the common settings."""


def main() -> None:
    options = parse_arguments()
    start = options.start or made_start(options.out / "start", options.new_layers, options.seed)
    reports = {name: trained(name, start, options) for name in options.methods or METHODS}
    table = "\n".join(rows(reports))
    (options.out / "table.md").write_text(table + "\n", encoding="utf-8")
    print(table)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data")
    parser.add_argument("--out", type=Path, required=True, help="folder for models and reports")
    parser.add_argument("--start", default=None, help="the model to start from, instead of the one made here")
    parser.add_argument("--new-layers", type=int, default=3, help="layers of the start made anew (3 of 3)")
    parser.add_argument(
        "--sentences", default="nli/train.tsv.gz", help="file to learn from (nli/train.tsv.gz)"
    )
    parser.add_argument("--column", default=None, help="its column (hypothesis, in nli/train.tsv.gz)")
    parser.add_argument("--texts", type=int, default=3000, help="how many sentences (3000)")
    parser.add_argument("--epochs", type=float, default=1, help="passes over them (1)")
    parser.add_argument("--max-length", type=int, default=64, help="tokens of a sentence (64)")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), help="only these")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--device", default=None)
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser.parse_args()


def made_start(folder: Path, new_layers: int, seed: int) -> str:
    """A model that has lost most of what it knew of sentences, saved once."""
    if not (folder / "modules.json").is_file():
        model = with_layers(SentenceTransformer(TEACHER), [0, 1, 2], reset_last=new_layers, seed=seed)
        repooled(model, "mean").save_pretrained(str(folder))
    return str(folder)


def trained(name: str, start: str, options: argparse.Namespace) -> Report:
    """The report of one method."""
    module_name, settings = METHODS[name]
    module = recipe(module_name)
    config = module.Config(
        model=start,
        texts=options.data / options.sentences,
        column=options.column or ("hypothesis" if "nli" in options.sentences else None),
        dev=options.data / "stsb" / "en" / "dev.tsv.gz",
        test=[options.data / "stsb" / "en" / "test.tsv.gz"],
        out=options.out / name.lower().replace(" ", "-"),
        limit=options.texts,
        epochs=options.epochs,
        max_length=options.max_length,
        pooling="mean",
        seed=options.seed,
        device=options.device,
        quiet=options.quiet,
        **settings,
    )
    return module.run(config)


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
