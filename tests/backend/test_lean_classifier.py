"""Checkpoints with a head, opened without transformers: the same scores, and the same model once it has grown."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from cross_encoder_cases import sample_pairs, tiny_classifier
from sentence_transformers import CrossEncoder
from sentence_transformers.backend import heads
from sentence_transformers.backend.lean import CLASSIFICATION, CLASSIFIERS, LeanClassifier, grown, open_lean
from tiny import FAMILIES, VOCABULARY_SIZE

SERVED = [family for family in CLASSIFIERS if family in FAMILIES]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A checkpoint with three labels of each model type that can be opened this way."""
    from transformers import AutoModelForSequenceClassification, CamembertConfig

    root = tmp_path_factory.mktemp("classifiers")
    for family in SERVED:
        tiny_classifier(family, root / family, 3)
    torch.manual_seed(0)
    settings = FAMILIES["roberta"].settings
    config = CamembertConfig(vocab_size=VOCABULARY_SIZE, pad_token_id=1, num_labels=3, **settings)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(root / "camembert")
    return {family: root / family for family in CLASSIFIERS}


@pytest.fixture
def folder(tmp_path):
    """A BERT checkpoint to spoil, with the two labels that a configuration need not mention."""
    return tiny_classifier("bert", tmp_path / "checkpoint", 2)


def opened(folder):
    return open_lean(Path(folder), CLASSIFICATION)


@pytest.mark.parametrize("family", CLASSIFIERS)
def test_a_lean_classifier_has_transformers_parameters_and_scores(family, folders):
    from transformers import AutoModelForSequenceClassification

    lean = opened(folders[family])
    whole = AutoModelForSequenceClassification.from_pretrained(folders[family]).eval()
    assert isinstance(lean, LeanClassifier)
    assert lean.class_name == type(whole).__name__
    assert lean.config.num_labels == 3
    own, theirs = dict(lean.named_parameters()), dict(whole.named_parameters())
    assert own.keys() == theirs.keys()
    for name, parameter in own.items():
        assert torch.equal(parameter, theirs[name])
    vectors = torch.randn(5, lean.config.hidden_size)
    assert heads.serves(lean)
    torch.testing.assert_close(heads.scores(lean, vectors), heads.scores(whole, vectors))


@pytest.mark.parametrize("family", CLASSIFIERS)
def test_a_grown_classifier_is_transformers_own_and_shares_the_very_parameters(family, folders):
    from transformers import AutoModelForSequenceClassification

    lean, whole = opened(folders[family]), AutoModelForSequenceClassification.from_pretrained(folders[family])
    model = grown(lean)
    assert type(model) is type(whole)
    assert model.config.to_dict() == {**whole.config.to_dict(), "dtype": model.config.to_dict()["dtype"]}
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in whole.named_parameters()]
    for name, parameter in model.named_parameters():
        assert parameter is lean.get_parameter(name)


