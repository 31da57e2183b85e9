"""The deterministic mode: a text's vector is the same bits alone, in any batch, and in any order."""

from __future__ import annotations

import json
import random
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentence_transformers import CrossEncoder, SentenceTransformer, models
from sentence_transformers.backend import arranged, fixed_shapes
from sentence_transformers.inference.to_disk import load_embeddings
from sentence_transformers.modules.classic.tokenizers import WhitespaceTokenizer
from tiny import WIDTH, sample_texts, tiny_checkpoint

IN_BATCHES = ("bert", "roberta", "xlm-roberta", "mpnet", "distilbert", "electra", "modernbert", "nomic-bert")
"""Families that our own forward computes, many texts at a time."""

ONE_BY_ONE = ("albert", "deberta-v2", "qwen3")

WORDS = " ".join(sample_texts()).split()


def texts_of(count, longest=90, seed=0):
    """Different texts with few and many words; most have few."""
    chance = random.Random(seed)
    return [
        " ".join(chance.choices(WORDS, k=1 + int(longest * chance.random() ** 3))) + f" {number}"
        for number in range(count)
    ]


TEXTS = texts_of(40)

PAIRS = [(TEXTS[number % 3], text) for number, text in enumerate(TEXTS)]

BATCHINGS = st.lists(st.integers(0, len(TEXTS) - 1), min_size=1, max_size=len(TEXTS))
SIZES = st.none() | st.integers(1, 64)


