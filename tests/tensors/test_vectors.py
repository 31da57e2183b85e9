import numpy as np
import pytest
import torch

from sentence_transformers.tensors.vectors import (
    as_tensor,
    in_common_precision,
    normalize_embeddings,
    truncate_embeddings,
)


@pytest.mark.parametrize(
    "values",
    [
        [[1.0, 2.0], [3.0, 4.0]],
        ([1.0, 2.0], [3.0, 4.0]),
        np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32),
        [np.array([1.0, 2.0], dtype=np.float32), np.array([3.0, 4.0], dtype=np.float32)],
        [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])],
    ],
    ids=["lists", "tuple", "array", "list of arrays", "list of tensors"],
)
def test_every_form_of_numbers_is_read_as_the_same_tensor(values):
    torch.testing.assert_close(as_tensor(values), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))


def test_an_array_is_shared_and_not_copied():
    array = np.zeros(3, dtype=np.float32)
    as_tensor(array)[0] = 1.0
    assert array[0] == 1.0


def test_an_array_that_must_not_be_written_to_is_read_without_a_warning():
    array = np.ones(3, dtype=np.float32)
    array.flags.writeable = False
    assert as_tensor(array).sum() == 3


def test_the_common_precision_is_float64_only_if_one_side_has_it():
    half, integers, double = torch.ones(2).half(), torch.ones(2, dtype=torch.int8), torch.ones(2).double()
    assert [side.dtype for side in in_common_precision(half, integers)] == [torch.float32] * 2
    assert [side.dtype for side in in_common_precision(half, double)] == [torch.float64] * 2


def test_normalized_vectors_have_length_one_and_zero_stays_zero():
    normalized = normalize_embeddings(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    torch.testing.assert_close(normalized, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


def test_normalizing_keeps_the_kind_and_the_number_type():
    assert normalize_embeddings(np.array([[3.0, 4.0]])).dtype == np.float64
    assert normalize_embeddings(torch.ones(2, 4).half()).dtype == torch.float16
    assert normalize_embeddings(torch.tensor([3, 4])).dtype == torch.float32


def test_half_precision_is_normalized_without_overflow():
    # The square of 300 is above the largest half precision number.
    normalized = normalize_embeddings(torch.full((1, 4), 300.0).half())
    torch.testing.assert_close(normalized, torch.full((1, 4), 0.5).half())


@pytest.mark.parametrize("shape", [(3, 5), (5,)])
def test_sparse_vectors_are_normalized_like_dense_ones(shape):
    torch.manual_seed(0)
    dense = torch.randn(shape) * (torch.rand(shape) < 0.5)
    normalized = normalize_embeddings(dense.to_sparse())
    assert normalized.is_sparse
    torch.testing.assert_close(normalized.to_dense(), normalize_embeddings(dense))


def test_truncating_keeps_the_leading_dimensions():
    values = torch.arange(12.0).reshape(3, 4)
    assert truncate_embeddings(values, 2).tolist() == [[0, 1], [4, 5], [8, 9]]
    assert truncate_embeddings(values.numpy(), 2).tolist() == [[0, 1], [4, 5], [8, 9]]
    assert truncate_embeddings(values.to_sparse(), 2).to_dense().tolist() == [[0, 1], [4, 5], [8, 9]]
    assert [row.tolist() for row in truncate_embeddings(list(values), 1)] == [[0], [4], [8]]


def test_truncating_to_none_or_more_than_there_is_keeps_everything():
    values = torch.arange(4.0)
    assert truncate_embeddings(values, None) is values
    assert truncate_embeddings(values, 9).tolist() == values.tolist()


@pytest.mark.parametrize("width", [0, -1])
def test_truncating_to_nothing_is_refused(width):
    with pytest.raises(ValueError, match=f"truncate_dim={width}"):
        truncate_embeddings(torch.ones(2, 2), width)
