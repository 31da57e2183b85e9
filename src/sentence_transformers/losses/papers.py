"""How the paper of a loss is cited: BibTeX from its facts."""

from __future__ import annotations

from collections.abc import Sequence


def bibtex(kind: str, key: str, *, title: str, author: Sequence[str], year: int, **fields: str | int) -> str:
    """An entry for a bibliography.

    Args:
        kind: Of publication: "misc", "article", "inproceedings".
        key: The name by which it is cited.
        title: Of the paper.
        author: Names, in order.
        year: Of publication.
        **fields: Whatever else; `arxiv` gives the number there, with the class after a blank.
    """
    entries: dict[str, str | int] = {"title": title, "author": " and ".join(author), "year": year}
    number, _, subject = str(fields.pop("arxiv", "")).partition(" ")
    if number:
        entries |= {"eprint": number, "archivePrefix": "arXiv", "primaryClass": subject}
    entries |= fields
    lines = ",\n".join(f"    {name}={{{value}}}" for name, value in entries.items() if value != "")
    return f"\n@{kind}{{{key},\n{lines}\n}}\n"


def proceedings(of: str, year: int | str = "") -> str:
    """Name of the proceedings of a conference."""
    return " ".join(f"Proceedings of the {year} {of}".split())