def same_bits(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    return found.shape == expected.shape and found.tobytes() == expected.tobytes()


def encoded(model, texts, batch_size=None, **options):
    options |= {} if batch_size is None else {"batch_size": batch_size}
    return model.encode(texts, deterministic=True, **options)


def one_by_one(model, texts, **options):
    return np.stack([encoded(model, text, **options) for text in texts])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    made = {}

    def checkpoint_of(family):
        if family not in made:
            made[family] = tiny_checkpoint(family, tmp_path_factory.mktemp(family))
        return str(made[family])

    return checkpoint_of


@pytest.fixture(scope="module")
def model_of(checkpoint):
    """Tiny models of each family, and what each text is by itself."""
    made = {}

    def model(family):
        if family not in made:
            found = SentenceTransformer(checkpoint(family), device="cpu")
            made[family] = found, one_by_one(found, TEXTS)
        return made[family]

    return model


@pytest.fixture
def bert(model_of):
    return model_of("bert")


@pytest.mark.parametrize("family", [*IN_BATCHES, *ONE_BY_ONE])
def test_a_text_has_the_same_bits_alone_and_in_any_batch(model_of, family):
    model, alone = model_of(family)

    @settings(max_examples=12)
    @given(BATCHINGS, SIZES)
    def holds(numbers, batch_size):
        found = encoded(model, [TEXTS[number] for number in numbers], batch_size)
        assert same_bits(found, alone[numbers])

    holds()


@pytest.mark.parametrize("family", [*IN_BATCHES, *ONE_BY_ONE])
def test_the_result_is_the_usual_one_but_for_the_last_digits(model_of, family):
    model, alone = model_of(family)
    np.testing.assert_allclose(alone, model.encode(TEXTS), atol=2e-5)


@pytest.mark.parametrize("family", IN_BATCHES)
def test_the_usual_encoders_are_computed_many_texts_at_a_time(model_of, family):
    model, _ = model_of(family)
    seen = []
    forward = model[0].forward
    model[0].forward = lambda features: (seen.append(len(features["row_lengths"])), forward(features))[1]
    try:
        encoded(model, TEXTS[:20])
    finally:
        del model[0].forward
    assert max(seen) > 5


@pytest.mark.slow
def test_ten_thousand_random_batchings_give_the_same_bits(tmp_path):
    checkpoint = tiny_checkpoint("bert", tmp_path, num_hidden_layers=1)
    model = SentenceTransformer(str(checkpoint), device="cpu")
    alone = one_by_one(model, TEXTS)
    tokens = [torch.tensor(row) for row in model[0].read_rows(TEXTS).ids]
    chance = random.Random(1)
    for _ in range(10_000):
        numbers = chance.sample(range(len(TEXTS)), chance.choice((1, 1, 2, 3, 4, 6)))
        found = encoded(model, [tokens[number] for number in numbers], chance.choice((None, None, 1, 2, 3)))
        assert same_bits(found, alone[numbers])


@pytest.mark.slow
def test_hundreds_of_random_batchings_of_the_real_model_give_the_same_bits(minilm):
    texts = texts_of(60, longest=120)
    alone = one_by_one(minilm, texts)
    np.testing.assert_allclose(alone, minilm.encode(texts), atol=1e-6)
    chance = random.Random(2)
    for _ in range(300):
        numbers = chance.sample(range(len(texts)), chance.choice((1, 2, 5, 10)))
        found = encoded(minilm, [texts[number] for number in numbers], chance.choice((None, 1, 4)))
        assert same_bits(found, alone[numbers])
    assert same_bits(encoded(minilm, texts[::-1]), alone[::-1])


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_it_holds_with_any_number_of_threads(bert, minilm, threads):
    used = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for model, texts in ((bert[0], TEXTS), (minilm, TEXTS[:6])):
            alone = one_by_one(model, texts)
            for batch_size in (None, 4):
                assert same_bits(encoded(model, texts, batch_size), alone)
    finally:
        torch.set_num_threads(used)


def test_it_holds_for_calls_from_many_threads_at_once(bert):
    model, alone = bert
    found = [None] * 4

    def encode(number):
        shares = [list(range(number, len(TEXTS), step)) for step in (2, 3, 5)]
        found[number] = all(
            same_bits(encoded(model, [TEXTS[place] for place in share]), alone[share]) for share in shares
        )

    threads = [threading.Thread(target=encode, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4


def test_what_was_computed_before_does_not_matter(checkpoint):
    model = SentenceTransformer(checkpoint("bert"), device="cpu")
    before = encoded(model, TEXTS)
    for _ in range(arranged.BATCHES_BEFORE + 2):  # from then on small batches use arranged weights
        model.encode(TEXTS[0])
    assert same_bits(one_by_one(model, TEXTS), before)


def test_running_out_of_memory_does_not_matter(checkpoint):
    model = SentenceTransformer(checkpoint("bert"), device="cpu")
    before = encoded(model, TEXTS)
    model._budget().lower(600)
    assert same_bits(encoded(model, TEXTS), before)


@pytest.mark.parametrize(
    "parts",
    [
        [models.Pooling(WIDTH, "cls"), models.Normalize()],
        [models.Pooling(WIDTH, ["mean", "max"]), models.Dense(2 * WIDTH, 24), models.Normalize()],
        [models.LayerNorm(WIDTH), models.Pooling(WIDTH, "weightedmean")][1:],
        [models.Pooling(WIDTH, "mean"), models.LayerNorm(WIDTH), models.Dense(WIDTH, 7, use_residual=True)],
    ],
    ids=["first token", "two poolings and a layer", "weighted", "residual"],
)
def test_it_holds_for_what_stands_behind_the_transformer(checkpoint, parts):
    transformer = models.Transformer(checkpoint("bert"))
    model = SentenceTransformer(modules=[transformer, *parts], device="cpu")
    alone = one_by_one(model, TEXTS, normalize_embeddings=True)
    for batch_size in (None, 3):
        assert same_bits(encoded(model, TEXTS, batch_size, normalize_embeddings=True), alone)
    np.testing.assert_allclose(alone, model.encode(TEXTS, normalize_embeddings=True), atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"prompt": "What is meant by: "},
        {"truncate_dim": 9, "normalize_embeddings": True},
        {"precision": "ubinary"},
        {"convert_to_tensor": True},
    ],
    ids=str,
)
def test_it_holds_with_the_options_of_encode(bert, options):
    model, _ = bert
    assert same_bits(encoded(model, TEXTS, **options), one_by_one(model, TEXTS, **options))


@pytest.mark.parametrize("output_value", ["token_embeddings", None])
def test_it_holds_for_the_other_outputs(bert, output_value):
    model, _ = bert
    together = encoded(model, TEXTS, output_value=output_value)
    for text, found in zip(TEXTS, together, strict=True):
        alone = encoded(model, text, output_value=output_value)
        if output_value is None:
            found, alone = found["sentence_embedding"], alone["sentence_embedding"]
        assert same_bits(found, alone)


def test_it_holds_for_half_precision(checkpoint):
    model = SentenceTransformer(checkpoint("bert"), device="cpu", model_kwargs={"dtype": torch.bfloat16})
    found = encoded(model, TEXTS, convert_to_tensor=True).float()
    assert same_bits(found, np.stack([encoded(model, text) for text in TEXTS]).astype(np.float32))


@pytest.fixture
def without_special_tokens(tmp_path):
    """A checkpoint that gives an empty text no token at all."""
    path = tiny_checkpoint("bert", tmp_path) / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "post_processor": None}), "utf-8")
    return str(tmp_path)


def test_it_holds_beside_texts_without_any_token(without_special_tokens):
    model = SentenceTransformer(without_special_tokens, device="cpu")
    texts = ["", *TEXTS[:5]]
    assert same_bits(encoded(model, texts), one_by_one(model, texts))


def test_pairs_without_any_token_are_refused(without_special_tokens):
    model = CrossEncoder(without_special_tokens, num_labels=1, device="cpu")
    with pytest.raises(ValueError, match="no token at all"):
        model.predict([*PAIRS[:3], ("", "")], deterministic=True)


