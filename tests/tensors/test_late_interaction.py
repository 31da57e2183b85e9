import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentence_transformers.tensors import late_interaction
from sentence_transformers.tensors.late_interaction import (
    maxsim,
    maxsim_pairwise,
    mean_maxsim,
    mean_maxsim_pairwise,
)


def by_definition(query, document):
    """Each query token's best dot product, added up."""
    return sum(max(float(token @ other) for other in document) for token in query)


def ragged(lengths, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, 8, generator=generator) for length in lengths]


def padded(rows):
    """Rows as one tensor, with rubbish where there is no token, and their mask."""
    mask = torch.zeros(len(rows), max(len(row) for row in rows), dtype=torch.long)
    values = torch.full((*mask.shape, 8), 1e4)
    for number, row in enumerate(rows):
        mask[number, : len(row)] = 1
        values[number, : len(row)] = row
    return values, mask


@settings(max_examples=40, deadline=None)
@given(
    queries=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    documents=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    chunk_elements=st.sampled_from([None, 1, 7, 40, 200]),
)
def test_maxsim_agrees_with_its_definition_however_it_is_cut(queries, documents, chunk_elements):
    queries, documents = ragged(queries, 0), ragged(documents, 1)
    expected = torch.tensor([[by_definition(query, document) for document in documents] for query in queries])
    torch.testing.assert_close(
        maxsim(queries, documents, chunk_elements=chunk_elements), expected, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("chunk_elements", [None, 1, 30])
def test_pairwise_maxsim_agrees_with_its_definition(chunk_elements):
    queries, documents = ragged([2, 4, 1, 3], 0), ragged([5, 1, 7, 2], 1)
    expected = torch.tensor([by_definition(*pair) for pair in zip(queries, documents)])
    scores = maxsim_pairwise(queries, documents, chunk_elements=chunk_elements)
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-5)


def test_padded_tensors_with_masks_score_like_the_rows_they_hold():
    queries, documents = ragged([2, 4, 1], 0), ragged([5, 1, 7], 1)
    (a, a_mask), (b, b_mask) = padded(queries), padded(documents)
    torch.testing.assert_close(maxsim(a, b, a_mask, b_mask), maxsim(queries, documents))
    torch.testing.assert_close(maxsim(a, b, a_mask.bool(), b_mask.bool()), maxsim(queries, documents))
    torch.testing.assert_close(maxsim_pairwise(a, b, a_mask, b_mask), maxsim_pairwise(queries, documents))


def test_a_mask_may_leave_out_tokens_in_the_middle_also_of_lists():
    queries, (document,) = ragged([2], 0), ragged([4], 1)
    mask = torch.tensor([[1, 0, 1, 0, 1]])
    expected = maxsim(queries, [document[[0, 2]]])
    torch.testing.assert_close(maxsim(queries, [document], b_mask=mask), expected)
    torch.testing.assert_close(maxsim(queries, document[None], b_mask=mask[:, :4]), expected)


def test_lists_arrays_and_single_matrices_are_understood():
    queries, documents = ragged([2, 3], 0), ragged([4], 1)
    expected = maxsim(queries, documents)
    torch.testing.assert_close(maxsim([row.numpy() for row in queries], documents[0]), expected)
    torch.testing.assert_close(maxsim([row.tolist() for row in queries], documents[0].tolist()), expected)
    torch.testing.assert_close(maxsim(queries, documents[0].numpy()), expected)


def test_mean_maxsim_divides_by_the_tokens_of_the_query():
    queries, documents = ragged([2, 4], 0), ragged([5, 3], 1)
    lengths = torch.tensor([2.0, 4.0])
    torch.testing.assert_close(mean_maxsim(queries, documents), maxsim(queries, documents) / lengths[:, None])
    torch.testing.assert_close(
        mean_maxsim_pairwise(queries, documents), maxsim_pairwise(queries, documents) / lengths
    )
    torch.testing.assert_close(
        mean_maxsim(queries, documents, length_normalize=False), maxsim(queries, documents)
    )


