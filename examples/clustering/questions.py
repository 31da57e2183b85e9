"""What the examples of clustering share: the questions, how clusters are printed, and how they are judged.

The questions are those of `banking77/test.tsv.gz`, which people sorted by what they want, or those of the sample
of questions about health, sorted by what they ask for (symptoms, treatment, ...).
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from reading import options_parser, questions_and_answers, read_table, some_of

try:
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
except ImportError:
    raise SystemExit("The examples of clustering need scikit-learn: pip install scikit-learn") from None


def parser_for(description: str | None) -> argparse.ArgumentParser:
    return options_parser(description, limit=3080)


def read_questions(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Questions, each once, and the label of each."""
    if options.data is None:
        rows = [{"text": row["question"], "label": row["type"]} for row in questions_and_answers(None, 10**6)]
    else:
        rows = read_table(options.data / "banking77" / "test.tsv.gz")
    rows = some_of(list({row["text"]: row for row in rows}.values()), options.limit)
    return [row["text"] for row in rows], [row["label"] for row in rows]


def grouped(texts: Sequence[str], clusters: Sequence[int]) -> list[list[str]]:
    """The texts of each cluster, the largest cluster first."""
    texts_by_cluster: dict[int, list[str]] = defaultdict(list)
    for text, cluster in zip(texts, clusters, strict=True):
        texts_by_cluster[cluster].append(text)
    return sorted(texts_by_cluster.values(), key=len, reverse=True)


def report(texts: Sequence[str], labels: Sequence[str], clusters: Sequence[int]) -> None:
    """Print some texts of the largest clusters, and how the clusters agree with the labels."""
    groups = grouped(texts, clusters)
    for number, group in enumerate(groups[:5], start=1):
        print(f"cluster {number}, {len(group)} texts")
        for text in group[:3]:
            print(f"  {text}")
    print(f"{len(texts):,} texts of {len(set(labels))} labels in {len(groups)} clusters")
    print(f"  adjusted Rand index            {adjusted_rand_score(labels, clusters):.3f}")
    print(f"  normalised mutual information  {normalized_mutual_info_score(labels, clusters):.3f}")
