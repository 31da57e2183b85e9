"""GPL: which negatives are drawn, and that margins are those of the cross-encoder."""

from __future__ import annotations

import pytest
import torch

from recipes.small_files import sentences
from recipes.small_models import tiny_labeller, tiny_start
from recipes.smallest import gpl as smallest
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.losses.margin_mse import MarginMSELoss
from sentence_transformers.recipes.generation import Written
from sentence_transformers.recipes.gpl import (
    Config,
    Labelled,
    fitting_scale,
    label,
    mine,
    scaled_cosine,
    similarity,
)
from sentence_transformers.recipes.shards import read_lines
from sentence_transformers.recipes.training import load
from sentence_transformers.storage.folder import read_json

DOCUMENTS = {f"d{number}": text for number, text in enumerate(sentences(12))}
QUERIES = [Written(text[:20], f"d{number}") for number, text in enumerate(sentences(8))]


def config_of(tmp_path, **changes):
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    return Config(**{**smallest(data), "out": tmp_path / "out", **changes})


def mined(tmp_path, documents=DOCUMENTS, **changes):
    folder = tmp_path / "mined"
    folder.mkdir(exist_ok=True)
    mine(folder, QUERIES, documents, config_of(tmp_path, **changes))
    return read_lines(folder / "negatives.jsonl")


def test_negatives_are_among_the_first_of_a_retriever_and_never_the_passage(tmp_path):
    config = config_of(tmp_path)
    rows = mined(tmp_path, negatives_per_query=4)
    models = [load(name, config) for name in config.retrievers]
    for row, one in zip(rows, QUERIES, strict=True):
        allowed = set()
        for model in models:
            scores = model.similarity(model.encode([one.query]), model.encode(list(DOCUMENTS.values())))[0]
            best = [f"d{place}" for place in scores.argsort(descending=True).tolist()]
            allowed |= set([name for name in best if name != one.document][:3])
        assert (row["query"], row["doc_id"]) == (one.query, one.document)
        assert set(row["negatives"]) <= allowed
        assert len(set(row["negatives"])) == len(row["negatives"]) == min(4, len(allowed))


def test_a_document_with_the_same_text_is_no_negative(tmp_path):
    documents = {**DOCUMENTS, "again": DOCUMENTS["d0"]}
    rows = mined(tmp_path, documents, negatives_per_query=99, negatives_per_retriever=99)
    assert sorted(rows[0]["negatives"]) == sorted(set(DOCUMENTS) - {"d0"})
    assert "again" in rows[1]["negatives"]


def test_what_a_retriever_has_found_is_not_asked_again(tmp_path, monkeypatch):
    first = mined(tmp_path)
    monkeypatch.setattr(SentenceTransformer, "encode", lambda *ignored, **also: pytest.fail("asks again"))
    assert mined(tmp_path) == first


def test_margins_are_differences_of_the_cross_encoders_raw_scores(tmp_path):
    config = config_of(tmp_path)
    rows = mined(tmp_path)
    folder = tmp_path / "labelled"
    folder.mkdir()
    label(folder, tmp_path / "mined", DOCUMENTS, config)
    found = read_lines(folder / "margins.jsonl")
    assert len(found) == sum(len(row["negatives"]) for row in rows)
    teacher = CrossEncoder(tiny_labeller(tmp_path / "data"), device="cpu")
    for row in found[:5]:
        scores = teacher.predict(
            [(row["query"], DOCUMENTS[row["positive"]]), (row["query"], DOCUMENTS[row["negative"]])],
            activation_fn=torch.nn.Identity(),
        )
        assert row["margin"] == pytest.approx(float(scores[0] - scores[1]), abs=1e-4)
    assert read_json(folder / "scale.json")["scale"] > 0


@pytest.mark.parametrize("prompts", [{}, {"query": "ask: ", "passage": "found: "}], ids=["bare", "prompted"])
def test_the_scale_makes_both_margins_spread_alike(tmp_path, prompts):
    start = SentenceTransformer(tiny_start(tmp_path), device="cpu", prompts=prompts)
    start.save_pretrained(str(tmp_path / "model"))
    config = config_of(tmp_path, model=str(tmp_path / "model"))
    rows = [
        Labelled(one.query, one.document, f"d{place + 3}", place * 0.7) for place, one in enumerate(QUERIES)
    ]
    scale = fitting_scale(rows, DOCUMENTS, config)
    model = load(config.model, config)
    vector = {text: model.encode_document(text, convert_to_tensor=True) for text in DOCUMENTS.values()}
    ours = []
    for row in rows:
        query = model.encode_query(row.query, convert_to_tensor=True)
        both = [vector[DOCUMENTS[name]] for name in (row.positive, row.negative)]
        ours.append(
            scale
            * float(
                torch.cosine_similarity(query, both[0], dim=0)
                - torch.cosine_similarity(query, both[1], dim=0)
            )
        )
    assert torch.tensor(ours).std() == pytest.approx(
        float(torch.tensor([row.margin for row in rows]).std()), rel=1e-2
    )


def test_a_model_of_the_dot_product_is_compared_as_it_is(tmp_path):
    model = SentenceTransformer(tiny_start(tmp_path), device="cpu", similarity_fn_name="dot")
    a, b = torch.randn(3, 4), torch.randn(3, 4)
    torch.testing.assert_close(similarity(model, 5.0)(a, b), (a * b).sum(1))
    torch.testing.assert_close(scaled_cosine(a, b, scale=5.0), 5 * torch.cosine_similarity(a, b))
    loss = MarginMSELoss(model, similarity(SentenceTransformer(tiny_start(tmp_path), device="cpu"), 5.0))
    assert loss.get_config_dict() == {"similarity_fct": "scaled_cosine(scale=5.0)"}


def test_a_cross_encoder_with_several_scores_is_refused(tmp_path):
    path = tmp_path / "classes"
    CrossEncoder(tiny_start(tmp_path), num_labels=3, device="cpu").save_pretrained(str(path))
    mined(tmp_path)
    with pytest.raises(ValueError, match=r"gives 3 scores for a pair"):
        label(tmp_path / "mined", tmp_path / "mined", DOCUMENTS, config_of(tmp_path, cross_encoder=str(path)))


def test_a_scale_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="scale=0 would teach nothing"):
        config_of(tmp_path, scale=0)
