"""Saved models cross over: what one library saves, the other loads, with equal weights and equal results.

    python benchmarks/compatibility.py [--only WORDS] [--keep FOLDER]

Every combination of modules is built and saved by this project, by the reference's newest release and by its
last 3.x release, each in an environment of its own, and then loaded by the others. Compared are the vectors
of some texts (up to 1e-5), the weights (bit for bit) and the settings. Where the two releases of the reference
read a folder differently, the newer one's reading is the right one. Writes results/compatibility.json.
Exit status 1 when something differs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import REFERENCES, RESULTS, ROOT, Worker, machine, minilm_folder, workers

OURS = "ours"
EQUAL, ABSENT = "equal", "not in this release"
LIKE_REFERENCE = "as the newer reference reads it"
FINE = (EQUAL, ABSENT, LIKE_REFERENCE)
ALLOWED = 1e-5
FAMILIES = (
    "bert",
    "roberta",
    "xlm-roberta",
    "mpnet",
    "distilbert",
    "electra",
    "albert",
    "modernbert",
    "deberta-v2",
    "t5",
    "qwen3",
)
CROSSINGS = (
    (OURS, OURS),
    (OURS, "reference"),
    (OURS, "reference 3.4"),
    ("reference", OURS),
    ("reference 3.4", OURS),
)
KNOWN = {
    (
        "BoW + Dense",
        "reference 3.4",
    ): "the older release puts a vocabulary into another order in every process",
}
"""Combinations that a library does not even read from itself in the same way, and why."""

PICKLED = "Transformer + Pooling + 2 Dense + Normalize, pickled weights"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="only combinations whose name contains this")
    parser.add_argument("--keep", type=Path, help="folder in which the saved models are kept")
    options = parser.parse_args()

    with folder_for_models(options.keep) as folder:
        base = make_base_models(folder)
        pythons = {OURS: Path(sys.executable), **REFERENCES}
        with workers(pythons, "compatibility_worker.py") as libraries:
            rows = list(cross(libraries, base, folder, options.only))
    worst = max((row["difference"] for row in rows if "difference" in row), default=0.0)
    wrong = [row for row in rows if row["outcome"] not in FINE]
    print(f"\n{len(rows)} crossings, {len(wrong)} of them wrong; largest difference {worst:.1e}")
    if not options.only:
        results = {"machine": machine(), "allowed_difference": ALLOWED, "crossings": rows}
        path = RESULTS / "compatibility.json"
        path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        print(f"Written to {path.relative_to(ROOT)}.")
    sys.exit(bool(wrong))


@contextlib.contextmanager
def folder_for_models(keep: Path | None) -> Iterator[Path]:
    """The folder that is to be kept, or one that goes with the block."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def make_base_models(folder: Path) -> dict[str, str]:
    """Transformers checkpoints that the models are built on: tiny ones, and the real MiniLM."""
    sys.path.insert(0, str(ROOT / "tests"))
    from tiny import tiny_checkpoint

    base = {family: str(tiny_checkpoint(family, folder / "base" / family)) for family in FAMILIES}
    base["minilm"] = str(minilm_folder())
    base["clip"] = str(tiny_clip(folder / "base" / "clip"))
    return base


