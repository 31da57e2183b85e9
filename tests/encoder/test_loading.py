"""Folders of every release are read; damaged and hostile ones are refused, by one clear error, before anything runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sentence_transformers import SentenceTransformer
from sentence_transformers.modules.dense import Dense
from sentence_transformers.modules.normalize import Normalize
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.modules.transformer.module import Transformer
from tiny import WIDTH, tiny_checkpoint

TEXTS = ["What causes asthma?", "a"]
MODELS = "sentence_transformers.models"
TWIN = json.dumps({"type": f"{MODELS}.Normalize", "name": "a", "path": "3_Normalize"})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_checkpoint("bert", tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def original(checkpoint):
    torch.manual_seed(0)
    modules = [Transformer(str(checkpoint), max_seq_length=32), Pooling(WIDTH), Dense(WIDTH, 8), Normalize()]
    return SentenceTransformer(modules=modules, device="cpu")


@pytest.fixture(scope="module")
def saved(original, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    original.save(str(folder), create_model_card=False)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A saved model to be changed."""
    return shutil.copytree(saved, tmp_path / "model")


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def change(path, **values):
    path.write_text(json.dumps({**read(path), **values}))


def change_listing(folder, number, **values):
    listing = read(folder / "modules.json")
    listing[number].update(values)
    (folder / "modules.json").write_text(json.dumps(listing))


def load(folder, **options):
    return SentenceTransformer(str(folder), device="cpu", **options)


# -- layouts -----------------------------------------------------------------------------------------------


def test_the_layout_of_3_4_written_by_hand_is_read(checkpoint, original, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "old")
    names = ["Transformer", "Pooling", "Dense", "Normalize"]
    paths = ["", "1_Pooling", "2_Dense", "3_Normalize"]
    listing = [
        {"idx": number, "name": str(number), "path": path, "type": f"{MODELS}.{name}"}
        for number, (name, path) in enumerate(zip(names, paths))
    ]
    (folder / "modules.json").write_text(json.dumps(listing))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 32, "do_lower_case": true}')
    (folder / "config_sentence_transformers.json").write_text(
        '{"__version__": {"sentence_transformers": "3.4.1", "transformers": "4.57.6", "pytorch": "2.13.0+cpu"},'
        ' "prompts": {"query": "query : "}, "default_prompt_name": "query", "similarity_fn_name": "dot"}'
    )
    for path in paths[1:3]:  # an empty folder does not survive git or the hub
        (folder / path).mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        '{"word_embedding_dimension": 32, "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true,'
        ' "pooling_mode_max_tokens": false, "pooling_mode_mean_sqrt_len_tokens": false,'
        ' "pooling_mode_weightedmean_tokens": false, "pooling_mode_lasttoken": false, "include_prompt": true}'
    )
    (folder / "2_Dense" / "config.json").write_text(
        '{"in_features": 32, "out_features": 8, "bias": true,'
        ' "activation_function": "torch.nn.modules.activation.Tanh"}'
    )
    torch.save(original[2].state_dict(), folder / "2_Dense" / "pytorch_model.bin")
    model = load(folder)
    assert (model.similarity_fn_name, model.default_prompt_name, model.max_seq_length) == ("dot", "query", 32)
    assert model.prompts == {"query": "query : ", "document": ""}
    np.testing.assert_allclose(model.encode(TEXTS, prompt=""), original.encode(TEXTS), atol=1e-6)


