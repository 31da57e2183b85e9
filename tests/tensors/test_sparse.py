import numpy as np
import pytest
import torch

from sentence_transformers.tensors.sparse import compute_count_vector, select_max_active_dims, to_scipy_coo

EMBEDDINGS = torch.tensor([[1.0, -5, 0, 3], [0, 0, 2, 0]])


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_dimensions_are_counted_where_they_are_active():
    for embeddings in (EMBEDDINGS, EMBEDDINGS.to_sparse(), EMBEDDINGS.to_sparse_csr()):
        counts = compute_count_vector(embeddings)
        assert counts.dtype == torch.int32
        assert counts.tolist() == [1, 1, 1, 1]
    assert compute_count_vector(EMBEDDINGS[0]).tolist() == [1, 1, 0, 1]


def test_zeros_that_a_sparse_tensor_holds_are_not_active():
    explicit = torch.sparse_coo_tensor([[0, 0], [1, 2]], [0.0, 2.0], (1, 4), check_invariants=True)
    assert compute_count_vector(explicit).tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("form", [lambda x: x, lambda x: x.numpy(), lambda x: x.to_sparse()])
def test_the_strongest_dimensions_are_kept_by_absolute_value(form):
    kept = select_max_active_dims(form(EMBEDDINGS.clone()), 2)
    kept = kept.to_dense() if kept.is_sparse else kept
    assert kept.tolist() == [[0, -5, 0, 3], [0, 0, 2, 0]]


def test_selecting_leaves_the_input_unchanged():
    embeddings = EMBEDDINGS.clone()
    select_max_active_dims(embeddings, 1)
    assert embeddings.tolist() == EMBEDDINGS.tolist()


def test_of_equal_values_no_more_are_kept_than_asked_for():
    assert (select_max_active_dims(torch.ones(3, 10), 4) != 0).sum(dim=1).tolist() == [4, 4, 4]


def test_none_and_more_than_there_are_keep_everything():
    assert select_max_active_dims(EMBEDDINGS, None) is EMBEDDINGS
    assert select_max_active_dims(EMBEDDINGS, 99).tolist() == EMBEDDINGS.tolist()
    assert select_max_active_dims(EMBEDDINGS[0], 1).tolist() == [0, -5, 0, 0]


def test_gradients_flow_to_what_is_kept_only():
    embeddings = EMBEDDINGS.clone().requires_grad_()
    select_max_active_dims(embeddings, 1).sum().backward()
    assert embeddings.grad.tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]]


def test_keeping_nothing_is_refused():
    with pytest.raises(ValueError, match="max_active_dims=0"):
        select_max_active_dims(EMBEDDINGS, 0)


@pytest.mark.parametrize("form", [lambda x: x, lambda x: x.to_sparse(), lambda x: x.half().to_sparse()])
def test_scipy_matrices_hold_the_same_values(form):
    matrix = to_scipy_coo(form(EMBEDDINGS))
    assert matrix.shape == (2, 4)
    assert matrix.nnz == 4
    np.testing.assert_array_equal(matrix.toarray(), EMBEDDINGS.numpy())
    assert to_scipy_coo(form(EMBEDDINGS[0])).toarray().tolist() == [[1, -5, 0, 3]]
