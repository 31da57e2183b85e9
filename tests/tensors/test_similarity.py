import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from sentence_transformers.tensors import similarity
from sentence_transformers.tensors.similarity import (
    SimilarityFunction,
    cos_sim,
    dot_score,
    euclidean_sim,
    manhattan_sim,
    pairwise_angle_sim,
    pairwise_cos_sim,
    pairwise_dot_score,
    pairwise_euclidean_sim,
    pairwise_manhattan_sim,
    pytorch_cos_sim,
)

BY_SCIPY = {
    cos_sim: lambda a, b: 1 - cdist(a, b, "cosine"),
    dot_score: lambda a, b: a @ b.T,
    euclidean_sim: lambda a, b: -cdist(a, b, "euclidean"),
    manhattan_sim: lambda a, b: -cdist(a, b, "cityblock"),
}
PAIRWISE = {
    cos_sim: pairwise_cos_sim,
    dot_score: pairwise_dot_score,
    euclidean_sim: pairwise_euclidean_sim,
    manhattan_sim: pairwise_manhattan_sim,
}
EVERY_MATRIX = pytest.mark.parametrize("score", BY_SCIPY, ids=lambda score: score.__name__)
EVERY_PAIRWISE = pytest.mark.parametrize(
    "score", [*PAIRWISE.values(), pairwise_angle_sim], ids=lambda score: score.__name__
)


@pytest.fixture
def a():
    return np.random.default_rng(1).normal(size=(7, 12))


@pytest.fixture
def b():
    return np.random.default_rng(2).normal(size=(5, 12))


@EVERY_MATRIX
def test_scores_agree_with_scipy(score, a, b):
    np.testing.assert_allclose(score(a, b).numpy(), BY_SCIPY[score](a, b), rtol=1e-10, atol=1e-10)


@EVERY_MATRIX
def test_pairwise_scores_are_the_diagonal_of_the_matrix(score, a, b):
    matrix = score(a[:5], b)
    torch.testing.assert_close(PAIRWISE[score](torch.tensor(a[:5]), torch.tensor(b)), matrix.diagonal())


@EVERY_MATRIX
def test_lists_arrays_and_tensors_score_alike(score, a, b):
    a, b = a.astype(np.float32), b.astype(np.float32)
    expected = score(torch.tensor(a), torch.tensor(b))
    for left, right in [(a, b), (a.tolist(), b.tolist()), (list(a), list(b)), (list(torch.tensor(a)), b)]:
        torch.testing.assert_close(score(left, right), expected)


@EVERY_MATRIX
def test_one_vector_counts_as_one_row(score, a, b):
    assert score(a[0], b[0]).shape == (1, 1)
    torch.testing.assert_close(score(a[0], b), score(a, b)[:1])


@EVERY_MATRIX
def test_integers_are_scored_as_floats(score):
    a, b = [[1, 2], [3, 4]], np.array([[1, 0]], dtype=np.uint8)
    expected = BY_SCIPY[score](np.array(a, dtype=float), b.astype(float))
    np.testing.assert_allclose(score(a, b).numpy(), expected, rtol=1e-6)


def test_dot_products_of_8_bit_codes_do_not_overflow():
    codes = np.full((1, 384), 255, dtype=np.uint8)
    assert dot_score(codes, codes).item() == pytest.approx(255 * 255 * 384, rel=1e-6)


@EVERY_MATRIX
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scores_of_half_precision_are_those_of_the_same_numbers_in_float32(score, dtype, a, b):
    a, b = torch.tensor(a).to(dtype), torch.tensor(b).to(dtype)
    scores = score(a, b)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, score(a.float(), b.float()), rtol=0, atol=0)
    torch.testing.assert_close(score(a, b.float()), scores, rtol=0, atol=0)