@pytest.mark.parametrize("family", SERVED)
def test_scores_are_those_of_transformers_whether_grown_or_not(family, folders):
    model = CrossEncoder(str(folders[family]), device="cpu")
    assert isinstance(model[0]._model, LeanClassifier)
    lean = model.predict(sample_pairs())
    assert isinstance(model[0]._model, LeanClassifier)
    whole = model.model
    np.testing.assert_allclose(lean, model.predict(sample_pairs()), atol=1e-6)
    features = model.preprocess(sample_pairs())
    with torch.inference_mode():
        np.testing.assert_allclose(lean, whole(**features).logits.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
def test_a_model_that_has_not_grown_can_be_copied_and_sent(folders, copied):
    model = CrossEncoder(str(folders["bert"]), device="cpu")
    other = copied(model)
    np.testing.assert_allclose(other.predict(sample_pairs()), model.predict(sample_pairs()), atol=1e-6)
    assert isinstance(other[0]._model, LeanClassifier)


def published(encoder, folder):
    """A checkpoint with a head of one label, in the form in which those of BERT are published."""
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(encoder / name, folder / name)
    settings = json.loads((encoder / "config.json").read_text(encoding="utf-8"))
    settings |= {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    state = {f"bert.{name}": value for name, value in load_file(encoder / "model.safetensors").items()}
    state |= {"classifier.weight": torch.ones(1, settings["hidden_size"]), "classifier.bias": torch.zeros(1)}
    save_file(state, folder / "model.safetensors")
    return folder


def test_opening_and_scoring_import_no_transformers(folders, minilm_path, tmp_path):
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from sentence_transformers import CrossEncoder\n"
        "from sentence_transformers.backend.lean import open_lean\n"
        "assert all(open_lean(Path(folder), 'sequence-classification') for folder in sys.argv[2:])\n"
        "model = CrossEncoder(sys.argv[1], num_labels=1, max_length=16, device='cpu')\n"
        "assert model.predict([('one text', 'another'), ('a', 'b')]).shape == (2,)\n"
        "assert len(model.rank('one text', ['another', 'b'])) == 2\n"
        "assert 'transformers' not in sys.modules\n"
        "assert type(model.model).__name__ == 'BertForSequenceClassification'\n"
    )
    folder = published(Path(minilm_path), tmp_path / "published")
    command = [sys.executable, "-c", program, str(folder), *map(str, folders.values())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_head_changed_before_the_model_has_grown_is_in_the_grown_model(folders):
    model = CrossEncoder(str(folders["bert"]), device="cpu", activation_fn=nn.Identity())
    raw = model.predict(sample_pairs())
    with torch.no_grad():
        model[0]._model.classifier.weight.mul_(2)
        model[0]._model.classifier.bias.mul_(2)
    np.testing.assert_allclose(model.predict(sample_pairs()), 2 * raw, atol=1e-5)
    model[0]._model.classifier = nn.Sequential(model[0]._model.classifier, nn.Tanh())
    assert not model[0].can_pack
    np.testing.assert_allclose(model.predict(sample_pairs()), np.tanh(2 * raw), atol=1e-5)
    assert isinstance(model.model.classifier, nn.Sequential)


def test_what_was_saved_after_it_has_grown_is_what_was_opened(folders, tmp_path):
    model = CrossEncoder(str(folders["mpnet"]), device="cpu")
    scores = model.predict(sample_pairs())
    model.save(str(tmp_path / "saved"))
    again = CrossEncoder(str(tmp_path / "saved"), device="cpu")
    assert isinstance(again[0]._model, LeanClassifier)
    np.testing.assert_allclose(again.predict(sample_pairs()), scores, atol=1e-6)


# -- what calls for transformers --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "is_opened"),
    [
        ({}, True),
        ({"id2label": None, "label2id": None}, True),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, False),
        ({"id2label": {"0": "a"}}, False),
        ({"architectures": ["BertModel"]}, False),
        ({"architectures": ["BertForTokenClassification"]}, False),
        ({"hidden_act": "silu"}, False),
        ({"auto_map": {"AutoModel": "modeling_mine.MyModel"}}, False),
    ],
    ids=str,
)
def test_only_a_configuration_that_fits_the_weights_is_opened(folder, changes, is_opened):
    path = folder / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**settings, **changes}), encoding="utf-8")
    assert (opened(folder) is not None) == is_opened


def test_other_weights_than_a_head_s_are_left_to_transformers(folder):
    path = folder / "model.safetensors"
    state = load_file(path)
    save_file({**state, "bert.embeddings.position_ids": torch.arange(8)[None]}, path)
    assert opened(folder) is not None  # as older releases saved them
    save_file({**state, "classifier.more": torch.zeros(2)}, path)
    assert opened(folder) is None
    save_file({name: value for name, value in state.items() if "classifier" not in name}, path)
    assert opened(folder) is None


def test_a_head_is_not_opened_as_an_encoder_nor_an_encoder_as_a_head(folder, folders):
    assert open_lean(folder) is None
    assert open_lean(folders["roberta"]) is None
    encoder = CrossEncoder(str(folder), device="cpu").model.bert
    encoder.save_pretrained(folder)
    assert opened(folder) is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"automodel_args": {"attn_implementation": "eager"}},
        {"classifier_dropout": 0.3},
        {"config_args": {"x": 1}},
    ],
    ids=str,
)
def test_a_caller_s_wishes_are_left_to_transformers(folders, arguments):
    model = CrossEncoder(str(folders["bert"]), device="cpu", **arguments)
    assert not isinstance(model[0]._model, LeanClassifier)
