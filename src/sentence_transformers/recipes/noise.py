"""Damaged copies of texts, for methods that learn to mend them.

The copy of a text depends on the seed, the pass and the text's place alone, so a run that was killed goes on with
the very same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sentence_transformers.datasets.denoising_auto_encoder import WORD

Words = list[tuple[str, str]]
"""Words and punctuation marks of a text, each behind the white space before it."""


def delete(words: Words, ratio: float, chance: np.random.Generator) -> Words:
    """Leave words out, but never all."""
    is_kept = chance.random(len(words)) >= ratio
    if not is_kept.any():
        is_kept[chance.integers(len(words))] = True
    return [word for word, kept in zip(words, is_kept, strict=True) if kept]


def swap(words: Words, ratio: float, chance: np.random.Generator) -> Words:
    """Let words change places among themselves."""
    places = np.flatnonzero(chance.random(len(words)) < ratio)
    changed = list(words)
    for place, other in zip(places, chance.permutation(places), strict=True):
        changed[place] = (words[place][0], words[other][1])
    return changed


def repeat(words: Words, ratio: float, chance: np.random.Generator) -> Words:
    """Put words of the same text between its words."""
    changed: Words = []
    for word in words:
        changed.append(word)
        if chance.random() < ratio:
            changed.append((" ", words[chance.integers(len(words))][1]))
    return changed


NOISES: Mapping[str, Callable[[Words, float, np.random.Generator], Words]] = {
    "delete": delete,
    "swap": swap,
    "repeat": repeat,
}
"""The ways to damage a text, by name."""


def noisy(texts: Sequence[str], *, kind: str, ratio: float, seed: int, number: int = 0) -> list[str]:
    """A damaged copy of each text.

    Args:
        texts: The texts.
        kind: One of `NOISES`.
        ratio: Share of the words that it strikes, 0 to 1.
        seed: Of the damage.
        number: Of the pass; the damage of each is another.

    Returns:
        The copies. A text without words stays as it is.

    Raises:
        ValueError: If there is no such damage, or the ratio is no share.
    """
    if kind not in NOISES:
        raise ValueError(f"noise={kind!r} is not known. Known: {', '.join(NOISES)}.")
    if not 0 <= ratio <= 1:
        raise ValueError(f"noise_ratio={ratio} is no share of the words. Pass 0 to 1.")
    damage = NOISES[kind]
    copies = []
    for place, text in enumerate(texts):
        words = WORD.findall(text)
        if words:
            words = damage(words, ratio, np.random.default_rng((seed, number, place)))
        copies.append("".join(space + word for space, word in words).lstrip() if words else text)
    return copies