def test_the_layout_of_6_2_written_by_hand_is_read(checkpoint, original, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "new")
    base, sentence = (
        "sentence_transformers.base.modules",
        "sentence_transformers.sentence_transformer.modules",
    )
    types = [
        f"{base}.transformer.Transformer",
        f"{sentence}.pooling.Pooling",
        f"{base}.dense.Dense",
        f"{base}.normalize.Normalize",
    ]
    listing = [
        {"idx": number, "name": str(number), "path": path, "type": kind}
        for number, (kind, path) in enumerate(zip(types, ["", "1_Pooling", "2_Dense", "3_Normalize"]))
    ]
    files = {
        "modules.json": listing,
        "sentence_bert_config.json": {
            "transformer_task": "feature-extraction",
            "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
            "module_output_name": "token_embeddings",
        },
        "config_sentence_transformers.json": {
            "__version__": {"sentence_transformers": "6.2.0"},
            "default_prompt_name": None,
            "model_type": "SentenceTransformer",
            "prompts": {"document": "", "query": ""},
            "similarity_fn_name": "cosine",
            "truncate_dim": 4,
        },
        "1_Pooling/config.json": {"embedding_dimension": 32, "pooling_mode": "mean", "include_prompt": True},
        "2_Dense/config.json": {
            "in_features": 32,
            "out_features": 8,
            "bias": True,
            "activation_function": "torch.nn.modules.activation.Tanh",
            "module_input_name": "sentence_embedding",
            "module_output_name": "sentence_embedding",
        },
        "3_Normalize/config.json": {
            "module_input_name": "sentence_embedding",
            "module_output_name": "sentence_embedding",
        },
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    save_file(original[2].state_dict(), folder / "2_Dense" / "model.safetensors")
    change(folder / "tokenizer_config.json", model_max_length=32)
    model = load(folder)
    assert (model.truncate_dim, model.max_seq_length) == (4, 32)
    np.testing.assert_allclose(model.encode(TEXTS), original.encode(TEXTS)[:, :4], atol=1e-6)


def test_models_from_before_there_were_settings_are_read(folder, original):
    for name in ("config_sentence_transformers.json", "sentence_bert_config.json"):
        (folder / name).unlink()
    model = load(folder)
    assert (model.prompts, model.similarity_fn_name) == ({"query": "", "document": ""}, "cosine")
    np.testing.assert_allclose(model.encode(TEXTS), original.encode(TEXTS), atol=1e-6)


def test_a_first_part_in_a_folder_of_its_own_is_read(folder, original):
    # As written before release 2.
    (folder / "0_Transformer").mkdir()
    for path in list(folder.iterdir()):
        if path.is_file() and not path.name.startswith(("modules", "config_s")):
            path.rename(folder / "0_Transformer" / path.name)
    change_listing(folder, 0, path="0_Transformer")
    np.testing.assert_array_equal(load(folder).encode(TEXTS), original.encode(TEXTS))


def test_a_plain_checkpoint_gets_mean_pooling_and_says_so(checkpoint, caplog):
    model = load(checkpoint)
    assert [type(part) for part in model] == [Transformer, Pooling]
    assert model[1].pooling_mode == "mean"
    assert "Creating a new one with mean pooling" in caplog.text


# -- custom parts ------------------------------------------------------------------------------------------


class Scaled(nn.Module):
    """A user's own part, as in the documentation of older releases."""

    def __init__(self, factor=2.0):
        super().__init__()
        self.factor = factor

    def forward(self, features, temperature=1.0):
        features["sentence_embedding"] = features["sentence_embedding"] * self.factor * temperature
        return features

    def save(self, output_path):
        with open(os.path.join(output_path, "factor.json"), "w") as file:
            json.dump(self.factor, file)

    @staticmethod
    def load(input_path):
        with open(os.path.join(input_path, "factor.json")) as file:
            return Scaled(json.load(file))


class Bytes(nn.Module):
    """A user's own first part: an embedding for each byte."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(256, 4)

    def tokenize(self, texts):
        rows = [list(text.encode()) for text in texts]
        longest = max(map(len, rows))
        return {
            "input_ids": torch.tensor([row + [0] * (longest - len(row)) for row in rows]),
            "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows]),
        }

    def forward(self, features):
        features["token_embeddings"] = self.table(features["input_ids"])
        return features

    def get_word_embedding_dimension(self):
        return 4

    def save(self, output_path):
        torch.save(self.state_dict(), os.path.join(output_path, "table.pt"))

    @staticmethod
    def load(input_path):
        part = Bytes()
        part.load_state_dict(torch.load(os.path.join(input_path, "table.pt")))
        return part


def test_a_user_s_own_part_is_saved_loaded_and_run(original, tmp_path):
    model = SentenceTransformer(modules=[*original, Scaled(3.0)], device="cpu")
    np.testing.assert_allclose(model.encode(TEXTS), 3 * original.encode(TEXTS), atol=1e-6)
    model.save(str(tmp_path))
    assert read(tmp_path / "modules.json")[4] == {
        "idx": 4,
        "name": "4",
        "path": "4_Scaled",
        "type": f"{__name__}.Scaled",
    }
    np.testing.assert_array_equal(load(tmp_path).encode(TEXTS), model.encode(TEXTS))


def test_arguments_that_the_listing_names_reach_the_part(original, tmp_path):
    SentenceTransformer(modules=[*original, Scaled(3.0)], device="cpu").save(str(tmp_path))
    change_listing(tmp_path, 4, kwargs=["temperature"])
    model = load(tmp_path)
    assert model.get_model_kwargs() == ["temperature"]
    np.testing.assert_allclose(model.encode(TEXTS, temperature=5.0), 15 * original.encode(TEXTS), atol=1e-5)
    features = model.tokenize(TEXTS)
    with torch.inference_mode():
        vectors = model(features, temperature=2.0)["sentence_embedding"].numpy()
    np.testing.assert_allclose(vectors, 6 * original.encode(TEXTS), atol=1e-5)
    with pytest.raises(ValueError, match=r"does not know: heat.*temperature"):
        model.encode(TEXTS, heat=1)


def test_a_user_s_own_first_part_needs_only_tokenize(tmp_path):
    model = SentenceTransformer(modules=[Bytes(), Pooling(4)], device="cpu")
    by_hand = np.stack(
        [model[0].table.weight[list(text.encode())].mean(dim=0).detach().numpy() for text in TEXTS]
    )
    np.testing.assert_allclose(model.encode(TEXTS), by_hand, atol=1e-6)
    np.testing.assert_allclose(
        model.encode(TEXTS, prompt="ab"), model.encode(["ab" + text for text in TEXTS]), atol=1e-6
    )
    assert model.max_seq_length is None
    assert model.get_max_seq_length() is None
    assert model.get_sentence_embedding_dimension() == 4
    model.save(str(tmp_path))
    assert (tmp_path / "0_Bytes" / "table.pt").exists()
    np.testing.assert_array_equal(load(tmp_path).encode(TEXTS), model.encode(TEXTS))


CODE = """
import json, os
from pathlib import Path
from torch import nn
from .helper_of_brought import FACTOR
Path(__file__).parent.joinpath("was_run").touch()
Path({marker!r}).touch()
class Brought(nn.Module):
    def forward(self, features):
        features["sentence_embedding"] = features["sentence_embedding"] * FACTOR
        return features
    def save(self, output_path):
        pass
    @staticmethod
    def load(input_path):
        return Brought()
"""


def test_code_of_the_model_runs_only_once_trusted_and_is_saved_with_it(
    folder, original, tmp_path, monkeypatch
):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "cache"))
    (folder / "brought.py").write_text(CODE.format(marker=str(tmp_path / "was_run")))
    (folder / "helper_of_brought.py").write_text("FACTOR = 7")
    (folder / "4_Brought").mkdir()
    listing = [
        *read(folder / "modules.json"),
        {"idx": 4, "name": "4", "path": "4_Brought", "type": "brought.Brought"},
    ]
    (folder / "modules.json").write_text(json.dumps(listing))
    with pytest.raises(ValueError, match=r"'brought.Brought'.*trust_remote_code=True"):
        load(folder)
    assert not (tmp_path / "was_run").exists()
    model = load(folder, trust_remote_code=True)
    np.testing.assert_allclose(model.encode(TEXTS), 7 * original.encode(TEXTS), atol=1e-5)
    model.save(str(tmp_path / "again"))
    assert read(tmp_path / "again" / "modules.json")[4]["type"] == "brought.Brought"
    shutil.rmtree(folder)
    code = f"""
        import os
        os.environ["HF_MODULES_CACHE"] = {str(tmp_path / "other_cache")!r}
        from sentence_transformers import SentenceTransformer
        path = {str(tmp_path / "again")!r}
        try:
            SentenceTransformer(path, device="cpu")
        except ValueError:
            print("refused")
        print(SentenceTransformer(path, device="cpu", trust_remote_code=True).encode("a").shape)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["refused", "(8,)"]


# -- hostile and damaged folders ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["os.system", "subprocess.Popen", "builtins.exec", "torch.nn.Linear", "brought.Thing", "4_evil.X"]
)
def test_a_listing_that_names_another_class_is_refused(name, folder, tmp_path):
    (folder / "brought.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')")
    change_listing(folder, 1, type=name)
    with pytest.raises(
        ValueError, match=rf"'{name}', which is not one of this library's.*trust_remote_code=True"
    ):
        load(folder)
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("path", ["../x", "..", "/etc", "1_Pooling/../../x"])
def test_a_listing_that_leads_outside_is_refused(path, folder, tmp_path):
    shutil.copytree(folder / "1_Pooling", tmp_path / "x")
    change_listing(folder, 1, path=path)
    with pytest.raises(ValueError, match=rf"'{path}', which lies outside of {folder}"):
        load(folder)