def test_it_holds_for_a_model_of_words():
    words = sorted(set(WORDS))
    table = np.random.default_rng(0).normal(size=(len(words), 10)).astype(np.float32)
    embeddings = models.WordEmbeddings(WhitespaceTokenizer(words, stop_words=[]), table)
    model = SentenceTransformer(modules=[embeddings, models.Pooling(10, "mean")], device="cpu")
    assert same_bits(encoded(model, TEXTS), one_by_one(model, TEXTS))


def test_somebody_who_looks_at_the_model_changes_nothing_about_it(checkpoint):
    model = SentenceTransformer(checkpoint("bert"), device="cpu")
    calls = []
    handle = model.register_forward_hook(lambda *details: calls.append(1))
    found = encoded(model, TEXTS)
    assert calls
    assert same_bits(found, one_by_one(model, TEXTS))
    handle.remove()


@pytest.mark.parametrize("largest", [0, 16, 64], ids="blocks up to {}".format)
def test_it_holds_where_a_machine_computes_large_blocks_otherwise(checkpoint, monkeypatch, largest):
    """Also where not even the smallest will do: then texts are computed one by one."""
    monkeypatch.setattr(fixed_shapes, "holds", lambda *_, size, least, **__: size <= largest)
    model = SentenceTransformer(checkpoint("bert"), device="cpu")
    assert same_bits(encoded(model, TEXTS), one_by_one(model, TEXTS))


@pytest.mark.slow
def test_workers_give_the_bits_of_one_process_with_as_many_threads(checkpoint):
    model = SentenceTransformer(checkpoint("bert"), device="cpu")
    pool = model.start_multi_process_pool(["cpu", "cpu"])
    used = torch.get_num_threads()
    try:
        torch.set_num_threads(max(1, (torch.multiprocessing.cpu_count() or 1) // 2))
        assert same_bits(encoded(model, TEXTS, pool=pool, chunk_size=7), one_by_one(model, TEXTS))
    finally:
        torch.set_num_threads(used)
        model.stop_multi_process_pool(pool)


def test_rows_on_the_disk_have_the_bits_of_texts_alone(bert, tmp_path):
    model, alone = bert
    for rows in (7, 100):
        path = tmp_path / f"{rows}.npy"
        model.encode_to(path, TEXTS, deterministic=True, rows_per_shard=rows)
        assert same_bits(load_embeddings(path).embeddings, alone)


def test_files_begun_without_it_are_not_gone_on_with_under_it(bert, tmp_path):
    model, _ = bert
    model.encode_to(tmp_path / "a.npy", TEXTS)
    model.encode_to(tmp_path / "a.npy", TEXTS)
    with pytest.raises(ValueError, match="deterministic"):
        model.encode_to(tmp_path / "a.npy", TEXTS, deterministic=True)


def test_codes_whose_ranges_come_from_all_texts_are_refused(bert):
    model, _ = bert
    with pytest.raises(ValueError, match="takes its ranges from all texts"):
        encoded(model, TEXTS, precision="int8")


def test_anything_but_true_and_false_is_refused(bert):
    model, _ = bert
    with pytest.raises(ValueError, match="neither True nor False"):
        model.encode(TEXTS, deterministic="yes")


# -- pairs ------------------------------------------------------------------------------------------------


def cross_encoder(checkpoint, family, labels=1):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CrossEncoder(checkpoint(family), num_labels=labels, device="cpu")


@pytest.mark.parametrize("family", [*IN_BATCHES, "albert"])
@pytest.mark.parametrize("labels", [1, 3])
def test_a_pair_has_the_same_score_alone_and_in_any_batch(checkpoint, family, labels):
    model = cross_encoder(checkpoint, family, labels)
    alone = np.stack([model.predict(pair, deterministic=True, apply_softmax=True) for pair in PAIRS])

    @settings(max_examples=8)
    @given(BATCHINGS, SIZES)
    def holds(numbers, batch_size):
        options = {} if batch_size is None else {"batch_size": batch_size}
        pairs = [PAIRS[number] for number in numbers]
        found = model.predict(pairs, deterministic=True, apply_softmax=True, **options)
        assert same_bits(found, alone[numbers])

    holds()
    np.testing.assert_allclose(alone, model.predict(PAIRS, apply_softmax=True), atol=1e-5)


def test_a_document_has_the_same_score_in_whatever_ranking(checkpoint):
    model = cross_encoder(checkpoint, "bert")
    alone = {text: model.predict(("a question", text), deterministic=True) for text in TEXTS}
    for documents in (TEXTS, TEXTS[::3], TEXTS[5:6]):
        for hit in model.rank("a question", documents, deterministic=True):
            assert hit["score"] == float(alone[documents[hit["corpus_id"]]])
