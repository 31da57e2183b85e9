"""The transformer as a part: its settings, its tokenizer, its files in every layout, and what it refuses."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import threading

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sentence_transformers import SentenceTransformer
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.modules.transformer.module import Transformer
from sentence_transformers.modules.transformer.text import TextTokenizer, without_surrogates
from tiny import WIDTH, sample_texts, tiny_checkpoint, tiny_model, tiny_tokenizer

TEXTS = ["What causes asthma?", "a", "What are the treatments for allergies and for other such things?"]
OTHER_NAMES = ("roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_checkpoint("bert", tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def saved(folder, tmp_path_factory):
    """A saved part, to be copied and changed."""
    path = tmp_path_factory.mktemp("saved")
    Transformer(str(folder), max_seq_length=32, do_lower_case=True).save(str(path))
    return path


@pytest.fixture
def own_folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "own")


def tokens_of(part, texts=TEXTS):
    with torch.inference_mode():
        return part(part.preprocess(texts))["token_embeddings"]


# -- what it is --------------------------------------------------------------------------------------------


def test_it_computes_what_transformers_computes(folder):
    from transformers import AutoModel, AutoTokenizer

    part = Transformer(str(folder))
    features = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = AutoModel.from_pretrained(folder)(**features).last_hidden_state
    torch.testing.assert_close(tokens_of(part), expected)
    assert part.get_word_embedding_dimension() == part.get_embedding_dimension() == WIDTH
    assert part.config.model_type == "bert"
    assert part.auto_model.name_or_path == str(folder)
    assert part.processor is part.tokenizer


def test_features_are_those_of_the_tokenizer(folder):
    part = Transformer(str(folder))
    for texts in (TEXTS, [("asthma", "a treatment"), ("a", "b")]):
        columns = [list(column) for column in zip(*texts)] if isinstance(texts[0], tuple) else [texts]
        expected = part.tokenizer(*columns, padding=True, truncation=True, return_tensors="pt")
        features = part.tokenize(texts)
        assert list(features) == list(expected)
        assert all(features[name].equal(expected[name]) for name in expected)
    part.tokenizer.padding_side = "left"
    expected = part.tokenizer(TEXTS, padding=True, return_tensors="pt")
    assert part.tokenize(TEXTS)["input_ids"].equal(expected["input_ids"])
    assert part.tokenize(TEXTS, padding="max_length")["input_ids"].shape == (3, 128)
    multiple = part.preprocess(TEXTS, processing_kwargs={"text": {"pad_to_multiple_of": 8}})
    assert multiple["input_ids"].shape == (3, 24)


def test_texts_are_lower_cased_on_demand(tmp_path):
    # The tiny Qwen's tokenizer tells upper from lower case.
    folder = str(tiny_checkpoint("qwen3", tmp_path))
    kept, lowered = Transformer(folder), Transformer(folder, do_lower_case=True)
    ids = [part.tokenize(["What Causes"])["input_ids"].tolist() for part in (kept, lowered)]
    assert ids[0] != ids[1]
    assert ids[1] == kept.tokenize(["what causes"])["input_ids"].tolist()
    pair = lowered.tokenize([("What", "Causes")])["input_ids"].tolist()
    assert pair == kept.tokenize([("what", "causes")])["input_ids"].tolist()


def test_a_changed_or_replaced_tokenizer_is_noticed(folder):
    part = Transformer(str(folder))
    before = part.tokenize(["asthma <new>"])["input_ids"].tolist()
    part.tokenizer.add_tokens(["<new>"])
    after = part.tokenize(["asthma <new>"])["input_ids"].tolist()
    assert after != before
    assert after[0][-2] == len(part.tokenizer) - 1
    part.tokenizer = tiny_tokenizer("roberta")
    assert part.tokenize(["asthma"])["input_ids"].tolist() == [part.tokenizer("asthma")["input_ids"]]


def test_a_tokenizer_in_python_does_as_well(folder):
    part = Transformer(str(folder))
    expected = part.tokenize(TEXTS)

    class InPython:
        """Hides the half in Rust."""

        backend_tokenizer = None

        def __init__(self, tokenizer):
            self.inner = tokenizer

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def __call__(self, *args, **kwargs):
            return self.inner(*args, **kwargs)

    part.tokenizer = InPython(part.tokenizer)
    for name, tensor in part.tokenize(TEXTS).items():
        assert tensor.equal(expected[name])
    assert part.read_rows([TEXTS[2]] * 2, prompt="ask: ").prompt_length == 4


def test_a_prefix_of_a_very_long_text_gives_the_same_tokens():
    tokenizer = tiny_tokenizer("bert")
    text = " ".join(sample_texts() * 40)
    cutter = TextTokenizer(tokenizer, max_length=64)
    looked_at = []
    backend = cutter._backend
    cutter._backend = type("Spy", (), {
        "encode_batch_fast": lambda self, texts, **options: (looked_at.extend(map(len, texts)), backend.encode_batch_fast(texts, **options))[1],
        "truncation": backend.truncation,
        "pre_tokenizer": backend.pre_tokenizer,
    })()  # fmt: skip
    cutter._counter = tiny_tokenizer("bert").backend_tokenizer
    for inputs in ([text], ["a", text, "word" * 5000, "\n" * 9000 + text]):
        expected = tokenizer(inputs, truncation=True, max_length=64)["input_ids"]
        looked_at.clear()
        assert cutter.rows(inputs).ids == expected
        assert looked_at[inputs.index(text)] < len(text) // 10


def test_lone_surrogates_are_replaced_and_pairs_of_them_joined():
    assert without_surrogates("a\ud83dé") == "a\ufffdé"
    assert without_surrogates("é\ud83d\ude00") == "é😀"
    assert without_surrogates("plain") == "plain"


def test_many_threads_tokenise_at_once(folder):
    part = Transformer(str(folder))
    texts = sample_texts()
    expected = {
        limit: part.tokenizer(texts, truncation=True, max_length=limit)["input_ids"] for limit in (8, 20)
    }
    wrong = []

    def work(limit):
        part_of_mine = part.text_tokenizer(limit)
        for _ in range(20):
            if (
                part_of_mine.rows(texts).ids != expected[limit]
                or part.read_rows(texts).ids == expected[limit]
            ):
                wrong.append(limit)

    threads = [threading.Thread(target=work, args=(limit,)) for limit in (8, 20) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_queries_and_documents_can_have_a_maximum_length_each(folder):
    part = Transformer(str(folder), max_seq_length=10, query_length=4, document_length=7)
    lengths = {task: part.read_rows([TEXTS[2]], task=task).lengths for task in ("query", "document", None)}
    assert lengths == {"query": [4], "document": [7], None: [10]}


def test_unknown_tasks_and_backends_are_refused(folder):
    with pytest.raises(ValueError, match=r"transformer_task 'foo'.*feature-extraction"):
        Transformer(str(folder), transformer_task="foo")
    with pytest.raises(ValueError, match="Unsupported backend 'jax'"):
        Transformer(str(folder), backend="jax")


def test_settings_reach_transformers(folder):
    part = Transformer(
        str(folder),
        model_args={"dtype": torch.float16},
        tokenizer_args={"padding_side": "left"},
        config_args={"hidden_dropout_prob": 0.5},
    )
    assert part.auto_model.dtype == torch.float16
    assert part.tokenizer.padding_side == "left"
    assert part.config.hidden_dropout_prob == 0.5
    newer = Transformer(
        str(folder),
        model_kwargs={"attn_implementation": "eager"},
        processor_kwargs={"model_max_length": 12},
        config_kwargs={"output_hidden_states": True},
    )
    assert newer.config._attn_implementation == "eager"
    assert newer.max_seq_length == 12
    features = newer(newer.preprocess(TEXTS))
    assert len(features["all_layer_embeddings"]) == 3


@pytest.mark.parametrize("family", ["bert", "qwen3"])
@pytest.mark.parametrize("unpad", [None, False])
def test_features_can_ask_for_the_output_of_every_layer(family, unpad, tmp_path):
    folder = tiny_checkpoint(family, tmp_path, num_hidden_layers=3, layer_types=None)
    part = Transformer(str(folder), unpad_inputs=unpad).eval()
    features = part.preprocess(TEXTS)
    assert part.computes_no_padding == (unpad is None)
    asked = part({**features, "output_hidden_states": True})
    expected = tiny_model(family, num_hidden_layers=3, layer_types=None)(
        **features, output_hidden_states=True
    )
    assert len(asked["all_layer_embeddings"]) == len(expected.hidden_states) == 4
    mask = features["attention_mask"].bool()
    for layer, known in zip(asked["all_layer_embeddings"], expected.hidden_states):
        torch.testing.assert_close(layer[mask], known[mask], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(asked["token_embeddings"], asked["all_layer_embeddings"][-1])
    assert "all_layer_embeddings" not in part(features)
    # What collects the layers does not stay on the model, and comes back when asked for again.
    assert part.computes_no_padding == (unpad is None)
    copied = pickle.loads(pickle.dumps(part))
    assert len(copied({**features, "output_hidden_states": True})["all_layer_embeddings"]) == 4


def test_other_tasks_load_another_head(folder):
    part = Transformer(str(folder), transformer_task="fill-mask")
    assert type(part.auto_model).__name__ == "BertForMaskedLM"
    assert part(part.preprocess(["a"]))["token_embeddings"].shape == (1, 3, 400)


def test_the_tokenizer_may_lie_elsewhere(folder, tmp_path):
    tiny_model("bert").save_pretrained(tmp_path)
    part = Transformer(str(tmp_path), tokenizer_name_or_path=str(folder))
    torch.testing.assert_close(tokens_of(part), tokens_of(Transformer(str(folder))))


def test_a_part_can_be_copied_and_pickled(folder):
    part = Transformer(str(folder))
    expected = tokens_of(part)
    for twin in (copy.deepcopy(part), pickle.loads(pickle.dumps(part))):
        assert tokens_of(twin).equal(expected)
        assert twin.auto_model is not part.auto_model
    assert not hasattr(Transformer.__new__(Transformer), "auto_model")


def test_the_transformers_model_can_be_replaced(folder):
    part = Transformer(str(folder))
    part.auto_model = tiny_model("bert", seed=5)
    with torch.inference_mode():
        expected = tiny_model("bert", seed=5)(**part.preprocess(TEXTS)).last_hidden_state
    torch.testing.assert_close(tokens_of(part), expected)


# -- files -------------------------------------------------------------------------------------------------


def test_files_and_keys_are_those_of_every_release(saved):
    names = {path.name for path in saved.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    assert not {"pytorch_model.bin", "modules.json", "README.md"} & names
    settings = json.loads((saved / "sentence_bert_config.json").read_text())
    assert settings == {"max_seq_length": 32, "do_lower_case": True}
    assert load_file(saved / "model.safetensors").keys() == tiny_model("bert").state_dict().keys()
    # What transformers 5 calls this class, transformers 4 does not know.
    assert (
        json.loads((saved / "tokenizer_config.json").read_text())["tokenizer_class"]
        == "PreTrainedTokenizerFast"
    )


def test_special_tokens_that_were_added_are_saved_as_every_release_reads_them(folder, tmp_path):
    part = Transformer(str(folder))
    part.tokenizer.add_special_tokens({"additional_special_tokens": ["<one>", "<two>"]})
    part.save(str(tmp_path))
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["additional_special_tokens"] == ["<one>", "<two>"]
    assert "extra_special_tokens" not in config
    loaded = Transformer(str(tmp_path))
    assert loaded.tokenizer.extra_special_tokens == ["<one>", "<two>"]
    assert loaded.tokenizer("a <two>")["input_ids"] == part.tokenizer("a <two>")["input_ids"]


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("family", ["bert", "t5", "qwen3"])
def test_weights_and_tokens_are_bitwise_the_same_again(family, safe, tmp_path):
    part = Transformer(str(tiny_checkpoint(family, tmp_path / "plain")), max_seq_length=20)
    part.save(str(tmp_path / "saved"), safe_serialization=safe)
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert ("model.safetensors" in names, "pytorch_model.bin" in names) == (safe, not safe)
    loaded = Transformer.load(str(tmp_path / "saved"))
    state, other = part.auto_model.state_dict(), loaded.auto_model.state_dict()
    assert state.keys() == other.keys()
    assert all(state[name].equal(other[name]) for name in state)
    assert (loaded.max_seq_length, loaded.do_lower_case) == (20, False)
    assert loaded.tokenizer.get_vocab() == part.tokenizer.get_vocab()
    assert tokens_of(loaded).equal(tokens_of(part))


def test_settings_that_only_newer_releases_know_survive(folder, tmp_path):
    part = Transformer(str(folder), transformer_task="fill-mask", query_length=5, unpad_inputs=False)
    part.save(str(tmp_path))
    settings = json.loads((tmp_path / "sentence_bert_config.json").read_text())
    assert settings == {
        "max_seq_length": 128,
        "do_lower_case": False,
        "transformer_task": "fill-mask",
        "unpad_inputs": False,
        "query_length": 5,
    }
    loaded = Transformer.load(str(tmp_path))
    assert (loaded.transformer_task, loaded.query_length, loaded.unpad_inputs) == ("fill-mask", 5, False)


def test_the_layout_of_6_2_is_read(own_folder):
    settings = {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        "module_output_name": "token_embeddings",
    }
    (own_folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    config = json.loads((own_folder / "tokenizer_config.json").read_text())
    config["model_max_length"] = 24
    (own_folder / "tokenizer_config.json").write_text(json.dumps(config))
    loaded = Transformer.load(str(own_folder))
    assert (loaded.max_seq_length, loaded.do_lower_case) == (24, False)
    assert tokens_of(loaded, ["a word " * 50]).shape == (1, 24, WIDTH)


@pytest.mark.parametrize("kind", OTHER_NAMES)
def test_the_settings_file_is_found_under_its_older_names(kind, own_folder):
    (own_folder / "sentence_bert_config.json").rename(own_folder / f"sentence_{kind}_config.json")
    loaded = Transformer.load(str(own_folder))
    assert (loaded.max_seq_length, loaded.do_lower_case) == (32, True)


def test_without_a_settings_file_the_natural_limits_hold(own_folder):
    (own_folder / "sentence_bert_config.json").unlink()
    loaded = Transformer.load(str(own_folder))
    assert (loaded.max_seq_length, loaded.do_lower_case) == (128, False)


def test_a_settings_file_cannot_give_trust(own_folder):
    settings = {
        "max_seq_length": 9,
        "model_args": {"trust_remote_code": True},
        "tokenizer_args": {"padding_side": "left"},
    }
    (own_folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    config = json.loads((own_folder / "config.json").read_text())
    config.update(auto_map={"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}, model_type="evil")
    (own_folder / "config.json").write_text(json.dumps(config))
    (own_folder / "evil.py").write_text(f"open({str(own_folder / 'was_run')!r}, 'w')")
    with pytest.raises(ValueError, match="trust_remote_code"):
        Transformer.load(str(own_folder))
    assert not (own_folder / "was_run").exists()


# -- damage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["sentence_bert_config.json", "config.json", "tokenizer.json", "tokenizer_config.json"]
)
@pytest.mark.parametrize(
    "options", [{}, {"model_kwargs": {"attn_implementation": "eager"}}], ids=["own", "transformers"]
)
def test_truncated_json_is_reported_with_the_file(name, options, own_folder):
    path = own_folder / name
    path.write_text(path.read_text()[:-20])
    with pytest.raises((ValueError, OSError), match=name.replace(".", r"\.")):
        Transformer.load(str(own_folder), **options)


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", "truncated"], ids=str)
@pytest.mark.parametrize(
    "options", [{}, {"model_kwargs": {"attn_implementation": "eager"}}], ids=["own", "transformers"]
)
def test_damaged_weights_are_reported_with_the_place(content, options, own_folder):
    path = own_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100] if content == "truncated" else content)
    with pytest.raises(ValueError, match=rf"{own_folder}.* damaged or incomplete"):
        Transformer.load(str(own_folder), **options)


def test_missing_weights_and_configurations_are_reported_with_the_place(own_folder):
    (own_folder / "model.safetensors").unlink()
    with pytest.raises(OSError, match=str(own_folder)):
        Transformer.load(str(own_folder))
    (own_folder / "config.json").unlink()
    with pytest.raises((OSError, ValueError), match=str(own_folder)):
        Transformer.load(str(own_folder))


def test_settings_that_are_no_settings_are_reported(own_folder):
    (own_folder / "sentence_bert_config.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"sentence_bert_config\.json holds no settings but list"):
        Transformer.load(str(own_folder))


def test_weights_of_another_type_or_with_a_head_are_loaded(own_folder):
    state = load_file(own_folder / "model.safetensors")
    expected = tokens_of(Transformer.load(str(own_folder)))
    with_prefix = {f"bert.{name}": tensor for name, tensor in state.items()}
    save_file(with_prefix, own_folder / "model.safetensors", {"format": "pt"})
    torch.testing.assert_close(tokens_of(Transformer.load(str(own_folder))), expected)
    (own_folder / "model.safetensors").unlink()
    torch.save(state, own_folder / "pytorch_model.bin")
    torch.testing.assert_close(tokens_of(Transformer.load(str(own_folder))), expected)


def test_a_model_saved_while_rows_were_packed_names_no_attention_of_ours(tmp_path):
    part = Transformer(str(tiny_checkpoint("qwen3", tmp_path / "plain")))
    model = SentenceTransformer(modules=[part, Pooling(WIDTH, "lasttoken")], device="cpu")
    vectors = model.encode(TEXTS)
    model.save(str(tmp_path / "saved"))
    assert "packed" not in (tmp_path / "saved" / "config.json").read_text()
    np.testing.assert_array_equal(
        SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode(TEXTS), vectors
    )
    np.testing.assert_array_equal(model.encode(TEXTS), vectors)