def test_documents_without_tokens_rank_last_and_queries_without_tokens_score_zero(caplog):
    late_interaction.warn_about_empty_documents.cache_clear()
    tokens = ragged([2, 3], 0)
    nothing = torch.zeros(0, 8)
    with caplog.at_level(logging.WARNING):
        scores = maxsim([*tokens, nothing], [tokens[0], nothing])
        maxsim(tokens, [nothing])
    assert scores[:, 1].tolist() == [-1e9] * 3
    assert scores[2, 0] == 0
    assert len(caplog.records) == 1
    assert maxsim_pairwise([nothing, tokens[0]], [tokens[0], nothing]).tolist() == [0, -1e9]
    assert mean_maxsim_pairwise(tokens, [nothing, tokens[0]])[0].item() == pytest.approx(-5e8)


def test_no_inputs_give_no_scores():
    documents = ragged([2, 3], 0)
    assert maxsim([], documents).shape == (0, 2)
    assert maxsim(documents, []).shape == (2, 0)
    assert maxsim_pairwise([], []).shape == (0,)


def test_half_precision_is_scored_in_float32():
    (query,), (document,) = ragged([3], 0), ragged([4], 1)
    scores = maxsim([query.half()], [document.half()])
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, maxsim([query.half().float()], [document.half().float()]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(maxsim([query], [document]), maxsim([query], [document]).float())
    assert maxsim([query.double()], [document]).dtype == torch.float64


@pytest.mark.parametrize("chunk_elements", [None, 10])
@pytest.mark.parametrize("score", [maxsim, maxsim_pairwise])
def test_gradients_are_those_of_the_padded_definition(score, chunk_elements):
    (a, a_mask), (b, b_mask) = padded(ragged([2, 4, 1], 0)), padded(ragged([5, 1, 7], 1))
    a, b = (values.double().clamp(-3, 3).requires_grad_() for values in (a, b))

    scores = score(a, b, a_mask, b_mask, chunk_elements=chunk_elements)
    weights = torch.arange(1.0, scores.numel() + 1).reshape(scores.shape).double()
    gradients = torch.autograd.grad((scores * weights).sum(), (a, b))

    all_scores = torch.einsum("qsd,ntd->qnst", a, b).masked_fill(~b_mask.bool()[:, None], -torch.inf)
    plain = (all_scores.amax(dim=-1) * a_mask[:, None]).sum(dim=-1)
    plain = plain if score is maxsim else plain.diagonal()
    expected = torch.autograd.grad((plain * weights).sum(), (a, b))
    torch.testing.assert_close(gradients, expected)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.ones(4), torch.ones(1, 2, 4), "`a` must be token embeddings"),
        (torch.ones(1, 2, 4), [torch.ones(4)], "`b` must hold token embeddings"),
        (torch.ones(1, 2, 4), torch.ones(1, 2, 5), "width 4 and `b` of width 5"),
    ],
)
def test_what_is_not_token_embeddings_is_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        maxsim(a, b)


def test_pairs_of_unequal_number_are_refused():
    with pytest.raises(ValueError, match="`a` holds 2 and `b` 3"):
        maxsim_pairwise(ragged([1, 1], 0), ragged([1, 1, 1], 1))


def test_no_more_token_scores_exist_at_a_time_than_asked_for(monkeypatch):
    seen = []
    best = late_interaction.best_of_each_token
    monkeypatch.setattr(
        late_interaction,
        "best_of_each_token",
        lambda scores, kept: seen.append(scores.numel()) or best(scores, kept),
    )
    queries = ragged(np.random.default_rng(0).integers(1, 9, 30), 0)
    documents = ragged(np.random.default_rng(1).integers(1, 20, 40), 1)
    for limit in (200, 1000, 5000):
        seen.clear()
        maxsim(queries, documents, chunk_elements=limit)
        assert max(seen) <= limit
        seen.clear()
        maxsim_pairwise(queries, documents[:30], chunk_elements=limit)
        assert max(seen) <= limit
