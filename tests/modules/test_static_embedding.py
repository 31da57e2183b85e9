from __future__ import annotations

import json
import math
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from sentence_transformers.modules.static_embedding import StaticEmbedding

TABLE = np.arange(10, dtype=np.float32).reshape(5, 2)
TEXTS = ["hello world foo", "", "hello"]


def make_tokenizer() -> Tokenizer:
    vocab = {"[UNK]": 0, "[PAD]": 1, "hello": 2, "world": 3, "[CLS]": 4}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 4)])
    return tokenizer


def make() -> StaticEmbedding:
    return StaticEmbedding(make_tokenizer(), embedding_weights=TABLE)


def embed(part: StaticEmbedding, texts: list[str]) -> np.ndarray:
    return part(part.preprocess(texts))["sentence_embedding"].detach().float().numpy()


def test_texts_become_one_long_row_of_ids_without_special_tokens():
    features = make().tokenize(TEXTS)
    # Recorded from the reference, releases 3.4.1 and 6.2.0.
    assert features["input_ids"].tolist() == [2, 3, 0, 2]
    assert features["offsets"].tolist() == [0, 3, 3]
    assert {value.dtype for value in features.values()} == {torch.int64}


def test_an_embedding_is_the_mean_of_its_tokens_and_zero_without_any():
    expected = [TABLE[[2, 3, 0]].mean(axis=0), np.zeros(2), TABLE[2]]
    np.testing.assert_allclose(embed(make(), TEXTS), expected, rtol=1e-6)


def test_no_texts_give_no_rows():
    assert embed(make(), []).shape == (0, 2)


def test_rows_can_be_reordered_before_they_are_joined():
    part = make()
    rows = part.read_rows(TEXTS)
    assert rows.lengths == [3, 0, 1]
    features = part.collate_rows(rows.take([2, 0]), packed=False)
    np.testing.assert_allclose(
        part(features)["sentence_embedding"].detach(), embed(part, ["hello", TEXTS[0]])
    )
    assert features["offsets"].tolist() == [0, 1]


def test_a_prompt_is_put_in_front():
    assert make().preprocess(["world"], prompt="hello ")["input_ids"].tolist() == [2, 3]


def test_a_pair_counts_as_one_text():
    assert make().preprocess([("hello", "world"), ["world", "hello"]])["input_ids"].tolist() == [2, 3, 3, 2]


@pytest.mark.parametrize("bad", [None, 3, ("hello",), ["hello", 3]])
def test_anything_but_text_is_refused(bad):
    with pytest.raises(ValueError, match="unsupported input type"):
        make().preprocess(["hello", bad])


def test_a_lone_surrogate_is_read_as_an_unknown_character():
    assert make().preprocess(["hello \ud83d"])["input_ids"].tolist() == [2, 0]


def test_padding_of_the_tokenizer_is_ignored_and_left_in_place():
    tokenizer = make_tokenizer()
    tokenizer.enable_padding(pad_id=1, length=6)
    part = StaticEmbedding(tokenizer, embedding_weights=TABLE)
    assert part.preprocess(TEXTS)["input_ids"].tolist() == [2, 3, 0, 2]
    assert part.tokenizer is tokenizer
    assert tokenizer.padding["length"] == 6


@pytest.mark.parametrize("pads", [True, False])
def test_truncation_of_the_tokenizer_is_respected_whenever_it_is_set(pads):
    part = make()
    if pads:
        part.tokenizer.enable_padding(pad_id=1)
    assert len(part.preprocess(TEXTS)["input_ids"]) == 4
    part.tokenizer.enable_truncation(2)
    assert part.preprocess(TEXTS)["input_ids"].tolist() == [2, 3, 2]
    part.tokenizer.no_truncation()
    assert len(part.preprocess(TEXTS)["input_ids"]) == 4


def test_a_tokenizer_of_transformers_is_copied_so_that_its_calls_change_nothing():
    outer = PreTrainedTokenizerFast(tokenizer_object=make_tokenizer(), unk_token="[UNK]", pad_token="[PAD]")
    part = StaticEmbedding(outer, embedding_weights=TABLE)
    outer(["hello world", "hello"], padding="max_length", truncation=True, max_length=2)
    assert part.preprocess(TEXTS)["input_ids"].tolist() == [2, 3, 0, 2]
    assert isinstance(part.tokenizer, Tokenizer)


def test_many_threads_may_tokenise_at_once():
    part = make()
    texts = [" ".join(["hello"] * (number % 7)) for number in range(500)]
    expected = part.preprocess(texts)["offsets"]
    with ThreadPoolExecutor(8) as pool:
        for features in pool.map(part.preprocess, [texts] * 16):
            assert torch.equal(features["offsets"], expected)


def test_a_token_without_a_row_is_named():
    part = StaticEmbedding(make_tokenizer(), embedding_weights=TABLE[:3])
    assert part.preprocess(["hello"])["input_ids"].tolist() == [2]
    with pytest.raises(ValueError, match="'world' has the number 3, but the table has only 3 rows"):
        part.preprocess(["hello world"])


