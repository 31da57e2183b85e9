"""Saved cross-encoders cross over: what one library saves, the other loads, with equal scores.

    python benchmarks/compatibility_cross_encoder.py

Tiny cross-encoders of several architectures, with one and three labels, a shortened maximum length and an
activation of their own, are saved by this project, by the reference's newest release and by its last 3.x
release, each in an environment of its own, and loaded by the others. Compared are scores (up to 1e-5), the
number of labels, and what a model says of its activation. 3.4 saves neither the activation nor the maximum
length; there the models are as their checkpoints are. Writes results/compatibility-cross-encoder.json. Exit
status 1 when something differs.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import REFERENCES, RESULTS, ROOT, Worker, machine, workers

OURS = "ours"
OLDER = "reference 3.4"
ALLOWED = 1e-5
FAMILIES = ("bert", "roberta", "xlm-roberta", "distilbert", "electra", "mpnet", "albert", "modernbert")
LABELS = (1, 3)
CROSSINGS = ((OURS, OURS), (OURS, "reference"), (OURS, OLDER), ("reference", OURS), (OLDER, OURS))


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        workers(
            {OURS: Path(sys.executable), **REFERENCES}, "compatibility_cross_encoder_worker.py"
        ) as libraries,
    ):
        rows = list(cross(libraries, Path(folder)))
    worst = max(row["difference"] for row in rows if "difference" in row)
    wrong = [row for row in rows if row["outcome"] != "equal"]
    print(f"\n{len(rows)} crossings, {len(wrong)} of them wrong; largest difference {worst:.1e}")
    results = {"machine": machine(), "allowed_difference": ALLOWED, "crossings": rows}
    path = RESULTS / "compatibility-cross-encoder.json"
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(f"Written to {path.relative_to(ROOT)}.")
    sys.exit(bool(wrong))


def cross(libraries: dict[str, Worker], folder: Path) -> Iterator[dict[str, Any]]:
    """Save each model with each library and load it with the others; one row for each crossing."""
    sys.path.insert(0, str(ROOT / "tests"))
    from cross_encoder_cases import tiny_classifier

    for family in FAMILIES:
        for labels in LABELS:
            name = f"{family}, {labels}"
            base = str(tiny_classifier(family, folder / "base" / name, labels))
            print(f"\n{family}, labels: {labels}")
            places = {saver: str(folder / "saved" / f"{name} {saver}") for saver in libraries}
            saved = {
                saver: library.ask("save", base=base, folder=places[saver])
                for saver, library in libraries.items()
            }
            for saver, loader in CROSSINGS:
                try:
                    loaded = libraries[loader].ask("load", folder=places[saver])
                    result = compare(saved[saver], loaded)
                except RuntimeError as error:
                    result = {"outcome": f"not loaded: {error}"}
                difference = f"{result['difference']:.1e}" if "difference" in result else ""
                print(f"  {saver:>13} -> {loader:<13}  {difference:>8}  {result['outcome']}", flush=True)
                yield {"family": family, "labels": labels, "saved_by": saver, "loaded_by": loader, **result}


def compare(saved: dict[str, Any], loaded: dict[str, Any]) -> dict[str, Any]:
    """What became of a model on its way from one library to the other."""
    difference = float(np.abs(np.array(saved["scores"]) - np.array(loaded["scores"])).max())
    problems = [
        *([] if difference <= ALLOWED else ["scores differ"]),
        *(
            f"{key} {saved[key]!r} became {loaded[key]!r}"
            for key in ("labels", "activation")
            if saved[key] != loaded[key]
        ),
    ]
    return {"difference": difference, "outcome": "; ".join(problems) or "equal"}


if __name__ == "__main__":
    main()
