"""Search images with words, and with another image.

    python examples/image_search/search_images.py --images FOLDER [--model NAME] [--limit N] [--query TEXT ...]

The model embeds texts and images in one space, as those of CLIP do. Where the folder holds `captions.tsv` with the
columns `file` and `caption`, each caption is searched for, and the share of those that find their image is printed.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from sentence_transformers import SentenceTransformer, util

try:
    from PIL import Image
except ImportError:
    raise SystemExit("This example needs Pillow: pip install Pillow") from None

TOP = 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True, help="folder of JPEG or PNG files")
    parser.add_argument("--model", default="clip-ViT-B-32", help="name or folder (clip-ViT-B-32)")
    parser.add_argument("--limit", type=int, default=10_000, help="use only that many images (10,000)")
    parser.add_argument(
        "--query", nargs="+", default=["a pair of shoes", "something to wear in the rain"], metavar="TEXT"
    )
    options = parser.parse_args()
    paths = sorted(
        path for path in options.images.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png")
    )
    paths = paths[: options.limit]
    if not paths:
        parser.error(f"{options.images} holds no JPEG or PNG files")

    model = SentenceTransformer(options.model)
    images = model.encode([read(path) for path in paths], convert_to_tensor=True)  # (N, D)
    queries = model.encode(options.query, convert_to_tensor=True)  # (Q, D)
    for query, hits in zip(options.query, util.semantic_search(queries, images, top_k=TOP), strict=True):
        print(query)
        print_hits(hits, paths)
    print(f"like {paths[0].name}")
    print_hits(util.semantic_search(images[:1], images, top_k=TOP + 1)[0][1:], paths)

    captions = read_captions(options.images / "captions.tsv", paths)
    print(f"{len(paths)} images, {len(captions)} captions")
    if captions:
        embeddings = model.encode(list(captions.values()), convert_to_tensor=True)
        found = util.semantic_search(embeddings, images, top_k=5)
        for count in (1, 5):
            right = [
                name in {paths[hit["corpus_id"]].name for hit in hits[:count]}
                for name, hits in zip(captions, found, strict=True)
            ]
            print(f"  the image of a caption is among the first {count}: {sum(right) / len(right):.1%}")


def read(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def print_hits(hits: list[dict[str, int | float]], paths: list[Path]) -> None:
    for hit in hits:
        print(f"  {hit['score']:.4f}  {paths[hit['corpus_id']].name}")


def read_captions(path: Path, images: list[Path]) -> dict[str, str]:
    """File name -> caption of the images in use; empty where there is no such table."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    names = {image.name for image in images}
    return {row["file"]: row["caption"] for row in rows if row["file"] in names}


if __name__ == "__main__":
    main()
