"""Pooling agrees with its definition for padded and packed rows, and with both forms of saved settings."""

from __future__ import annotations

import json

import pytest
import torch

from sentence_transformers.inputs.packing import PackedLayout
from sentence_transformers.modules.pooling import POOLINGS, Pooling

MODES = tuple(POOLINGS)
LENGTHS = (4, 4, 1, 7)
WIDTH = 6


def rows(dtype=torch.float32):
    """Token embeddings of each row, unpadded."""
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(length, WIDTH, generator=generator).to(dtype) for length in LENGTHS]


def by_definition(tokens, mode, first_position=1):
    """The obvious way for one row (T, D) of which all tokens count."""
    position = torch.arange(first_position, first_position + len(tokens)).to(tokens.dtype)[:, None]
    if len(tokens) == 0:
        return torch.zeros(tokens.shape[1])
    return {
        "cls": tokens[0],
        "lasttoken": tokens[-1],
        "max": tokens.max(dim=0).values,
        "mean": tokens.sum(dim=0) / len(tokens),
        "mean_sqrt_len_tokens": tokens.sum(dim=0) / len(tokens) ** 0.5,
        "weightedmean": (tokens * position).sum(dim=0) / position.sum(),
    }[mode]


def padded(tokens, *, left=False, dtype=torch.long):
    """Features of rows padded with values that must not be looked at."""
    longest = max(map(len, tokens))
    batch = torch.full((len(tokens), longest, WIDTH), 1e4, dtype=tokens[0].dtype)
    mask = torch.zeros(len(tokens), longest, dtype=dtype)
    for number, row in enumerate(tokens):
        place = slice(longest - len(row), None) if left else slice(0, len(row))
        batch[number, place], mask[number, place] = row, 1
    return {"token_embeddings": batch, "attention_mask": mask}