def tiny_clip(folder: Path) -> Path:
    """A CLIP checkpoint with random weights and a vocabulary of letters."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    layers = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    start, end = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]
    text = {
        **layers,
        "vocab_size": len(pieces),
        "bos_token_id": start,
        "eos_token_id": end,
        "pad_token_id": end,
    }
    vision = {**layers, "image_size": 32, "patch_size": 8}
    torch.manual_seed(5)
    config = CLIPConfig(
        text_config={**text, "max_position_embeddings": 256}, vision_config=vision, projection_dim=24
    )
    CLIPModel(config).eval().save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    tokenizer = CLIPTokenizerFast(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        model_max_length=256,
        pad_token="<|endoftext|>",
    )
    CLIPProcessor(image_processor=CLIPImageProcessor(**sizes), tokenizer=tokenizer).save_pretrained(folder)
    return folder


def cross(
    libraries: dict[str, Worker], base: dict[str, str], folder: Path, only: str
) -> Iterator[dict[str, Any]]:
    """Save each combination with each library and load it with the others; one row for each crossing."""
    combinations = libraries[OURS].ask("names")["names"]
    for number, name in enumerate([*combinations, PICKLED]):
        if only.lower() not in name.lower():
            continue
        print(f"\n{name}")
        savers = ["reference 3.4"] if name == PICKLED else list(libraries)
        places = {saver: folder / "saved" / f"{number:02d} {saver}" for saver in savers}
        saved = {saver: save(libraries[saver], name, base, place) for saver, place in places.items()}
        for saver, loader in CROSSINGS:
            if saver not in savers:
                continue
            if saved[saver].get("absent") or saved.get(loader, {}).get("absent"):
                result: dict[str, Any] = {"outcome": ABSENT}
            elif (name, loader) in KNOWN:
                result = {"outcome": ABSENT, "why": KNOWN[name, loader]}
            else:
                loaded = load(libraries[loader], places[saver])
                result = compare(saved[saver], loaded)
                if (saver, loader) == ("reference 3.4", OURS) and result["outcome"] not in FINE:
                    newer = load(libraries["reference"], places[saver])
                    if compare(newer, loaded)["outcome"] == EQUAL:
                        result = {"differs_in": result["outcome"], "outcome": LIKE_REFERENCE}
            difference = f"{result['difference']:.1e}" if "difference" in result else ""
            said = result.get("why", result["outcome"])
            print(f"  {saver:>13} -> {loader:<13}  {difference:>8}  {said}", flush=True)
            yield {"combination": name, "saved_by": saver, "loaded_by": loader, **result}


def load(library: Worker, place: Path) -> dict[str, Any]:
    """What a library says of a saved model."""
    try:
        return library.ask("load", folder=str(place))
    except RuntimeError as error:
        return {"failed": f"not loaded: {error}"}


def save(library: Worker, name: str, base: dict[str, str], place: Path) -> dict[str, Any]:
    """What a library says of a model that it has built and saved."""
    try:
        if name == PICKLED:
            return library.ask("save_pickled", base=base, folder=str(place))
        return library.ask("save", name=name, base=base, folder=str(place))
    except RuntimeError as error:
        return {"failed": f"not saved: {error}"}


def compare(saved: dict[str, Any], loaded: dict[str, Any]) -> dict[str, Any]:
    """What became of a model on its way from one library to the other."""
    for side in (saved, loaded):
        if "failed" in side:
            return {"outcome": side["failed"]}
    if saved["vectors"].keys() != loaded["vectors"].keys():
        return {"outcome": f"ways to encode differ: {sorted(saved['vectors'])}, {sorted(loaded['vectors'])}"}
    if json.dumps(saved["vectors"]) == json.dumps(loaded["vectors"]):
        difference = 0.0  # Also where both say that a value is no number.
    else:
        difference = max(
            float(np.abs(np.array(saved["vectors"][how]) - np.array(loaded["vectors"][how])).max())
            for how in saved["vectors"]
        )
    has_equal_weights = saved["weights"] == loaded["weights"]
    settings = [
        f"{key} {saved['settings'][key]!r} became {value!r}"
        for key, value in loaded["settings"].items()
        # The older release does not know the length limit or the width of every module.
        if value is not None and value != saved["settings"][key]
    ]
    problems = [
        *([] if difference <= ALLOWED else ["vectors differ"]),
        *([] if has_equal_weights else ["weights differ"]),
        *settings,
    ]
    return {
        "difference": difference,
        "has_equal_weights": has_equal_weights,
        "outcome": "; ".join(problems) or EQUAL,
    }


if __name__ == "__main__":
    main()
