import logging

import numpy as np
import pytest
import torch

from sentence_transformers.tensors.precision import PRECISIONS, quantize_embeddings

X = np.array(
    [
        [-1.0, 0.0, 0.5, 2, 3, 4, 5, -6, 0.25],
        [1.0, 0.2, 0.1, -2, 0, 3, 0, 1, -0.25],
        [0, -0.2, 0.7, 0, 1, -4, 2, 1, 0],
    ],
    dtype=np.float32,
)
RANGES = np.stack([X.min(axis=0), X.max(axis=0)])

# What the reference, 6.2.0, gives for X, and for 2 * X with RANGES.
RECORDED = {
    "uint8": [
        [0, 127, 170, 254, 255, 254, 254, 0, 254],
        [254, 255, 0, 0, 0, 223, 0, 255, 0],
        [127, 0, 255, 127, 85, 0, 102, 255, 127],
    ],
    "int8": [
        [-128, -1, 42, 126, 127, 126, 126, -128, 126],
        [126, 127, -128, -128, -128, 95, -128, 127, -128],
        [-1, -128, 127, -1, -43, -128, -26, 127, -1],
    ],
    "ubinary": [[62, 128], [229, 0], [43, 0]],
    "binary": [[-66, 0], [101, -128], [-85, -128]],
}
RECORDED_OUTSIDE = {
    "uint8": [
        [0, 127, 255, 255, 255, 255, 255, 0, 255],
        [255, 255, 42, 0, 0, 255, 0, 255, 0],
        [127, 0, 255, 127, 170, 0, 204, 255, 127],
    ],
    "int8": [
        [-128, -1, 127, 127, 127, 127, 127, -128, 127],
        [127, 127, -86, -128, -128, 127, -128, 127, -128],
        [-1, -128, 127, -1, 42, -128, 76, 127, -1],
    ],
}


@pytest.fixture
def many():
    return np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32)


@pytest.mark.parametrize("precision", RECORDED)
def test_codes_agree_with_recorded_ones(precision):
    codes = quantize_embeddings(X, precision)
    assert codes.tolist() == RECORDED[precision]
    assert codes.dtype == (np.uint8 if precision.startswith("u") else np.int8)


@pytest.mark.parametrize("precision", RECORDED_OUTSIDE)
def test_values_outside_the_ranges_are_clipped(precision):
    expected = RECORDED_OUTSIDE[precision]
    assert quantize_embeddings(2 * X, precision, ranges=RANGES).tolist() == expected
    assert quantize_embeddings(2 * X, precision, calibration_embeddings=X).tolist() == expected
    assert quantize_embeddings(2 * X, precision, torch.tensor(RANGES)).tolist() == expected
    assert quantize_embeddings(2 * X, precision, RANGES, calibration_embeddings=9 * X).tolist() == expected


def test_scalar_codes_number_the_255_steps_of_each_dimension(many):
    least, largest = many.min(axis=0), many.max(axis=0)
    steps = np.trunc((many - least) / ((largest - least) / 255))
    np.testing.assert_array_equal(quantize_embeddings(many, "uint8"), steps.astype(np.uint8))
    np.testing.assert_array_equal(quantize_embeddings(many, "int8"), (steps - 128).astype(np.int8))


def test_binary_codes_pack_the_signs_of_eight_dimensions_first_one_highest(many):
    bits = (many > 0).reshape(200, 2, 8)
    codes = (bits * 2 ** np.arange(7, -1, -1)).sum(axis=-1)
    np.testing.assert_array_equal(quantize_embeddings(many, "ubinary"), codes)
    np.testing.assert_array_equal(quantize_embeddings(many, "binary"), codes - 128)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_arrays_tensors_and_lists_of_them_give_the_same_codes(precision):
    expected = quantize_embeddings(X, precision).tolist()
    for form in (torch.tensor(X), list(torch.tensor(X)), list(X), torch.tensor(X).requires_grad_()):
        assert quantize_embeddings(form, precision).tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_quantized_like_the_same_numbers_in_float32(dtype):
    half = torch.tensor(X).to(dtype)
    for precision in PRECISIONS:
        expected = quantize_embeddings(half.float(), precision)
        np.testing.assert_array_equal(quantize_embeddings(half, precision), expected)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_one_embedding_stays_one(precision):
    alone = quantize_embeddings(X[0], precision, ranges=RANGES)
    np.testing.assert_array_equal(alone, quantize_embeddings(X[:1], precision, ranges=RANGES)[0])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_input_is_left_unchanged_and_not_handed_out(precision):
    before = X.copy()
    codes = quantize_embeddings(X, precision)
    codes[:] = 0
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_embeddings_give_no_codes(precision):
    assert len(quantize_embeddings(X[:0], precision)) == 0


@pytest.mark.parametrize("precision", ["int8", "uint8"])
@pytest.mark.parametrize("alone", [X[0], X[:1], [torch.tensor(X[0])]])
def test_ranges_cannot_come_from_a_single_embedding(precision, alone):
    with pytest.raises(ValueError, match="single embedding"):
        quantize_embeddings(alone, precision)


def test_a_dimension_that_never_changes_lies_in_the_first_step():
    assert quantize_embeddings(np.ones((3, 2)), "uint8").tolist() == [[0, 0]] * 3


def test_values_that_are_no_numbers_become_the_first_step():
    values = np.array([[np.nan, 1.0], [0.5, 0.0]])
    ranges = np.array([[0.0, 0.0], [1.0, 1.0]])
    assert quantize_embeddings(values, "uint8", ranges=ranges).tolist() == [[0, 255], [127, 0]]


def test_few_embeddings_make_poor_ranges_and_a_warning(caplog, many):
    with caplog.at_level(logging.WARNING):
        quantize_embeddings(many, "int8")
        quantize_embeddings(X, "int8", ranges=RANGES)
        assert not caplog.records
        quantize_embeddings(X, "int8")
    assert "only 3 embeddings" in caplog.text


def test_wrong_arguments_are_refused_with_what_would_do():
    with pytest.raises(ValueError, match=r"'int4' is not supported.*ubinary"):
        quantize_embeddings(X, "int4")
    with pytest.raises(TypeError, match="quantised already"):
        quantize_embeddings(X.astype(np.int8), "binary")
    with pytest.raises(ValueError, match=r"shape \(2, 3\).*\(2, 9\)"):
        quantize_embeddings(X, "int8", ranges=RANGES[:, :3])
    with pytest.raises(ValueError, match="calibration_embeddings has shape"):
        quantize_embeddings(X, "int8", calibration_embeddings=X[:, :3])