def packed(tokens):
    layout = PackedLayout.of([len(row) for row in tokens])
    return {"token_embeddings": torch.cat(tokens)[None], "cu_seq_lens_q": layout.cumulative()}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "lay_out", [padded, lambda rows: padded(rows, left=True), packed], ids=["right", "left", "packed"]
)
def test_a_mode_agrees_with_its_definition(mode, lay_out):
    tokens = rows()
    pooled = Pooling(WIDTH, mode)(lay_out(tokens))["sentence_embedding"]
    torch.testing.assert_close(pooled, torch.stack([by_definition(row, mode) for row in tokens]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "lay_out", [padded, lambda rows: padded(rows, left=True), packed], ids=["right", "left", "packed"]
)
@pytest.mark.parametrize("prompt", [1, 3, 4])
def test_the_prompt_s_tokens_can_be_left_out(mode, lay_out, prompt):
    # Rows with nothing but the prompt give zeros. So at 6.2.0, but for "max", which gave -inf there; 3.4.1
    # took the first token of all for "cls".
    tokens = rows()
    pooling = Pooling(WIDTH, mode, include_prompt=False)
    for length in (prompt, torch.tensor(prompt), torch.tensor([prompt] * len(tokens))):
        pooled = pooling({**lay_out(tokens), "prompt_length": length})["sentence_embedding"]
        expected = torch.stack([by_definition(row[prompt:], mode, prompt + 1) for row in tokens])
        torch.testing.assert_close(pooled, expected)
    with_it = Pooling(WIDTH, mode)({**lay_out(tokens), "prompt_length": prompt})["sentence_embedding"]
    torch.testing.assert_close(with_it, torch.stack([by_definition(row, mode) for row in tokens]))


@pytest.mark.parametrize(
    "modes", [["mean", "cls"], ["cls", "mean"], ["max", "lasttoken", "cls"], MODES], ids="+".join
)
def test_several_modes_stand_side_by_side_in_the_order_given(modes):
    tokens = rows()
    pooling = Pooling(WIDTH, modes)
    expected = torch.stack([torch.cat([by_definition(row, mode) for mode in modes]) for row in tokens])
    torch.testing.assert_close(pooling(padded(tokens))["sentence_embedding"], expected)
    torch.testing.assert_close(pooling(packed(tokens))["sentence_embedding"], expected)
    assert (
        pooling.get_sentence_embedding_dimension() == pooling.get_embedding_dimension() == WIDTH * len(modes)
    )
    assert pooling.pooling_output_dimension == WIDTH * len(modes)
    assert pooling.get_pooling_mode_str() == "+".join(modes)
    assert pooling.pooling_mode == list(modes)


def test_a_row_without_any_token_gives_zeros_in_every_mode():
    features = {
        "token_embeddings": torch.randn(2, 3, WIDTH),
        "attention_mask": torch.tensor([[0, 0, 0], [1, 1, 0]]),
    }
    pooled = Pooling(WIDTH, MODES)(features)["sentence_embedding"]
    assert not pooled[0].any()
    assert pooled[1].all()
    nothing = {"token_embeddings": torch.zeros(2, 0, WIDTH), "attention_mask": torch.zeros(2, 0)}
    assert Pooling(WIDTH, MODES)(nothing)["sentence_embedding"].equal(torch.zeros(2, WIDTH * len(MODES)))


def test_without_a_mask_all_tokens_count():
    tokens = torch.randn(2, 3, WIDTH)
    pooled = Pooling(WIDTH)({"token_embeddings": tokens})["sentence_embedding"]
    torch.testing.assert_close(pooled, tokens.mean(dim=1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_sums_keep_the_digits_and_the_type_of_the_tokens(dtype):
    tokens = [torch.full((3000, WIDTH), 30.0, dtype=dtype)]  # the sum is beyond float16
    for features in (padded(tokens), packed(tokens)):
        pooled = Pooling(WIDTH, ["mean", "weightedmean"])(features)["sentence_embedding"]
        assert pooled.dtype == dtype
        assert pooled.eq(30).all()
    precise = torch.full((1, 3, WIDTH), 1 / 3, dtype=torch.float64)
    assert Pooling(WIDTH)({"token_embeddings": precise})["sentence_embedding"].sub(1 / 3).abs().max() < 1e-15


def test_word_weights_replace_the_number_of_tokens():
    # Both references divide by the sum of weights that WordWeights leaves: 0.4 for (0 + 4) / 10.
    tokens = torch.arange(24.0).reshape(2, 3, 4)
    features = {
        "attention_mask": torch.tensor([[1, 1, 0], [1, 1, 1]]),
        "token_weights_sum": torch.tensor([10.0, 20.0]),
    }
    pooled = {
        mode: Pooling(4, mode)({"token_embeddings": tokens, **features})["sentence_embedding"][:, 0].tolist()
        for mode in ("mean", "mean_sqrt_len_tokens", "weightedmean", "cls")
    }
    assert pooled["mean"] == pytest.approx([0.4, 2.4])
    assert pooled["mean_sqrt_len_tokens"] == pytest.approx([1.2649111, 10.7331263])
    assert pooled["weightedmean"] == pytest.approx([0.8, 5.2])
    assert pooled["cls"] == [0, 12]


def test_first_tokens_that_a_custom_part_gives_are_used():
    features = {**padded(rows()), "cls_token_embeddings": torch.full((4, WIDTH), 7.0)}
    assert Pooling(WIDTH, "cls")({**features})["sentence_embedding"].eq(7).all()
    pooled = Pooling(WIDTH, ["mean", "cls", "max"])({**features})["sentence_embedding"]
    plain = Pooling(WIDTH, ["mean", "max"])(padded(rows()))["sentence_embedding"]
    torch.testing.assert_close(pooled[:, :WIDTH], plain[:, :WIDTH])
    assert pooled[:, WIDTH : 2 * WIDTH].eq(7).all()
    torch.testing.assert_close(pooled[:, 2 * WIDTH :], plain[:, WIDTH:])


# -- settings ----------------------------------------------------------------------------------------------


def test_the_average_is_the_default_and_joins_other_booleans():
    assert Pooling(WIDTH).pooling_mode == "mean"
    # As at 3.4.1; at 6.2.0 another mode takes the average away.
    assert Pooling(WIDTH, pooling_mode_cls_token=True).pooling_mode == ["cls", "mean"]
    assert Pooling(WIDTH, pooling_mode_cls_token=True, pooling_mode_mean_tokens=False).pooling_mode == "cls"
    assert Pooling(WIDTH, pooling_mode_max_tokens=True, pooling_mode_cls_token=True).pooling_mode == [
        "cls",
        "max",
        "mean",
    ]
    assert Pooling(embedding_dimension=WIDTH, pooling_mode="CLS").pooling_mode == "cls"


def test_unknown_modes_and_none_at_all_are_refused():
    with pytest.raises(ValueError, match=r"'foo'.*lasttoken"):
        Pooling(WIDTH, "foo")
    with pytest.raises(ValueError, match="No pooling mode"):
        Pooling(WIDTH, pooling_mode_mean_tokens=False)
    with pytest.raises(ValueError, match="'foo'"):
        Pooling(WIDTH).pooling_mode = "foo"


def test_modes_can_be_switched_afterwards_by_name_and_by_the_older_booleans():
    pooling = Pooling(WIDTH)
    pooling.pooling_mode_cls_token = True
    assert pooling.pooling_mode == ["cls", "mean"]
    pooling.pooling_mode_mean_tokens = False
    assert pooling.pooling_mode == "cls"
    assert pooling.pooling_mode_cls_token is True
    assert pooling.pooling_mode_mean_tokens is False
    torch.testing.assert_close(
        pooling(padded(rows()))["sentence_embedding"], torch.stack([row[0] for row in rows()])
    )
    pooling.pooling_mode = ["max", "mean"]
    assert pooling.get_pooling_mode_str() == "max+mean"


def test_settings_are_saved_in_the_older_form_key_by_key(tmp_path):
    Pooling(16).save(str(tmp_path))
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "word_embedding_dimension": 16,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
        "pooling_mode_weightedmean_tokens": False,
        "pooling_mode_lasttoken": False,
        "include_prompt": True,
    }
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_an_order_that_booleans_cannot_say_is_saved_in_the_newer_form(tmp_path):
    Pooling(16, ["mean", "cls"], include_prompt=False).save(str(tmp_path))
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "embedding_dimension": 16,
        "pooling_mode": ["mean", "cls"],
        "include_prompt": False,
    }


@pytest.mark.parametrize(
    "modes", ["mean", "cls", ["cls", "max", "mean"], ["mean", "cls"], list(MODES)], ids=str
)
@pytest.mark.parametrize("include_prompt", [True, False])
def test_saved_settings_give_the_same_pooling_again(modes, include_prompt, tmp_path):
    Pooling(16, modes, include_prompt=include_prompt).save(str(tmp_path))
    loaded = Pooling.load(str(tmp_path))
    assert (loaded.pooling_mode, loaded.word_embedding_dimension) == (modes, 16)
    assert loaded.include_prompt is include_prompt


@pytest.mark.parametrize(
    ("saved", "modes", "include_prompt"),
    [
        # Read with 6.2.0 and 3.4.1 to the same modes.
        ({"word_embedding_dimension": 16}, "mean", True),
        (
            {
                "word_embedding_dimension": 16,
                "pooling_mode_cls_token": True,
                "pooling_mode_mean_tokens": False,
            },
            "cls",
            True,
        ),
        (
            {"embedding_dimension": 16, "pooling_mode": "lasttoken", "include_prompt": False},
            "lasttoken",
            False,
        ),
        ({"embedding_dimension": 16, "pooling_mode": ["cls", "mean"]}, ["cls", "mean"], True),
        ({"embedding_dimension": 16, "pooling_mode": "mean", "from_the_future": 1}, "mean", True),
    ],
)
def test_settings_of_every_release_are_read(saved, modes, include_prompt, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(saved))
    loaded = Pooling.load(input_path=str(tmp_path))
    assert (loaded.pooling_mode, loaded.include_prompt, loaded.embedding_dimension) == (
        modes,
        include_prompt,
        16,
    )