def test_a_random_table_has_a_row_per_token():
    part = StaticEmbedding(make_tokenizer(), embedding_dim=3)
    assert part.embedding.weight.shape == (5, 3)
    assert (
        part.get_embedding_dimension() == part.get_sentence_embedding_dimension() == part.embedding_dim == 3
    )
    assert part.max_seq_length == math.inf


@pytest.mark.parametrize(
    ("table", "dtype"),
    [
        (TABLE.astype(np.float64), torch.float64),
        (torch.from_numpy(TABLE).half(), torch.float16),
        (TABLE.astype(np.int8), torch.float32),
    ],
)
def test_a_table_keeps_its_number_type_unless_it_is_of_whole_numbers(table, dtype):
    part = StaticEmbedding(make_tokenizer(), table)
    assert part.embedding.weight.dtype == dtype
    assert part.embedding.weight.requires_grad
    np.testing.assert_allclose(embed(part, ["hello world"]), [[5.0, 6.0]])


def test_neither_table_nor_width_is_refused():
    with pytest.raises(ValueError, match="embedding_weights, or embedding_dim"):
        StaticEmbedding(make_tokenizer())


def test_a_tokenizer_that_is_not_fast_is_refused():
    with pytest.raises(ValueError, match="str is none"):
        StaticEmbedding("hello", embedding_dim=2)


@pytest.mark.parametrize("safe_serialization", [True, False])
def test_saved_and_loaded_equal(safe_serialization, tmp_path):
    part = make()
    part.save(save_dir=str(tmp_path), safe_serialization=safe_serialization)
    weights = "model.safetensors" if safe_serialization else "pytorch_model.bin"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([weights, "tokenizer.json"])
    loaded = StaticEmbedding.load(str(tmp_path))
    np.testing.assert_array_equal(embed(loaded, TEXTS), embed(part, TEXTS))


def test_a_part_can_be_loaded_out_of_a_folder_of_its_model(tmp_path):
    make().save(str(tmp_path / "0_StaticEmbedding"))
    assert list(load_file(tmp_path / "0_StaticEmbedding" / "model.safetensors")) == ["embedding.weight"]
    loaded = StaticEmbedding.load(str(tmp_path), subfolder="0_StaticEmbedding")
    np.testing.assert_array_equal(embed(loaded, TEXTS), embed(make(), TEXTS))


@pytest.mark.parametrize(
    ("missing", "complaint"), [("tokenizer.json", "tokenizer.json"), ("model.safetensors", "no weights")]
)
def test_a_missing_file_is_reported(missing, complaint, tmp_path):
    make().save(str(tmp_path))
    (tmp_path / missing).unlink()
    with pytest.raises(ValueError, match=complaint):
        StaticEmbedding.load(str(tmp_path))


def test_a_damaged_tokenizer_is_reported(tmp_path):
    make().save(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="not a tokenizer"):
        StaticEmbedding.load(str(tmp_path))


def test_another_model_is_reported_by_the_names_of_its_tensors(tmp_path):
    make().save(str(tmp_path))
    save_file({"linear.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"linear\.weight"):
        StaticEmbedding.load(str(tmp_path))


def model2vec_folder(folder, tensors):
    """The files that model2vec writes, as its release 0.10 does."""
    make_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"normalize": False, "max_length": 512}))
    save_file(tensors, folder / "model.safetensors")
    return str(folder)


def test_a_model2vec_folder_is_read(tmp_path):
    folder = model2vec_folder(tmp_path, {"embeddings": torch.from_numpy(TABLE)})
    part = StaticEmbedding.from_model2vec(folder)
    np.testing.assert_array_equal(embed(part, TEXTS), embed(make(), TEXTS))
    assert part.base_model == folder


def test_a_model2vec_model_may_share_and_weigh_its_rows(tmp_path):
    weights = torch.tensor([1.0, 1.0, 3.0, 0.5, 1.0], dtype=torch.float64)
    tensors = {
        "embeddings": torch.from_numpy(TABLE[:2]),
        "weights": weights,
        "mapping": torch.tensor([0, 0, 1, 1, 0]),
    }
    part = StaticEmbedding.from_model2vec(model2vec_folder(tmp_path, tensors))
    np.testing.assert_allclose(embed(part, ["hello", "world"]), [3.0 * TABLE[1], 0.5 * TABLE[1]])


def test_a_missing_model2vec_folder_is_reported(tmp_path):
    with pytest.raises(ValueError, match="not found"):
        StaticEmbedding.from_model2vec(str(tmp_path / "nowhere"))


def test_missing_model2vec_is_reported_with_the_install_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "model2vec", None)
    with pytest.raises(ImportError, match="pip install 'model2vec"):
        StaticEmbedding.from_distillation("any")
