"""Embed real answers about health, find those that belong to three questions, and draw a picture.

    python examples/demo.py [--out FOLDER] [--texts N]

Prints the passages found with their scores and the speed reached, and writes `similarity.png`, the cosine
similarity of some questions to each other, into the folder (`out/` if none is named).
"""

from __future__ import annotations

import argparse
import csv
import gzip
import textwrap
import time
from pathlib import Path

from sentence_transformers import SentenceTransformer

DATA = Path(__file__).parent / "data" / "medquad-sample.tsv.gz"

QUESTIONS = [
    "My big toe is suddenly swollen and hurts a lot. What could it be?",
    "How do I keep stones from forming in my kidneys again?",
    "What can older people do so that they hear better?",
]

TO_COMPARE = [
    "What are the symptoms of a heart attack?",
    "How do I know that my heart is in danger?",
    "How to lower high blood pressure?",
    "Which foods bring my blood pressure down?",
    "What causes gout?",
    "Why does my toe hurt at night?",
    "Who won the football match yesterday?",
]


def main() -> None:
    parser = argparse.ArgumentParser(description="Embed real text, search it, draw the similarity matrix.")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the picture")
    parser.add_argument("--texts", type=int, default=None, help="embed only that many answers")
    options = parser.parse_args()

    model = SentenceTransformer("all-MiniLM-L6-v2")
    passages = read_answers(DATA)[: options.texts]
    print(f"Embedding {len(passages)} answers on {model.device} ...")
    model.encode(QUESTIONS)  # The first call pays for starting up.
    started = time.perf_counter()
    embeddings = model.encode(passages, show_progress_bar=True)  # (N, D)
    seconds = time.perf_counter() - started

    print_answers(model, embeddings, passages)
    tokens = count_tokens(model, passages)
    print(
        f"Reached {len(passages) / seconds:,.0f} texts/s and {tokens / seconds:,.0f} tokens/s "
        f"({len(passages)} texts, {tokens:,} tokens, {seconds:.2f} s)."
    )
    draw_similarities(model, TO_COMPARE, options.out / "similarity.png")


def read_answers(path: Path) -> list[str]:
    """The answers of the sample, in the file's order."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return [row["answer"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def print_answers(model: SentenceTransformer, embeddings, passages: list[str]) -> None:
    """For each question, the three passages that are nearest to it."""
    scores = model.similarity(model.encode(QUESTIONS), embeddings)  # (Q, N)
    best = scores.topk(3, dim=1)
    for question, values, rows in zip(QUESTIONS, best.values.tolist(), best.indices.tolist(), strict=True):
        print(f"\n{question}")
        for score, row in zip(values, rows, strict=True):
            print(f"  {score:.4f}  {textwrap.shorten(passages[row], 110, placeholder=' ...')}")
    print()


def count_tokens(model: SentenceTransformer, texts: list[str]) -> int:
    """How many tokens the model saw: those of the texts, each up to the model's limit."""
    rows = model.tokenizer(texts, truncation=True, max_length=model.max_seq_length)["input_ids"]
    return sum(len(ids) for ids in rows)


def draw_similarities(model: SentenceTransformer, texts: list[str], path: Path) -> None:
    """Write a picture of the similarity of each text to each other."""
    try:
        import matplotlib
    except ImportError:
        print("No picture drawn, since matplotlib is not installed: pip install matplotlib")
        return
    matplotlib.use("agg")
    from matplotlib import pyplot

    embeddings = model.encode(texts)
    similarities = model.similarity(embeddings, embeddings)  # (N, N)
    figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
    image = axes.imshow(similarities, vmin=0, vmax=1, cmap="viridis")
    for row, values in enumerate(similarities.tolist()):
        for column, value in enumerate(values):
            axes.text(
                column, row, f"{value:.2f}", ha="center", va="center", color="k" if value > 0.6 else "w"
            )
    axes.set_yticks(range(len(texts)), texts)
    axes.set_xticks([])
    figure.colorbar(image, label="cosine similarity")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
    print(f"The similarity of {len(texts)} questions to each other: {path}")


if __name__ == "__main__":
    main()
