from __future__ import annotations

import gzip
import json
import logging

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sentence_transformers.modules.classic.tokenizers import PhraseTokenizer, WhitespaceTokenizer
from sentence_transformers.modules.classic.word_embeddings import WordEmbeddings

VOCAB = ["PADDING_TOKEN", "hello", "world", "day"]
TABLE = np.arange(8, dtype=np.float32).reshape(4, 2)


def embeddings(**settings) -> WordEmbeddings:
    return WordEmbeddings(WhitespaceTokenizer(VOCAB), TABLE, **settings)


def test_tokenised_texts_are_padded_with_zeros_to_the_longest():
    features = embeddings().tokenize(["hello world day", "day", "", "unknown"])
    # Recorded from the reference, releases 3.4.1 and 6.2.0.
    assert features["input_ids"].tolist() == [[1, 2, 3], [3, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert features["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert features["sentence_lengths"].tolist() == [3, 1, 0, 0]
    assert {value.dtype for value in features.values()} == {torch.int64}


def test_each_word_has_its_row_of_the_table():
    part = embeddings()
    tokens = part(part.preprocess(["hello world day", "day"]))["token_embeddings"]
    assert tokens.tolist() == [[[2, 3], [4, 5], [6, 7]], [[6, 7], [0, 1], [0, 1]]]


@pytest.mark.parametrize("texts", [[], ["", "unknown"]])
def test_texts_without_words_give_rows_without_tokens(texts):
    part = embeddings()
    features = part(part.preprocess(texts))
    assert features["token_embeddings"].shape == (len(texts), 0, 2)
    assert features["sentence_lengths"].tolist() == [0] * len(texts)


def test_texts_are_cut_to_max_seq_length():
    features = embeddings(max_seq_length=2).preprocess(["hello world day", "day"])
    assert features["input_ids"].tolist() == [[1, 2], [3, 0]]


def test_a_prompt_is_put_in_front_and_counted():
    features = embeddings().preprocess(["day"], prompt="hello world ")
    assert features["input_ids"].tolist() == [[1, 2, 3]]
    assert features["prompt_length"] == 2


def test_rows_can_be_reordered_before_they_are_padded():
    part = embeddings()
    rows = part.read_rows(["hello world day", "day", "world day"])
    assert rows.lengths == [3, 1, 2]
    features = part.collate_rows(rows.take([2, 1]), packed=part.can_pack)
    assert features["input_ids"].tolist() == [[2, 3], [3, 0]]


@pytest.mark.parametrize(
    "table", [TABLE, TABLE.tolist(), torch.from_numpy(TABLE).double(), TABLE.astype(int)]
)
def test_any_kind_of_table_becomes_float32(table):
    weight = WordEmbeddings(WhitespaceTokenizer(VOCAB), table).emb_layer.weight
    assert weight.dtype == torch.float32
    assert weight.tolist() == TABLE.tolist()


@pytest.mark.parametrize("update", [True, False])
def test_training_changes_the_table_only_when_asked_to(update):
    assert embeddings(update_embeddings=update).emb_layer.weight.requires_grad is update


def test_the_width_is_answered_under_the_older_name_too():
    part = embeddings()
    assert part.get_word_embedding_dimension() == part.get_embedding_dimension() == 2


def test_a_table_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"\(4,\)"):
        WordEmbeddings(WhitespaceTokenizer(VOCAB), TABLE[:, 0])


def test_a_tokenizer_that_is_none_is_refused():
    with pytest.raises(TypeError, match="type str"):
        WordEmbeddings("whitespace", TABLE)


def transformers_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(
        models.WordLevel({"[PAD]": 0, "hello": 1, "world": 2, "[UNK]": 3}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")


@pytest.mark.parametrize(
    "tokenizer",
    [
        WhitespaceTokenizer(VOCAB, stop_words=["x"], do_lower_case=True),
        PhraseTokenizer([*VOCAB[:3], "hello_world"], max_ngram_length=3),
        transformers_tokenizer(),
    ],
    ids=["whitespace", "phrase", "transformers"],
)
@pytest.mark.parametrize("safe_serialization", [True, False])
def test_saved_and_loaded_equal(tokenizer, safe_serialization, tmp_path):
    if isinstance(tokenizer, PhraseTokenizer):
        pytest.importorskip("nltk")
    part = WordEmbeddings(tokenizer, TABLE, update_embeddings=True, max_seq_length=3)
    part.save(str(tmp_path), safe_serialization)
    assert (tmp_path / "model.safetensors").is_file() is safe_serialization
    loaded = WordEmbeddings.load(str(tmp_path))
    assert loaded.get_config_dict() == part.get_config_dict()
    texts = ["hello world day hello", "Day"]
    for key, value in part(part.preprocess(texts)).items():
        torch.testing.assert_close(loaded(loaded.preprocess(texts))[key], value)


def test_the_configuration_names_the_tokenizer_as_every_release_does(tmp_path):
    embeddings().save(str(tmp_path))
    assert json.loads((tmp_path / "wordembedding_config.json").read_text()) == {
        "tokenizer_class": "sentence_transformers.models.tokenizer.WhitespaceTokenizer.WhitespaceTokenizer",
        "update_embeddings": False,
        "max_seq_length": 1000000,
    }


def test_the_layout_of_the_newest_release_is_read(tmp_path):
    part = embeddings(max_seq_length=2)
    part.save(str(tmp_path))
    room = "sentence_transformers.sentence_transformer.modules.tokenizer"
    config = {
        "tokenizer_class": f"{room}.whitespace.WhitespaceTokenizer",
        "update_embeddings": True,
        "max_seq_length": 2,
    }
    (tmp_path / "wordembedding_config.json").write_text(json.dumps(config))
    loaded = WordEmbeddings.load(str(tmp_path))
    assert (loaded.max_seq_length, loaded.update_embeddings) == (2, True)
    assert loaded.emb_layer.weight.tolist() == TABLE.tolist()


def test_a_folder_without_configuration_is_reported(tmp_path):
    with pytest.raises(ValueError, match=r"wordembedding_config\.json"):
        WordEmbeddings.load(str(tmp_path))


def write(path, text):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as handle:
        handle.write(text)
    return str(path)


@pytest.mark.parametrize("header", ["", "3 2\n"], ids=["GloVe", "word2vec"])
@pytest.mark.parametrize("name", ["vectors.txt", "vectors.txt.gz"])
def test_a_text_file_gives_its_vectors_behind_a_row_of_zeros(header, name, tmp_path):
    file = write(tmp_path / name, header + "the 1 2\nhello 4 -5e-1 \n. . 0 0\nworld 7 8\n")
    part = WordEmbeddings.from_text_file(file)
    assert part.tokenizer.get_vocab() == ["PADDING_TOKEN", "the", "hello", "world"]
    assert part.emb_layer.weight.tolist() == [[0, 0], [1, 2], [4, -0.5], [7, 8]]
    assert part.preprocess(["the world"])["input_ids"].tolist() == [[3]]


def test_skipped_lines_are_counted_in_one_warning(tmp_path, caplog):
    file = write(tmp_path / "vectors.txt", "a1 1 2\nb1 1\n\nc1 1 2 3\nd1 3 4\n")
    with caplog.at_level(logging.WARNING):
        part = WordEmbeddings.from_text_file(file)
    assert part.tokenizer.get_vocab() == ["PADDING_TOKEN", "a1", "d1"]
    assert ["Skipped 3 lines" in message for message in caplog.messages] == [True]


@pytest.mark.parametrize(("limit", "words"), [(1, 1), (2, 2), (9, 3), (None, 3)])
def test_max_vocab_size_counts_words_without_padding(limit, words, tmp_path):
    file = write(tmp_path / "vectors.txt", "a1 1 2\nb1 3 4\nc1 5 6\n")
    part = WordEmbeddings.from_text_file(file, max_vocab_size=limit)
    assert part.emb_layer.weight.shape == (1 + words, 2)


def test_a_given_tokenizer_gets_the_words_and_no_two_parts_share_the_default_one(tmp_path):
    file = write(tmp_path / "vectors.txt", "a1\t1\t2\n")
    tokenizer = WhitespaceTokenizer(do_lower_case=True)
    part = WordEmbeddings.from_text_file(file, True, "\t", tokenizer)
    assert part.tokenizer is tokenizer
    assert part.update_embeddings
    assert part.preprocess(["A1"])["input_ids"].tolist() == [[1]]
    assert (
        WordEmbeddings.from_text_file(file, item_separator="\t").tokenizer
        is not WordEmbeddings.from_text_file(file, item_separator="\t").tokenizer
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("new york 1 2\n", "Line 1 .* is no number"),
        ("", "no word vectors"),
        ("a1,1,2\n", "item_separator=' '"),
    ],
)
def test_a_file_in_another_format_is_reported(text, complaint, tmp_path):
    file = write(tmp_path / "vectors.txt", text)
    with pytest.raises(ValueError, match=complaint):
        WordEmbeddings.from_text_file(file)


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(ValueError, match="not found"):
        WordEmbeddings.from_text_file(str(tmp_path / "nowhere.txt"))
