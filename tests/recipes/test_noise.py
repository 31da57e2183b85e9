"""Damaged copies of texts: what each damage does, and that it depends on seed, pass and place alone."""

from __future__ import annotations

from collections import Counter

import pytest

from sentence_transformers.recipes.noise import NOISES, noisy

LONG = " ".join(f"word{number}" for number in range(2000))


def damaged(text: str, kind: str, ratio: float = 0.6, **options: int) -> str:
    return noisy([text], kind=kind, ratio=ratio, **{"seed": 1, **options})[0]


@pytest.mark.parametrize("kind", NOISES)
def test_damage_depends_on_seed_pass_and_place_alone(kind):
    first = noisy([LONG, LONG], kind=kind, ratio=0.5, seed=1, number=2)
    assert noisy([LONG, LONG], kind=kind, ratio=0.5, seed=1, number=2) == first
    assert noisy(["another text", LONG], kind=kind, ratio=0.5, seed=1, number=2)[1] == first[1]
    others = [
        first[1],
        noisy([LONG], kind=kind, ratio=0.5, seed=1, number=3)[0],
        noisy([LONG], kind=kind, ratio=0.5, seed=2, number=2)[0],
    ]
    assert all(other != first[0] for other in others)


@pytest.mark.parametrize("kind", NOISES)
def test_a_ratio_of_0_leaves_a_text_as_it_is(kind):
    assert damaged("Nothing happens, at all.", kind, 0.0) == "Nothing happens, at all."


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("text", ["", "   "])
def test_a_text_without_words_stays_as_it_is(kind, text):
    assert damaged(text, kind) == text


def test_deleting_keeps_the_order_and_the_asked_for_share():
    left = damaged(LONG, "delete").split()
    words = LONG.split()
    places = [words.index(word) for word in left]
    assert places == sorted(places)
    assert len(left) / len(words) == pytest.approx(0.4, abs=0.05)


def test_deleting_everything_leaves_one_word():
    assert damaged("one two three", "delete", 1.0) in ("one", "two", "three")


def test_swapping_keeps_all_words_and_leaves_the_asked_for_share_in_place():
    words, changed = LONG.split(), damaged(LONG, "swap").split()
    assert Counter(changed) == Counter(words)
    stayed = sum(word == other for word, other in zip(words, changed, strict=True))
    assert stayed / len(words) == pytest.approx(0.4, abs=0.05)


def test_repeating_adds_the_asked_for_share_of_the_texts_own_words():
    words, changed = LONG.split(), damaged(LONG, "repeat").split()
    assert set(changed) == set(words)
    assert len(changed) / len(words) == pytest.approx(1.6, abs=0.05)
    rest = iter(changed)
    assert all(word in rest for word in words)  # those of the text in their order


def test_an_unknown_damage_is_refused():
    with pytest.raises(ValueError, match=r"noise='burn'.*delete, swap, repeat"):
        noisy(["a"], kind="burn", ratio=0.5, seed=1)


@pytest.mark.parametrize("ratio", [-0.1, 1.1])
def test_a_ratio_that_is_no_share_is_refused(ratio):
    with pytest.raises(ValueError, match="noise_ratio"):
        noisy(["a"], kind="delete", ratio=ratio, seed=1)