@pytest.mark.parametrize(
    ("listing", "why"),
    [
        ("[", "modules.json is not valid JSON"),
        ("[]", "lists no modules"),
        ("{}", "lists no modules"),
        ('["a"]', "entry 0 has no 'type'"),
        ('[{"path": ""}]', "entry 0 has no 'type'"),
        ('[{"type": 5}]', "5, which is no name of a class"),
        (f'[{{"type": "{MODELS}.Pooling", "path": null}}]', "None as folder of a part"),
        (f'[{TWIN}, {TWIN}]', "two parts named 'a'"),
    ],
)  # fmt: skip
def test_a_listing_that_is_none_is_reported(listing, why, folder):
    (folder / "modules.json").write_text(listing)
    with pytest.raises(ValueError, match=why):
        load(folder)


@pytest.mark.parametrize("name", ["1_Pooling", "2_Dense"])
def test_a_missing_folder_is_reported(name, folder):
    shutil.rmtree(folder / name)
    with pytest.raises(FileNotFoundError, match=rf"{folder} lists the part '{name}' .*missing.*again"):
        load(folder)


def test_a_part_without_settings_may_have_no_folder(folder, original):
    shutil.rmtree(folder / "3_Normalize")
    np.testing.assert_array_equal(load(folder).encode(TEXTS), original.encode(TEXTS))