@EVERY_MATRIX
def test_autocast_leaves_scores_precise(score, a, b):
    a, b = torch.tensor(a).float(), torch.tensor(b).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = score(a, b)
    torch.testing.assert_close(inside, score(a, b), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@EVERY_MATRIX
@pytest.mark.parametrize("block_rows", [512, 2])
def test_sparse_scores_equal_dense_ones(score, a, b, block_rows, monkeypatch):
    monkeypatch.setattr(similarity, "SPARSE_BLOCK_ROWS", block_rows)
    a = torch.tensor(a).float() * (torch.tensor(a) > 0.5)
    b = torch.tensor(b).float() * (torch.tensor(b) > 0.5)
    expected = score(a, b)
    for left, right in [(a.to_sparse(), b.to_sparse()), (a.to_sparse(), b), (a, b.to_sparse())]:
        scores = score(left, right)
        assert scores.layout == torch.strided
        torch.testing.assert_close(scores, expected)
    torch.testing.assert_close(score(a.to_sparse_csr(), b.to_sparse()), expected)
    torch.testing.assert_close(score(list(a.to_sparse()), b.to_sparse()), expected)


@EVERY_PAIRWISE
def test_sparse_pairs_equal_dense_ones(score, a, b):
    a = torch.tensor(a[:5]).float() * (torch.tensor(a[:5]) > 0)
    b = torch.tensor(b).float() * (torch.tensor(b) > 0)
    scores = score(a.to_sparse(), b.to_sparse())
    assert scores.layout == torch.strided
    torch.testing.assert_close(scores, score(a, b))
    torch.testing.assert_close(score(a[0].to_sparse(), b[0].to_sparse()), score(a[0], b[0]))


@EVERY_PAIRWISE
def test_two_single_vectors_give_a_scalar(score, a, b):
    assert score(torch.tensor(a[0]), torch.tensor(b[0])).shape == ()


@EVERY_MATRIX
@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_no_rows_give_an_empty_matrix(score, layout, b):
    rows, nothing = torch.tensor(b), torch.zeros(0, 12)
    if layout == "sparse":
        rows, nothing = rows.to_sparse(), nothing.to_sparse()
    assert score(nothing, rows).shape == (0, 5)
    assert score(rows, nothing).shape == (5, 0)


def test_a_zero_vector_has_cosine_zero_with_everything(b):
    assert cos_sim(np.zeros((1, 12)), b).abs().max() == 0
    assert pairwise_cos_sim(torch.zeros(5, 12), torch.tensor(b)).abs().max() == 0


def test_euclidean_distances_of_close_rows_keep_their_digits():
    # From dot products, the difference of two numbers near 1e6 would be lost in float32.
    row = torch.full((1, 64), 1000.0)
    near = row + 0.01
    exact = float((near.double() - row.double()).norm())
    assert -euclidean_sim(row, near).item() == pytest.approx(exact, rel=1e-5)


def test_distances_of_equal_rows_are_zero():
    rows = torch.randn(40, 64, generator=torch.Generator().manual_seed(0)) * 100
    for distances in (euclidean_sim(rows, rows), euclidean_sim(rows.to_sparse(), rows.to_sparse())):
        torch.testing.assert_close(distances.diagonal(), torch.zeros(40), rtol=0, atol=1e-4)


def test_products_of_sparse_rows_give_no_warning_about_torch():
    similarity.use_up_beta_warning.cache_clear()
    rows = torch.eye(3).to_sparse()
    assert torch.equal(dot_score(rows, rows), torch.eye(3))


def test_distances_between_many_rows_need_no_tensor_of_all_differences():
    # As (N, M, D), the differences would take 12 GB.
    scores = manhattan_sim(torch.zeros(3000, 1000), torch.ones(1000, 1000))
    assert scores.shape == (3000, 1000)
    assert scores[-1, -1] == -1000


@EVERY_MATRIX
def test_gradients_flow_to_both_sides_and_are_finite_for_equal_rows(score):
    a = torch.ones(2, 4, requires_grad=True)
    b = torch.ones(3, 4, requires_grad=True)
    score(a, b).sum().backward()
    PAIRWISE[score](a, a.detach().clone()).sum().backward()
    assert torch.isfinite(a.grad).all()
    assert torch.isfinite(b.grad).all()


def test_angle_similarity_is_the_complex_quotient_over_the_ratio_of_norms():
    torch.manual_seed(3)
    x, y = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    for row in range(4):
        numerator = torch.complex(x[row, :3], x[row, 3:])
        denominator = torch.complex(y[row, :3], y[row, 3:])
        quotient = numerator * denominator.conj() / y[row].square().sum()
        quotient = quotient / (x[row].norm() / y[row].norm())
        expected = abs(float((quotient.real + quotient.imag).sum()))
        assert pairwise_angle_sim(x, y)[row].item() == pytest.approx(expected, rel=1e-10)


def test_angle_similarity_agrees_with_recorded_values():
    x = torch.tensor([[1.0, 2, 3, 4], [0, 1, 0, 2], [3, 1, 2, 0]])
    y = torch.tensor([[1.0, 0, 1, 2], [2, 2, 1, 1], [-1, 0, 2, 2]])
    expected = torch.tensor([0.7454, 0.9899, 0.8018])  # the reference, 6.2.0
    torch.testing.assert_close(pairwise_angle_sim(x, y), expected, atol=5e-5, rtol=0)


def test_angle_similarity_needs_an_even_width():
    with pytest.raises(ValueError, match="width 3"):
        pairwise_angle_sim(torch.ones(2, 3), torch.ones(2, 3))


def test_the_older_name_of_the_cosine_scores_alike(a, b):
    torch.testing.assert_close(pytorch_cos_sim(a, b), cos_sim(a, b))


@pytest.mark.parametrize("name", SimilarityFunction.possible_values())
def test_every_similarity_is_found_by_name_and_by_member(name):
    member = SimilarityFunction(name)
    assert SimilarityFunction.to_similarity_fn(name) is SimilarityFunction.to_similarity_fn(member)
    matrix = SimilarityFunction.to_similarity_fn(name)
    pairwise = SimilarityFunction.to_similarity_pairwise_fn(name)
    x = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0))
    x = x if "maxsim" in name else x[:, 0]
    torch.testing.assert_close(matrix(x, x).diagonal(), pairwise(x, x))


@pytest.mark.parametrize("name", ["cosinus", None])
def test_an_unknown_similarity_is_refused_with_the_names_that_exist(name):
    with pytest.raises(ValueError, match="'cosine', 'dot', 'euclidean', 'manhattan', 'maxsim', 'meanmaxsim'"):
        SimilarityFunction.to_similarity_fn(name)
