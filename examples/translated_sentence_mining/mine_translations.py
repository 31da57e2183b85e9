"""Find the sentences of two texts that are translations of each other.

    python examples/translated_sentence_mining/mine_translations.py --source FILE --target FILE [--out FILE]
    python examples/translated_sentence_mining/mine_translations.py --data FOLDER [--language de|fr|es] [--limit N]

The first form reads two plain texts, one sentence a line, and writes the pairs as lines `score TAB source TAB target`.
The second judges the method: of pairs in `parallel/en-XX/test.tsv.gz`, a third loses its translation and a third its
original, and what is left, shuffled, is mined. Use a multilingual model: --model sentence-transformers/LaBSE.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from reading import options_parser, read_table, some_of

from sentence_transformers import SentenceTransformer, util


def main() -> None:
    parser = options_parser(__doc__, limit=1000, without_data="--source and --target")
    parser.add_argument("--source", type=Path, help="sentences of the one language")
    parser.add_argument("--target", type=Path, help="sentences of the other")
    parser.add_argument("--out", type=Path, help="where the pairs are written; without it, ten are printed")
    parser.add_argument(
        "--language", default="de", help="with --data, which one is mined beside English (de)"
    )
    parser.add_argument("--margin", choices=["ratio", "distance", "absolute"], default="ratio")
    parser.add_argument("--retrieval", choices=["max", "forward", "backward", "intersection"], default="max")
    parser.add_argument("--neighbours", type=int, default=4, help="neighbours that the margin looks at (4)")
    options = parser.parse_args()
    translations: dict[str, str] = {}
    if options.data is not None:
        sources, targets, translations = partly_parallel(options.data, options.language, options.limit)
    elif options.source is not None and options.target is not None:
        sources, targets = read_lines(options.source), read_lines(options.target)
    else:
        parser.error("say what to mine: --source and --target, or --data")

    model = SentenceTransformer(options.model)
    pairs = util.bitext_mining(
        model.encode(sources, convert_to_tensor=True),
        model.encode(targets, convert_to_tensor=True),
        k=options.neighbours,
        margin=options.margin,
        retrieval=options.retrieval,
    )
    lines = [f"{score:.4f}\t{sources[first]}\t{targets[second]}" for score, first, second in pairs]
    print("\n".join(lines[:10]))
    print(f"{len(sources):,} and {len(targets):,} sentences, {len(pairs):,} pairs proposed, best first")
    if options.out is not None:
        options.out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    if translations:
        judge(
            [translations.get(sources[first]) == targets[second] for _, first, second in pairs], translations
        )


def judge(is_true: list[bool], translations: dict[str, str]) -> None:
    """Print how good the pairs are down to the place that gives the best F1."""
    best = (0.0, 0.0, 0.0, 0)
    hits = 0
    for place, is_hit in enumerate(is_true, start=1):
        hits += is_hit
        precision, recall = hits / place, hits / len(translations)
        best = max(best, (2 * precision * recall / max(precision + recall, 1e-9), precision, recall, place))
    print(f"  {hits:,} of the {len(translations):,} true pairs are among them")
    print(f"  the first {best[3]:,}: F1 {best[0]:.1%}, precision {best[1]:.1%}, recall {best[2]:.1%}")


def partly_parallel(folder: Path, language: str, limit: int) -> tuple[list[str], list[str], dict[str, str]]:
    """English sentences, foreign sentences, and the translations of those that have one."""
    rows = some_of(read_table(folder / "parallel" / f"en-{language}" / "test.tsv.gz"), limit)
    third = len(rows) // 3
    sources = [row["en"] for row in rows[: 2 * third]]
    targets = [row[language] for row in rows[third : 3 * third]]
    random.Random(0).shuffle(targets)
    return sources, targets, {row["en"]: row[language] for row in rows[third : 2 * third]}


def read_lines(path: Path) -> list[str]:
    """The lines that are not empty, each once."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return list(dict.fromkeys(line for line in lines if line))


if __name__ == "__main__":
    main()