@pytest.mark.parametrize(
    "name",
    [
        "config_sentence_transformers.json",
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "sentence_bert_config.json",
    ],
)
@pytest.mark.parametrize("content", ['{"a": ', "[1]", ""])
def test_damaged_settings_are_reported_with_the_file(name, content, folder):
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=rf"{folder / name} .*damaged\?"):
        load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "2_Dense/model.safetensors"])
def test_damaged_weights_are_reported_with_the_place(name, folder):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match=rf"{path.parent}.* damaged or incomplete"):
        load(folder)


def test_an_activation_from_elsewhere_is_refused(folder, tmp_path):
    (tmp_path / "evil_activation.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')")
    sys.path.insert(0, str(tmp_path))
    try:
        change(folder / "2_Dense" / "config.json", activation_function="evil_activation.Function")
        with pytest.raises(ValueError, match=r"'evil_activation\.Function', which is not one of torch's"):
            load(folder)
    finally:
        sys.path.remove(str(tmp_path))
    assert not (tmp_path / "was_run").exists()


def test_an_unknown_default_prompt_in_the_settings_is_reported(folder):
    change(folder / "config_sentence_transformers.json", default_prompt_name="missing")
    with pytest.raises(ValueError, match="Default prompt name 'missing' not found"):
        load(folder)
