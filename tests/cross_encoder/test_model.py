"""What `predict` and `rank` return and accept, how a cross-encoder is made, saved and loaded."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cross_encoder_cases import FAMILIES, MAX_LENGTH, sample_pairs
from sentence_transformers import CrossEncoder, SentenceTransformer
from tiny import sample_texts, tiny_checkpoint

PAIRS = sample_pairs()[:5]


@pytest.fixture
def model(classifiers: Callable[..., str]) -> CrossEncoder:
    return CrossEncoder(classifiers(), device="cpu")


@pytest.fixture
def classifier(classifiers: Callable[..., str]) -> CrossEncoder:
    """A model with three labels."""
    return CrossEncoder(classifiers(labels=3), device="cpu")


# -- what comes back ---------------------------------------------------------------------------------------


def test_pairs_get_a_row_of_scores_and_one_pair_gets_its_own(model, classifier):
    scores, several = model.predict(PAIRS), classifier.predict(PAIRS)
    assert (scores.shape, several.shape, scores.dtype) == ((5,), (5, 3), np.float32)
    assert isinstance(model.predict(PAIRS[0]), np.float32)
    assert model.predict(PAIRS[0]) == pytest.approx(scores[0], abs=1e-6)
    assert model.predict(list(PAIRS[0])) == pytest.approx(scores[0], abs=1e-6)
    np.testing.assert_allclose(classifier.predict(PAIRS[0]), several[0], atol=1e-6)


def test_scores_come_as_tensors_where_they_are_asked_for(model):
    scores = model.predict(PAIRS)
    tensor = model.predict(PAIRS, convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    assert not tensor.is_inference()
    np.testing.assert_array_equal(tensor.numpy(), scores)
    rows = model.predict(PAIRS, convert_to_numpy=False)
    assert [row.shape for row in rows] == [torch.Size([])] * 5
    assert model.predict(PAIRS[0], convert_to_tensor=True).shape == torch.Size([])
    assert [row.shape for row in model.predict(PAIRS[:1], convert_to_numpy=False)] == [torch.Size([])]


def test_no_pair_gives_no_score(model):
    assert model.predict([]).shape == (0,)
    assert model.predict([], convert_to_tensor=True).shape == (0,)
    assert model.predict([], convert_to_numpy=False) == []


@pytest.mark.parametrize(
    "collection",
    [
        list,
        tuple,
        iter,
        np.array,
        lambda pairs: [list(pair) for pair in pairs],
        lambda pairs: map(list, pairs),
    ],
)
def test_any_collection_of_pairs_is_scored(model, collection):
    np.testing.assert_array_equal(model.predict(collection(PAIRS)), model.predict(PAIRS))


def test_scores_do_not_depend_on_neighbours_order_or_batch_size(model):
    pairs = sample_pairs()
    scores = model.predict(pairs)
    alone = [model.predict(pair) for pair in pairs]
    np.testing.assert_allclose(scores, alone, atol=1e-6)
    np.testing.assert_allclose(model.predict(pairs[::-1])[::-1], scores, atol=1e-6)
    np.testing.assert_allclose(model.predict(pairs, batch_size=1), scores, atol=1e-6)
    np.testing.assert_array_equal(model.predict(pairs), scores)


def test_equal_pairs_get_equal_scores(model):
    scores = model.predict([PAIRS[0], PAIRS[1], PAIRS[0]])
    assert scores[0] == scores[2] != scores[1]


def test_the_usual_activation_is_a_sigmoid_for_one_label_and_nothing_for_more(model, classifier):
    raw = model.predict(PAIRS, activation_fn=nn.Identity(), convert_to_tensor=True)
    torch.testing.assert_close(model.predict(PAIRS, convert_to_tensor=True), raw.sigmoid())
    assert isinstance(model.activation_fn, nn.Sigmoid)
    assert isinstance(classifier.activation_fn, nn.Identity)
    # The older names.
    np.testing.assert_array_equal(model.predict(PAIRS, activation_fct=nn.Identity()), raw.numpy())
    assert model.default_activation_function is model.activation_fn


def test_the_activation_can_be_set_and_set_back(model):
    model.activation_fn = nn.Tanh()
    assert "activation_fn" not in dict(model.named_children())
    raw = model.predict(PAIRS, activation_fn=nn.Identity())
    np.testing.assert_allclose(model.predict(PAIRS), np.tanh(raw), atol=1e-6)
    model.default_activation_function = torch.exp
    np.testing.assert_allclose(model.predict(PAIRS), np.exp(raw), rtol=1e-5)
    model.activation_fn = None
    assert isinstance(model.activation_fn, nn.Sigmoid)


def test_softmax_makes_probabilities_of_several_scores(model, classifier):
    scores = classifier.predict(PAIRS, convert_to_tensor=True)
    shares = classifier.predict(PAIRS, apply_softmax=True, convert_to_tensor=True)
    torch.testing.assert_close(shares, scores.softmax(dim=1))
    np.testing.assert_array_equal(model.predict(PAIRS, apply_softmax=True), model.predict(PAIRS))


def test_a_prompt_stands_in_front_of_the_first_text(model, classifiers):
    expected = model.predict([(f"Question: {first}", second) for first, second in PAIRS])
    np.testing.assert_array_equal(model.predict(PAIRS, prompt="Question: "), expected)
    prompted = CrossEncoder(classifiers(), device="cpu", prompts={"question": "Question: "})
    np.testing.assert_array_equal(prompted.predict(PAIRS, prompt_name="question"), expected)
    prompted.default_prompt_name = "question"
    np.testing.assert_array_equal(prompted.predict(PAIRS), expected)
    np.testing.assert_array_equal(prompted.predict(PAIRS, prompt=""), model.predict(PAIRS))
    with pytest.raises(ValueError, match="'other' not found"):
        prompted.predict(PAIRS, prompt_name="other")


def test_forward_gives_raw_scores_for_padded_pairs(model, classifier):
    for each in (model, classifier):
        raw = each.predict(sample_pairs(), activation_fn=nn.Identity(), convert_to_tensor=True)
        for features in (each.tokenize(sample_pairs()), each.preprocess(sample_pairs())):
            with torch.no_grad():
                scores = each(features)["scores"]
            assert scores.shape == (len(sample_pairs()), each.num_labels)
            torch.testing.assert_close(scores, raw.reshape(scores.shape), atol=1e-5, rtol=0)


# -- ranking -----------------------------------------------------------------------------------------------


def test_documents_are_ranked_by_their_scores(model):
    documents = sample_texts()[20:32]
    ranks = model.rank("What causes asthma?", documents, return_documents=True)
    scores = model.predict([("What causes asthma?", document) for document in documents])
    assert [hit["corpus_id"] for hit in ranks] == np.argsort(-scores).tolist()
    assert [hit["text"] for hit in ranks] == [documents[hit["corpus_id"]] for hit in ranks]
    assert [type(hit["score"]) for hit in ranks] == [float] * len(documents)
    np.testing.assert_allclose([hit["score"] for hit in ranks], np.sort(scores)[::-1], atol=1e-6)
    assert model.rank("What causes asthma?", documents, 3) == [
        {name: hit[name] for name in ("corpus_id", "score")} for hit in ranks[:3]
    ]
    assert len(model.rank("What causes asthma?", documents, top_k=100)) == len(documents)
    assert model.rank("What causes asthma?", []) == []


def test_equal_documents_keep_their_order(model):
    order = [hit["corpus_id"] for hit in model.rank("a", ["x", "y", "x", "x"])]
    assert [number for number in order if number != 1] == [0, 2, 3]


def test_only_one_score_can_be_ranked_by(classifier):
    with pytest.raises(ValueError, match=r"3 for each pair .*Use CrossEncoder.predict"):
        classifier.rank("a", ["b"])


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        (None, "None"),
        ("a text", "'a text'"),
        (["one", "two", "three"], "begins with a text"),
        (["one", None], "begins with a text"),
        ([("a", "b", "c")], "Input 0 is .'a', 'b', 'c'. .tuple."),
        ([("a", "b"), ("a", None)], "Input 1 is .'a', None."),
        ([("a", "b"), None], "Input 1 is None"),
        ([("a", "b"), "ab"], "Input 1 is 'ab' .str."),
        ([["a"]], "Input 0"),
        ([[("a", "b")]], "Input 0"),
        ({"a": "b"}, "dict"),
        (5, "int"),
    ],
)
def test_what_is_no_pair_is_refused_with_its_place(model, inputs, told):
    with pytest.raises(ValueError, match=told):
        model.predict(inputs)


def test_nonsense_arguments_are_refused(model, classifiers):
    with pytest.raises(ValueError, match="batch_size=0"):
        model.predict(PAIRS, batch_size=0)
    with pytest.raises(
        ValueError, match=r"CrossEncoder\.predict\(\) got arguments it does not know: nonsense"
    ):
        model.predict(PAIRS, nonsense=1)
    with pytest.raises(TypeError, match="given twice"):
        model.predict(PAIRS, inputs=PAIRS)
    with pytest.raises(TypeError, match="same argument"):
        model.predict(PAIRS, activation_fct=nn.Identity(), activation_fn=nn.Identity())
    with pytest.raises(ValueError, match="documents is 'a text'"):
        model.rank("a", "a text")
    with pytest.raises(ValueError, match="query is"):
        model.rank(["a"], ["b"])
    with pytest.raises(ValueError, match="top_k=-1"):
        model.rank("a", ["b"], top_k=-1)
    with pytest.raises(ValueError, match="num_labels=0"):
        CrossEncoder(classifiers(), num_labels=0)


# -- how it is made ----------------------------------------------------------------------------------------


def test_a_checkpoint_without_a_head_gets_a_new_one(tmp_path):
    plain = str(tiny_checkpoint("bert", tmp_path))
    assert CrossEncoder(plain, device="cpu").num_labels == 1
    assert CrossEncoder(plain, 4, device="cpu").predict(PAIRS).shape == (5, 4)
    named = {"id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}}
    assert CrossEncoder(plain, config_kwargs=named, device="cpu").config.id2label == {0: "no", 1: "yes"}
    assert CrossEncoder(plain, classifier_dropout=0.3, device="cpu").config.classifier_dropout == 0.3


def test_the_transformer_of_another_kind_of_model_is_taken(tmp_path, classifiers):
    plain = str(tiny_checkpoint("bert", tmp_path / "plain"))
    SentenceTransformer(plain, device="cpu", prompts={"query": "q: "}).save(str(tmp_path / "dense"))
    model = CrossEncoder(str(tmp_path / "dense"), device="cpu")
    assert (model.num_labels, len(model), model.prompts) == (1, 1, {})
    weights = CrossEncoder(plain, device="cpu").model.bert.embeddings.word_embeddings.weight
    torch.testing.assert_close(model.model.bert.embeddings.word_embeddings.weight, weights)


def test_another_number_of_labels_than_the_head_has_is_refused(classifiers):
    with pytest.raises(ValueError, match=r"num_labels=2, but .* trained with 3"):
        CrossEncoder(classifiers(labels=3), num_labels=2)
    replaced = CrossEncoder(
        classifiers(labels=3), 2, device="cpu", model_kwargs={"ignore_mismatched_sizes": True}
    )
    assert replaced.predict(PAIRS).shape == (5, 2)


def test_positions_and_names_of_the_arguments_are_those_of_all_releases(classifiers):
    by_position = CrossEncoder(
        classifiers(), 1, MAX_LENGTH, "cpu", None, None, None, None, False, None, True, nn.Identity()
    )
    by_name = CrossEncoder(
        model_name=classifiers(), max_length=MAX_LENGTH, device="cpu", activation_fn=nn.Identity()
    )
    assert by_position.max_length == by_name.max_seq_length == MAX_LENGTH
    np.testing.assert_array_equal(by_position.predict(PAIRS), by_name.predict(inputs=PAIRS))
    in_half = CrossEncoder(classifiers(), device="cpu", model_kwargs={"dtype": torch.bfloat16})
    assert in_half.dtype == torch.bfloat16
    assert in_half.predict(PAIRS).dtype == np.float32


def test_the_maximum_length_can_be_changed(model, classifiers):
    whole = model.predict(sample_pairs())
    model.max_length = MAX_LENGTH
    short = CrossEncoder(classifiers(), max_length=MAX_LENGTH, device="cpu").predict(sample_pairs())
    np.testing.assert_array_equal(model.predict(sample_pairs()), short)
    assert np.abs(short - whole).max() > 1e-3


def test_the_transformers_model_can_be_looked_at_and_replaced(model, classifiers):
    assert type(model.model).__name__ == "BertForSequenceClassification"
    assert model.config is model.model.config
    assert model.model is model[0].auto_model is model.transformers_model
    other = CrossEncoder(classifiers(), device="cpu")
    nn.init.zeros_(other.model.classifier.weight)
    nn.init.zeros_(other.model.classifier.bias)
    model.model = other.model
    assert len(model) == 1
    np.testing.assert_array_equal(model.predict(PAIRS), [0.5] * 5)


def test_a_model_is_made_of_modules(model):
    again = CrossEncoder(modules=list(model.children()), device="cpu")
    np.testing.assert_array_equal(again.predict(PAIRS), model.predict(PAIRS))


def test_a_pickled_model_scores_alike(model):
    model.activation_fn = nn.Tanh()
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(again.predict(PAIRS), model.predict(PAIRS), atol=1e-6)


# -- files -------------------------------------------------------------------------------------------------


def test_a_saved_model_is_loaded_with_everything(tmp_path, classifiers):
    model = CrossEncoder(
        classifiers(), max_length=MAX_LENGTH, device="cpu", activation_fn=nn.Tanh(), prompts={"query": "q: "}
    )
    model.save_pretrained(str(tmp_path))
    again = CrossEncoder(str(tmp_path), device="cpu")
    np.testing.assert_array_equal(again.predict(sample_pairs()), model.predict(sample_pairs()))
    assert isinstance(again.activation_fn, nn.Tanh)
    assert (again.max_length, again.prompts) == (MAX_LENGTH, {"query": "q: "})


def test_a_saved_folder_says_what_each_release_looks_for(model, tmp_path):
    model.max_length = MAX_LENGTH
    model.save(str(tmp_path))
    files = {
        name: json.loads((tmp_path / name).read_text(encoding="utf-8"))
        for name in (
            "config.json",
            "modules.json",
            "config_sentence_transformers.json",
            "sentence_bert_config.json",
            "tokenizer_config.json",
        )
    }
    sigmoid = "torch.nn.modules.activation.Sigmoid"
    assert files["config.json"]["architectures"] == ["BertForSequenceClassification"]
    assert files["config.json"]["sentence_transformers"]["activation_fn"] == sigmoid
    assert files["config.json"]["sbert_ce_default_activation_function"] == sigmoid
    assert files["config_sentence_transformers.json"]["activation_fn"] == sigmoid
    assert files["config_sentence_transformers.json"]["model_type"] == "CrossEncoder"
    assert [(entry["path"], entry["type"]) for entry in files["modules.json"]] == [
        ("", "sentence_transformers.models.Transformer")
    ]
    settings = files["sentence_bert_config.json"]
    assert (settings["transformer_task"], settings["module_output_name"]) == (
        "sequence-classification",
        "scores",
    )
    assert settings["modality_config"]["text"]["method_output_name"] == "logits"
    assert files["tokenizer_config.json"]["model_max_length"] == MAX_LENGTH
    assert "CrossEncoder" in (tmp_path / "README.md").read_text(encoding="utf-8")


def changed(folder: str, file: str, to: Path, **entries: object) -> str:
    """A copy of a folder with entries of a JSON file changed; None takes one out."""
    to.mkdir()
    for path in Path(folder).iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    content = json.loads((to / file).read_text(encoding="utf-8"))
    content = {key: value for key, value in {**content, **entries}.items() if value is not None}
    (to / file).write_text(json.dumps(content), encoding="utf-8")
    return str(to)


@pytest.mark.parametrize(
    "entries",
    [
        {"sbert_ce_default_activation_function": "torch.nn.modules.activation.Tanh"},
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Tanh", "version": "4.1.0"}},
    ],
)
def test_the_activation_is_read_from_where_older_releases_wrote_it(entries, classifiers, tmp_path):
    model = CrossEncoder(changed(classifiers(), "config.json", tmp_path / "old", **entries), device="cpu")
    assert isinstance(model.activation_fn, nn.Tanh)
    model.activation_fn = nn.Identity()
    model.save(str(tmp_path / "new"))
    assert isinstance(CrossEncoder(str(tmp_path / "new"), device="cpu").activation_fn, nn.Identity)


def test_an_activation_that_does_not_exist_is_an_error_with_a_remedy(classifiers, tmp_path):
    entry = {"sbert_ce_default_activation_function": "torch.nn.modules.activation.Nonsense"}
    folder = changed(classifiers(), "config.json", tmp_path / "old", **entry)
    with pytest.raises(ValueError, match=r"Nonsense.* Pass activation_fn="):
        CrossEncoder(folder, device="cpu")
    assert isinstance(CrossEncoder(folder, device="cpu", activation_fn=nn.Tanh()).activation_fn, nn.Tanh)


@pytest.mark.parametrize("path", ["os.system", "function", "somewhere.else.Activation"])
def test_foreign_activations_are_not_imported(path, classifiers, tmp_path, caplog):
    entry = {"sbert_ce_default_activation_function": path}
    model = CrossEncoder(changed(classifiers(), "config.json", tmp_path / "old", **entry), device="cpu")
    assert isinstance(model.activation_fn, nn.Sigmoid)
    assert path in caplog.text


def test_a_function_is_not_saved_and_no_older_one_in_its_place(model, tmp_path, caplog):
    model.save(str(tmp_path / "first"))
    again = CrossEncoder(str(tmp_path / "first"), device="cpu", activation_fn=torch.tanh)
    again.save(str(tmp_path / "second"))
    assert "only a torch.nn.Module can be saved" in caplog.text
    assert "activation" not in (tmp_path / "second" / "config_sentence_transformers.json").read_text()
    assert "Sigmoid" not in (tmp_path / "second" / "config.json").read_text()


# -- processes ---------------------------------------------------------------------------------------------


def test_worker_processes_give_the_same_scores(classifier):
    pool = classifier.start_multi_process_pool(["cpu"])
    try:
        pairs = sample_pairs()
        np.testing.assert_allclose(
            classifier.predict(pairs, pool=pool, chunk_size=4), classifier.predict(pairs), atol=1e-6
        )
        # A function that cannot be sent to another process need not be.
        highest = classifier.predict(pairs, pool=pool, activation_fn=lambda scores: scores.amax(dim=1))
        np.testing.assert_allclose(highest, classifier.predict(pairs).max(axis=1), atol=1e-6)
    finally:
        classifier.stop_multi_process_pool(pool)


# -- without padding ---------------------------------------------------------------------------------------

PADDED_FAMILIES = ("deberta-v2",)


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_scores_are_those_of_padded_batches(family, labels, classifiers):
    model = CrossEncoder(classifiers(family, labels), device="cpu", activation_fn=nn.Identity())
    assert model[0].can_pack == (family not in PADDED_FAMILIES)
    packed = model.predict(sample_pairs())
    model[0].unpad_inputs = False
    assert not model[0].can_pack
    np.testing.assert_allclose(packed, model.predict(sample_pairs()), atol=1e-5)


def test_modernbert_can_average_its_tokens(classifiers):
    model = CrossEncoder(classifiers("modernbert", classifier_pooling="mean"), device="cpu")
    assert model[0].can_pack
    packed = model.predict(sample_pairs())
    model[0].unpad_inputs = False
    np.testing.assert_allclose(packed, model.predict(sample_pairs()), atol=1e-5)


def test_a_changed_head_is_left_to_transformers(model):
    class Doubled(nn.Linear):
        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(states)

    raw = model.predict(PAIRS, activation_fn=nn.Identity())
    doubled = Doubled(32, 1)
    doubled.load_state_dict(model.model.classifier.state_dict())
    model.model.classifier = doubled
    assert not model[0].can_pack
    np.testing.assert_allclose(model.predict(PAIRS, activation_fn=nn.Identity()), 2 * raw, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
def test_training_computes_no_padding_and_gives_the_same_gradients(family, classifiers):
    model = CrossEncoder(classifiers(family, 3), device="cpu")
    features = model.preprocess(sample_pairs())
    gradients = {}
    for unpads in (None, False):
        model[0].unpad_inputs = unpads
        assert model.computes_no_padding == (unpads is None)
        model.zero_grad()
        model({**features})["scores"].square().sum().backward()
        gradients[unpads] = {
            name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
        }
    assert gradients[None].keys() == gradients[False].keys()
    for name, gradient in gradients[False].items():
        torch.testing.assert_close(gradients[None][name], gradient, rtol=1e-3, atol=1e-4)
