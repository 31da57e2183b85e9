"""What `encode` returns and accepts, prompts, widths, similarities, and the numbers that users see.

Numbers written out were computed with sentence-transformers 6.2.0 and all-MiniLM-L6-v2 on the CPU (for the
rounding of int8 codes see `test_precision.py`); 3.4.1 gives the same unless a comment says otherwise.
"""

from __future__ import annotations

import csv
import gzip

import numpy as np
import pytest
import torch
from torch import nn

from sentence_transformers import SentenceTransformer, SimilarityFunction
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.modules.router import Router
from sentence_transformers.modules.transformer.module import Transformer
from tiny import WIDTH, sample_texts, tiny_checkpoint

SENTENCES = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
TEXTS = ["What causes asthma?", "a", "What are the treatments for allergies and for other such things?"]
POOLING_MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Folder of the tiny checkpoint of a family, made when first asked for."""
    made = {}

    def folder_of(family):
        if family not in made:
            made[family] = tiny_checkpoint(family, tmp_path_factory.mktemp(family))
        return str(made[family])

    return folder_of


@pytest.fixture
def model(checkpoints):
    """A tiny model of its own for each test."""
    return tiny(Transformer(checkpoints("bert")))


@pytest.fixture(scope="module")
def transformers(checkpoints):
    """The transformer of a family; tests that change its settings set all they rely on."""
    made = {}

    def transformer_of(family):
        if family not in made:
            made[family] = Transformer(checkpoints(family))
        return made[family]

    return transformer_of


def tiny(transformer, mode="mean", **settings):
    """A model of a transformer and pooling."""
    return SentenceTransformer(modules=[transformer, Pooling(WIDTH, mode)], device="cpu", **settings)


def firsts(vectors, count=4):
    """The first numbers of each vector."""
    return np.asarray(vectors, dtype=np.float64)[..., :count]


# -- what comes back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("tensor_wins", [True, False])
def test_arrays_are_the_default(model, tensor_wins):
    vectors = model.encode(TEXTS)
    assert isinstance(vectors, np.ndarray)
    assert vectors.shape == (3, WIDTH)
    assert vectors.dtype == np.float32
    assert model.encode(TEXTS[0]).shape == (WIDTH,)
    assert model.encode(TEXTS[:1]).shape == (1, WIDTH)
    tensors = model.encode(TEXTS, convert_to_tensor=True, convert_to_numpy=tensor_wins)
    assert isinstance(tensors, torch.Tensor)
    assert tensors.shape == (3, WIDTH)
    assert tensors.dtype == torch.float32
    np.testing.assert_array_equal(tensors.numpy(), vectors)
    assert model.encode(TEXTS[0], convert_to_tensor=True).shape == (WIDTH,)
    assert model.encode(TEXTS[:1], convert_to_tensor=True).shape == (1, WIDTH)


def test_without_either_flag_a_list_of_tensors_comes_back(model):
    vectors = model.encode(TEXTS, convert_to_numpy=False)
    assert isinstance(vectors, list)
    assert [type(vector) for vector in vectors] == [torch.Tensor] * 3
    np.testing.assert_array_equal(torch.stack(vectors).numpy(), model.encode(TEXTS))
    alone = model.encode(TEXTS[0], convert_to_numpy=False)
    assert isinstance(alone, torch.Tensor)
    assert alone.shape == (WIDTH,)
    assert len(model.encode(TEXTS[:1], convert_to_numpy=False)) == 1


@pytest.mark.parametrize(
    "empty", [[], (), np.array([], dtype=str), iter(())], ids=lambda value: type(value).__name__
)
def test_nothing_gives_an_empty_result_of_the_type_asked_for(model, empty):
    vectors = model.encode(empty)
    assert isinstance(vectors, np.ndarray)
    assert vectors.shape == (0,)
    assert vectors.dtype == np.float64  # as every release has it
    tensor = model.encode([], convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    assert tensor.shape == (0,)
    assert model.encode([], convert_to_numpy=False) == []
    assert model.encode([], output_value="token_embeddings") == []
    assert model.encode([], output_value=None) == []
    assert model.encode([], precision="int8").shape == (0,)


@pytest.mark.parametrize("flags", [{}, {"convert_to_numpy": False}, {"convert_to_tensor": True}], ids=str)
def test_token_embeddings_are_tensors_without_padding_whatever_the_flags(model, flags):
    rows = model.encode(TEXTS, output_value="token_embeddings", **flags)
    lengths = [len(model.tokenizer(text)["input_ids"]) for text in TEXTS]
    assert isinstance(rows, list)
    assert [tuple(row.shape) for row in rows] == [(length, WIDTH) for length in lengths]
    for row, vector in zip(rows, model.encode(TEXTS)):
        np.testing.assert_allclose(row.mean(dim=0).numpy(), vector, atol=1e-6)
    alone = model.encode(TEXTS[0], output_value="token_embeddings", truncate_dim=4)
    assert alone.shape == (lengths[0], WIDTH)  # never truncated


def test_everything_is_a_dictionary_for_each_row_padded_as_its_batch(model):
    rows = model.encode(TEXTS, output_value=None)
    features = model.tokenize(TEXTS)
    assert isinstance(rows, list)
    for number, row in enumerate(rows):
        assert sorted(row) == [
            "attention_mask",
            "input_ids",
            "sentence_embedding",
            "token_embeddings",
            "token_type_ids",
        ]
        for name in ("input_ids", "attention_mask", "token_type_ids"):
            assert row[name].equal(features[name][number])
        assert row["token_embeddings"].shape == (features["input_ids"].shape[1], WIDTH)
    np.testing.assert_allclose(
        torch.stack([row["sentence_embedding"] for row in rows]).numpy(), model.encode(TEXTS), atol=1e-6
    )
    assert isinstance(model.encode(TEXTS[0], output_value=None), dict)


def test_everything_holds_the_prompt_s_length_and_a_truncated_embedding(model):
    row = model.encode("asthma", output_value=None, prompt="query: ", truncate_dim=8)
    assert row["prompt_length"] == len(model.tokenizer("query: ")["input_ids"]) - 1
    assert row["sentence_embedding"].shape == (8,)
    assert row["token_embeddings"].shape[1] == WIDTH


def test_everything_holds_the_row_s_share_of_every_layer(checkpoints):
    # Three rows and three layers (embeddings and two): which of them is meant must not depend on the number.
    model = SentenceTransformer(
        checkpoints("bert"), device="cpu", config_kwargs={"output_hidden_states": True}
    )
    rows = model.encode(TEXTS, output_value=None)
    for row in rows:
        layers = row["all_layer_embeddings"]
        assert [tuple(layer.shape) for layer in layers] == [tuple(row["token_embeddings"].shape)] * 3
        assert layers[-1].equal(row["token_embeddings"])


@pytest.mark.parametrize(
    ("precision", "dtype", "width"),
    [
        ("int8", np.int8, WIDTH),
        ("uint8", np.uint8, WIDTH),
        ("binary", np.int8, WIDTH // 8),
        ("ubinary", np.uint8, WIDTH // 8),
    ],
)
def test_precisions_come_in_the_same_containers(model, precision, dtype, width):
    codes = model.encode(TEXTS, precision=precision)
    assert isinstance(codes, np.ndarray)
    assert codes.shape == (3, width)
    assert codes.dtype == dtype
    tensor = model.encode(TEXTS, precision=precision, convert_to_tensor=True)
    np.testing.assert_array_equal(tensor.numpy(), codes)
    tensors = model.encode(TEXTS, precision=precision, convert_to_numpy=False)
    assert isinstance(tensors, list)
    np.testing.assert_array_equal(torch.stack(tensors).numpy(), codes)
    if "binary" in precision:
        np.testing.assert_array_equal(model.encode(TEXTS[0], precision=precision), codes[0])
    else:
        with pytest.raises(ValueError, match="single embedding"):
            model.encode(TEXTS[0], precision=precision)


def test_codes_are_those_of_the_reference(minilm):
    # int8 at 3.4.1 rounds negative codes towards zero: -65 for -66, -83 for -84, -95 for -96.
    assert minilm.encode(SENTENCES, precision="int8")[:, :6].tolist() == [
        [-66, 127, 127, 66, -128, -128],
        [-128, -128, 9, 127, 127, -84],
        [127, 4, -128, -128, -96, 127],
    ]
    assert minilm.encode(SENTENCES, precision="uint8")[1, :6].tolist() == [0, 0, 137, 255, 255, 44]
    assert minilm.encode(SENTENCES, precision="binary")[:, :4].tolist() == [
        [122, -33, -107, -7],
        [-6, -17, 37, 83],
        [95, 71, -51, -44],
    ]
    assert minilm.encode(SENTENCES, precision="ubinary")[0, :4].tolist() == [250, 95, 21, 121]


def test_unknown_choices_are_refused_with_what_would_do(model):
    with pytest.raises(KeyError, match=r"Unknown output_value 'foo'.*token_embeddings"):
        model.encode("a", output_value="foo")
    with pytest.raises(ValueError, match=r"Precision 'float16' is not supported.*ubinary"):
        model.encode([], precision="float16")
    with pytest.raises(ValueError, match="batch_size=0"):
        model.encode("a", batch_size=0)
    with pytest.raises(ValueError, match="does not know: foo, bar"):
        model.encode("a", foo=1, bar=2)
    with pytest.raises(RuntimeError, match="foo"):
        model.encode("a", device="foo")


# -- what goes in ------------------------------------------------------------------------------------------


def containers():
    yield "tuple", tuple
    yield "array", np.array
    yield "object array", lambda texts: np.array(texts, dtype=object)
    yield "generator", lambda texts: (text for text in texts)
    yield "keys", lambda texts: dict.fromkeys(texts).keys()
    yield "values", lambda texts: dict(enumerate(texts)).values()


@pytest.mark.parametrize(
    "container", [made for _, made in containers()], ids=[name for name, _ in containers()]
)
def test_any_collection_of_texts_counts_as_a_list(model, container):
    np.testing.assert_array_equal(model.encode(container(TEXTS)), model.encode(TEXTS))


def test_columns_of_data_sets_and_series_count_as_lists(model):
    datasets = pytest.importorskip("datasets")
    pandas = pytest.importorskip("pandas")
    expected = model.encode(TEXTS)
    table = datasets.Dataset.from_dict({"text": TEXTS})
    np.testing.assert_array_equal(model.encode(table["text"]), expected)
    np.testing.assert_array_equal(model.encode(pandas.Series(TEXTS, index=[7, 8, 9])), expected)
    np.testing.assert_array_equal(model.encode(pandas.DataFrame({"text": TEXTS})["text"]), expected)


def test_a_numpy_string_is_one_text(model):
    np.testing.assert_array_equal(model.encode(np.str_(TEXTS[0])), model.encode(TEXTS[0]))


def test_inputs_may_be_named_as_in_any_release(model):
    expected = model.encode(TEXTS)
    np.testing.assert_array_equal(model.encode(sentences=TEXTS), expected)
    np.testing.assert_array_equal(model.encode(inputs=TEXTS), expected)
    np.testing.assert_array_equal(model.encode_query(sentences=TEXTS), expected)
    with pytest.raises(TypeError, match="twice"):
        model.encode(TEXTS, inputs=TEXTS)
    with pytest.raises(TypeError, match="nothing to encode"):
        model.encode()


@pytest.mark.parametrize(
    "pair", [("asthma", "treatment of it"), ["asthma", "treatment of it"]], ids=["tuple", "list"]
)
def test_pairs_are_encoded_as_the_tokenizer_joins_them(model, pair):
    features = model.tokenizer([pair[0]], [pair[1]], return_tensors="pt")
    assert features["token_type_ids"].max() == 1
    expected = model(dict(features))["sentence_embedding"].detach().numpy()
    np.testing.assert_allclose(model.encode([pair]), expected, atol=1e-6)
    np.testing.assert_allclose(model.encode(np.array([pair])), expected, atol=1e-6)


def test_texts_and_pairs_may_come_in_one_call(model):
    mixed = ["What is it?", ("asthma", "treatment of it"), "a"]
    one_by_one = np.concatenate([model.encode([item]) for item in mixed])
    np.testing.assert_allclose(model.encode(mixed), one_by_one, atol=1e-6)


def test_pairs_agree_with_the_reference(minilm):
    # 3.4.1 takes no prompt with pairs.
    pair = [("A man is eating food.", "A man is riding a horse.")]
    np.testing.assert_allclose(
        firsts(minilm.encode(pair))[0], [-0.00873, -0.01286, 0.04042, 0.0673], atol=2e-5
    )
    prompted = minilm.encode(pair, prompt="query: ")
    np.testing.assert_allclose(firsts(prompted)[0], [0.01382, 0.008, 0.03514, 0.09197], atol=2e-5)


def test_token_ids_take_the_place_of_texts(model):
    expected = model.encode(TEXTS)
    ids = model.tokenizer(TEXTS)["input_ids"]
    np.testing.assert_allclose(model.encode(ids), expected, atol=1e-6)
    np.testing.assert_allclose(model.encode([np.array(row) for row in ids]), expected, atol=1e-6)
    np.testing.assert_allclose(model.encode(ids[0]), expected[0], atol=1e-6)
    np.testing.assert_allclose(
        model.encode([dict(model.tokenizer(text)) for text in TEXTS]), expected, atol=1e-6
    )


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (5, "5 of type int"),
        (3.5, "3.5 of type float"),
        (True, "True of type bool"),
        (b"abc", "bytes"),
        ([b"abc"], "of type bytes"),
        ([None, "a"], "None of type NoneType"),
        (["a", None], "None of type NoneType"),
        (["a", 5], "5 of type int"),
        ([1.5], "1.5 of type float"),
        ([float("nan"), "a"], "nan of type float"),
        ([("a", "b", "c")], "of type tuple"),
        ([["a"]], "of type list"),
        ([[]], "of type list"),
        ([("a", None)], "of type tuple"),
        ([{"a": "x", "b": "y"}], "of type dict"),
        (["a", [2, 3]], "of type list"),
        ([[2, 3], "a"], "Pass texts, or token ids"),
        ([[2, 400]], "token id 400 is unknown .* 400 tokens"),
        ([[-1, 2]], "token id -1 is unknown"),
        ([[5] * 129], "129 tokens does not fit this model, which has 128 positions"),
    ],
    ids=str,
)
@pytest.mark.parametrize("prompt", [None, "query: "])
def test_what_cannot_be_encoded_is_named(model, wrong, why, prompt):
    with pytest.raises(ValueError, match=why):
        model.encode(wrong, prompt=prompt)


def test_none_is_nothing_to_encode(model):
    with pytest.raises(TypeError, match="None is no input"):
        model.encode(None)


def test_empty_and_odd_texts_are_encoded(model):
    odd = ["", " ", "\n", "\ud83d lone", "\x00", "😀" * 50, "é" * 3000]
    assert np.isfinite(model.encode(odd)).all()
    np.testing.assert_allclose(model.encode(odd)[0], model.encode(""), atol=1e-6)


@pytest.mark.parametrize("family", ["qwen3", "xlm-roberta", "t5", "roberta"])
def test_white_space_around_a_text_is_left_to_the_tokenizer(transformers, family):
    # So does 6.2.0; 3.4.1 strips texts, which changes what byte-level and sentence-piece tokenizers see.
    model = tiny(transformers(family))
    for text in ("  asthma", "asthma  ", "\nasthma\n"):
        ids = model.tokenizer(text)["input_ids"]
        assert model.tokenize([text])["input_ids"].tolist() == [ids]
        np.testing.assert_allclose(model.encode(text), model.encode(ids), atol=1e-6)
    same = np.allclose(model.encode("  asthma"), model.encode("asthma"), atol=1e-3)
    assert same == (family == "roberta")  # the tiny RoBERTa's word pieces do without white space


def test_dictionaries_choose_the_branch_of_a_router(checkpoints):
    folder = checkpoints("bert")
    query = [Transformer(folder), Pooling(WIDTH, "mean")]
    document = [Transformer(folder), Pooling(WIDTH, "cls")]
    model = SentenceTransformer(modules=[Router({"query": query, "document": document})], device="cpu")
    as_query = SentenceTransformer(modules=query, device="cpu").encode(TEXTS)
    as_document = SentenceTransformer(modules=document, device="cpu").encode(TEXTS)
    np.testing.assert_allclose(model.encode([{"query": text} for text in TEXTS]), as_query, atol=1e-6)
    np.testing.assert_allclose(model.encode([{"document": text} for text in TEXTS]), as_document, atol=1e-6)
    np.testing.assert_allclose(model.encode({"query": TEXTS[0]}), as_query[0], atol=1e-6)
    np.testing.assert_allclose(model.encode(TEXTS, task="document"), as_document, atol=1e-6)
    np.testing.assert_allclose(model.encode_query(TEXTS), as_query, atol=1e-6)
    np.testing.assert_allclose(model.encode_document(TEXTS), as_document, atol=1e-6)
    with pytest.raises(ValueError, match="'foo'"):
        model.encode([{"foo": "a"}])
    with pytest.raises(ValueError, match="keys"):
        model.encode([{"query": "a"}, {"document": "b"}])


# -- prompts -----------------------------------------------------------------------------------------------


@pytest.fixture
def prompted(checkpoints):
    prompts = {"query": "ask: ", "other": "other "}
    return tiny(Transformer(checkpoints("bert")), prompts=prompts)


def with_text(model, text):
    return model.encode([text + item for item in TEXTS], prompt="")


def test_a_prompt_is_put_in_front_of_each_text(prompted):
    np.testing.assert_allclose(prompted.encode(TEXTS, prompt="x y "), with_text(prompted, "x y "), atol=1e-6)
    np.testing.assert_allclose(prompted.encode(TEXTS, "query"), with_text(prompted, "ask: "), atol=1e-6)


def test_the_prompt_itself_wins_over_its_name_and_that_over_the_default(prompted):
    prompted.default_prompt_name = "other"
    plain = with_text(prompted, "")
    np.testing.assert_allclose(prompted.encode(TEXTS), with_text(prompted, "other "), atol=1e-6)
    np.testing.assert_allclose(
        prompted.encode(TEXTS, prompt_name=None), with_text(prompted, "other "), atol=1e-6
    )
    np.testing.assert_allclose(
        prompted.encode(TEXTS, prompt_name="query"), with_text(prompted, "ask: "), atol=1e-6
    )
    np.testing.assert_allclose(
        prompted.encode(TEXTS, prompt_name="missing", prompt="x "), with_text(prompted, "x "), atol=1e-6
    )
    np.testing.assert_allclose(prompted.encode(TEXTS, prompt=""), plain, atol=1e-6)


def test_an_unknown_prompt_name_is_refused_with_those_there_are(prompted):
    with pytest.raises(
        ValueError, match=r"'missing' not found in the configured prompts dictionary.*'other'"
    ):
        prompted.encode(TEXTS, prompt_name="missing")
    with pytest.raises(ValueError, match=r"'missing' not found"):
        prompted.encode([], prompt_name="missing")
    with pytest.raises(ValueError, match=r"Default prompt name 'missing' not found"):
        SentenceTransformer(modules=list(prompted), default_prompt_name="missing", device="cpu")


def test_prompts_start_with_empty_ones_for_queries_and_documents(model):
    assert model.prompts == {"query": "", "document": ""}
    assert model.default_prompt_name is None


def test_a_default_prompt_is_announced(model, caplog):
    SentenceTransformer(modules=list(model), prompts={"q": "query: "}, default_prompt_name="q", device="cpu")
    assert "'q' is put in front of every text" in caplog.text


@pytest.mark.parametrize(
    ("prompts", "default", "query", "document"),
    [
        # Each row gave these texts at 6.2.0.
        ({"query": "q: ", "passage": "p: ", "corpus": "c: "}, None, "q: ", "p: "),
        ({"corpus": "c: ", "passage": "p: "}, None, "", "p: "),
        ({"corpus": "c: "}, None, "", "c: "),
        ({"document": "d: ", "passage": "p: "}, None, "", "d: "),
        ({"query": "q: ", "x": "x: "}, "x", "q: ", ""),
        ({"x": "x: "}, "x", "", ""),
    ],
)
def test_queries_and_documents_get_the_prompt_of_their_name(model, prompts, default, query, document):
    model = SentenceTransformer(
        modules=list(model), prompts=prompts, default_prompt_name=default, device="cpu"
    )
    np.testing.assert_allclose(model.encode_query(TEXTS), with_text(model, query), atol=1e-6)
    np.testing.assert_allclose(model.encode_document(TEXTS), with_text(model, document), atol=1e-6)
    np.testing.assert_allclose(model.encode_query(TEXTS, prompt="x "), with_text(model, "x "), atol=1e-6)
    name = next(iter(prompts))
    np.testing.assert_allclose(
        model.encode_document(TEXTS, prompt_name=name), with_text(model, prompts[name]), atol=1e-6
    )


def prompt_left_out_by_hand(model, mode, prompt, texts):
    """Pool, one text at a time and without padding, the tokens after the prompt's."""
    ends = model.tokenizer("a")["input_ids"][-1] in model.tokenizer.all_special_ids
    skip = len(model.tokenizer(prompt)["input_ids"]) - ends
    rows = []
    for text in texts:
        ids = torch.tensor([model.tokenizer(prompt + text, truncation=True)["input_ids"]])
        with torch.inference_mode():
            outputs = model[0].auto_model(input_ids=ids, attention_mask=torch.ones_like(ids))
        tokens = outputs[0][0, skip:].double()
        position = torch.arange(skip + 1, skip + 1 + len(tokens)).double()[:, None]
        rows.append(
            {
                "cls": lambda tokens=tokens: tokens[0],
                "lasttoken": lambda tokens=tokens: tokens[-1],
                "max": lambda tokens=tokens: tokens.max(dim=0).values,
                "mean": lambda tokens=tokens: tokens.mean(dim=0),
                "mean_sqrt_len_tokens": lambda tokens=tokens: tokens.sum(dim=0) / len(tokens) ** 0.5,
                "weightedmean": lambda tokens=tokens, p=position: (tokens * p).sum(dim=0) / p.sum(),
            }[mode]()
        )
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("mode", POOLING_MODES)
@pytest.mark.parametrize(
    ("family", "padding_side"),
    [("bert", "right"), ("t5", "right"), ("qwen3", "left"), ("mpnet", "right"), ("xlm-roberta", "left")],
)
def test_a_prompt_can_be_left_out_of_the_pooling(transformers, family, padding_side, mode):
    model = tiny(transformers(family), mode)
    model.tokenizer.padding_side, model.tokenizer.truncation_side = padding_side, "right"
    model.max_seq_length, model[0].unpad_inputs = 128, None
    model.set_pooling_include_prompt(False)
    prompt = "ask for: it"
    expected = prompt_left_out_by_hand(model, mode, prompt, TEXTS)
    np.testing.assert_allclose(
        model.encode(TEXTS, prompt=prompt), expected, atol=1e-5
    )  # packed where it can be
    model[0].unpad_inputs = False
    np.testing.assert_allclose(model.encode(TEXTS, prompt=prompt), expected, atol=1e-5)  # padded
    features = model.preprocess(TEXTS, prompt=prompt)
    with torch.inference_mode():
        np.testing.assert_allclose(model(features)["sentence_embedding"].numpy(), expected, atol=1e-5)


# The third and fourth of each row only differ from "everything counts" by what `include_prompt=False` leaves
# out: the tokens of "query: " and the opening [CLS]. The mode "cls" takes the first token that is left, as
# 6.2.0 does; 3.4.1 takes [CLS] still.
WITHOUT_PROMPT = {
    "mean": [0.11033, 0.67057, 0.99759, 0.39019],
    "cls": [0.01469, 0.58656, 0.71991, 0.45191],
    "lasttoken": [0.29735, 0.63364, 0.58935, 0.80622],
    "weightedmean": [0.16618, 0.66633, 0.94397, 0.43033],
    "max": [0.35572, 1.3044, 1.8027, 0.89533],
    "mean_sqrt_len_tokens": [0.29192, 1.77416, 2.63938, 1.03235],
}
WITH_EVERYTHING = {
    "mean": [0.09762, 0.61071, 0.81166, 0.34107],
    "cls": [-0.12727, 0.59208, 0.59864, 0.23117],
    "lasttoken": [0.20334, 0.48053, 0.38959, 0.77839],
    "weightedmean": [0.1814, 0.58653, 0.75969, 0.39866],
    "max": [0.37171, 1.17519, 1.69276, 0.77839],
    "mean_sqrt_len_tokens": [0.27612, 1.72736, 2.29573, 0.9647],
}


@pytest.mark.parametrize("mode", POOLING_MODES)
def test_pooling_with_and_without_a_prompt_agrees_with_the_reference(minilm, mode):
    model = SentenceTransformer(modules=[minilm[0], Pooling(384, mode)], device="cpu")
    np.testing.assert_allclose(firsts(model.encode(SENTENCES))[0], WITH_EVERYTHING[mode], atol=3e-5)
    model.set_pooling_include_prompt(False)
    prompted = model.encode(SENTENCES, prompt="query: ")
    np.testing.assert_allclose(firsts(prompted)[0], WITHOUT_PROMPT[mode], atol=3e-5)


# -- length ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "t5", "qwen3"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_long_texts_are_cut_as_transformers_cuts_them(transformers, family, side):
    model = tiny(transformers(family))
    model.tokenizer.padding_side = "right"
    model[0].unpad_inputs = None
    texts = [*TEXTS, " ".join(sample_texts()), "word " * 2000]
    model.tokenizer.truncation_side = side
    for limit in (5, 9, 128):
        model.max_seq_length = limit
        assert model.max_seq_length == model[0].max_seq_length == model.get_max_seq_length() == limit
        rows = model.tokenizer(texts, truncation=True, max_length=limit)["input_ids"]
        assert model[0].read_rows(texts).ids == rows
        assert max(map(len, rows)) == limit
        np.testing.assert_allclose(model.encode(texts), model.encode(rows), atol=1e-5)


def test_pairs_are_cut_at_the_longer_text_first(model):
    pairs = [("asthma " * 9, "a treatment"), ("asthma", "one and two " * 9)]
    model.max_seq_length = 12
    firsts_, seconds = zip(*pairs)
    expected = model.tokenizer(list(firsts_), list(seconds), truncation=True, max_length=12, padding=True)
    features = model.tokenize(pairs)
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert features[name].tolist() == expected[name]


def test_the_limit_is_the_smaller_of_the_model_s_and_the_tokenizer_s(checkpoints):
    assert Transformer(checkpoints("bert")).max_seq_length == 128
    # T5 knows no limit itself. So at 6.2.0; None at 3.4.1, which cuts at the tokenizer's limit all the same.
    assert Transformer(checkpoints("t5")).max_seq_length == 128
    tokenizer_kwargs = {"model_max_length": 20}
    assert SentenceTransformer(checkpoints("bert"), tokenizer_kwargs=tokenizer_kwargs).max_seq_length == 20


def test_a_limit_beyond_the_positions_fails_only_on_a_text_that_long(model):
    model.max_seq_length = 500
    assert model.encode("short").shape == (WIDTH,)
    with pytest.raises(ValueError, match="202 tokens does not fit this model, which has 128 positions"):
        model.encode("a " * 200)


def test_a_limit_that_leaves_no_room_for_text_is_refused(model):
    model.max_seq_length = 2
    with pytest.raises(ValueError, match="max_seq_length=2 leaves no room for text"):
        model.encode("a")


def test_cutting_agrees_with_the_reference(minilm_path):
    model = SentenceTransformer(str(minilm_path), device="cpu")
    assert model.max_seq_length == 256
    model.max_seq_length = 6
    assert model.tokenize(SENTENCES)["input_ids"].tolist() == [
        [101, 1996, 4633, 2003, 8403, 102],
        [101, 2009, 1005, 1055, 2061, 102],
        [101, 2002, 5225, 2000, 1996, 102],
    ]
    expected = [0.01289, 0.07549, 0.16172, 0.07139]
    np.testing.assert_allclose(firsts(model.encode(SENTENCES))[0], expected, atol=2e-5)


# -- width -------------------------------------------------------------------------------------------------


def test_truncation_keeps_the_leading_values_wherever_it_is_asked_for(model):
    whole = model.encode(TEXTS)
    np.testing.assert_allclose(model.encode(TEXTS, truncate_dim=8), whole[:, :8], atol=1e-6)
    np.testing.assert_allclose(model.encode(TEXTS[0], truncate_dim=np.int64(8)), whole[0, :8], atol=1e-6)
    with model.truncate_sentence_embeddings(4):
        assert model.encode(TEXTS).shape == (3, 4)
        assert model.encode(TEXTS, truncate_dim=6).shape == (3, 6)
        assert model.get_sentence_embedding_dimension() == 4
    assert model.truncate_dim is None
    with pytest.raises(KeyError), model.truncate_embeddings(4):
        raise KeyError
    assert model.encode(TEXTS).shape == (3, WIDTH)
    model.truncate_dim = 16
    assert model.encode(TEXTS, convert_to_tensor=True).shape == (3, 16)
    assert model.get_embedding_dimension() == 16
    with model.truncate_sentence_embeddings(None):
        assert model.encode(TEXTS).shape == (3, WIDTH)
    assert model.encode(TEXTS, precision="binary").shape == (3, 2)
    built = SentenceTransformer(modules=list(model), truncate_dim=5, device="cpu")
    assert built.encode(TEXTS).shape == (3, 5)


def test_a_truncation_wider_than_the_model_is_harmless(model):
    model.truncate_dim = 1000
    assert model.encode(TEXTS).shape == (3, WIDTH)
    assert model.get_sentence_embedding_dimension() == WIDTH


@pytest.mark.parametrize("wrong", [0, -1, 3.5, "8", True], ids=repr)
def test_a_truncation_that_makes_no_sense_is_refused(model, wrong):
    with pytest.raises(ValueError, match="truncate_dim"):
        model.encode(TEXTS, truncate_dim=wrong)
    with pytest.raises(ValueError, match="truncate_dim"), model.truncate_sentence_embeddings(wrong):
        pass
    with pytest.raises(ValueError, match="truncate_dim"):
        SentenceTransformer(modules=list(model), truncate_dim=wrong, device="cpu")
    model.truncate_dim = wrong
    with pytest.raises(ValueError, match="truncate_dim"):
        model.encode(TEXTS)


def test_vectors_are_scaled_to_length_one_after_truncation(model):
    truncated = model.encode(TEXTS, truncate_dim=8)
    scaled = model.encode(TEXTS, truncate_dim=8, normalize_embeddings=True)
    lengths = np.linalg.norm(truncated, axis=1, keepdims=True)
    assert np.abs(lengths - 1).min() > 0.01
    np.testing.assert_allclose(scaled, truncated / lengths, atol=1e-6)


def test_truncated_and_scaled_vectors_agree_with_the_reference(minilm):
    scaled = minilm.encode(SENTENCES, truncate_dim=4, normalize_embeddings=True)
    expected = [
        [0.09073, 0.56761, 0.75438, 0.317],
        [-0.15941, 0.3541, 0.63382, 0.66893],
        [0.83123, 0.501, -0.15383, 0.18543],
    ]
    np.testing.assert_allclose(scaled, expected, atol=2e-5)


# -- similarity --------------------------------------------------------------------------------------------


def test_the_similarity_is_cosine_until_another_is_named(model):
    assert model.similarity_fn_name == "cosine"
    for name in ("dot", "euclidean", "manhattan", "cosine"):
        model.similarity_fn_name = name
        assert model.similarity_fn_name == name
    model.similarity_fn_name = SimilarityFunction.DOT_PRODUCT
    assert model.similarity_fn_name == "dot"
    assert type(model.similarity_fn_name) is str
    model.similarity_fn_name = None
    assert model.similarity_fn_name == "cosine"
    built = SentenceTransformer(modules=list(model), similarity_fn_name="dot", device="cpu")
    assert built.similarity_fn_name == "dot"


@pytest.mark.parametrize("wrong", ["Cosine", "maxsim", "foo"])
def test_a_similarity_that_compares_no_vectors_is_refused(model, wrong):
    with pytest.raises(ValueError, match=r"'cosine', 'dot', 'euclidean', 'manhattan'"):
        model.similarity_fn_name = wrong
    assert model.similarity_fn_name == "cosine"
    with pytest.raises(ValueError, match=wrong):
        SentenceTransformer(modules=list(model), similarity_fn_name=wrong, device="cpu")


def test_similarities_are_those_of_their_name(model):
    a, b = np.array([[1.0, 2.0], [0.0, 1.0]]), [[1.0, 1.0]]
    expected = {
        "cosine": [[3 / (5 * 2) ** 0.5], [1 / 2**0.5]],
        "dot": [[3.0], [1.0]],
        "euclidean": [[-1.0], [-1.0]],
        "manhattan": [[-1.0], [-1.0]],
    }
    for name, scores in expected.items():
        model.similarity_fn_name = name
        torch.testing.assert_close(model.similarity(a, b).double(), torch.tensor(scores).double())
        pairwise = model.similarity_pairwise(a, torch.tensor(b * 2, dtype=torch.float64))
        torch.testing.assert_close(pairwise.double(), torch.tensor(scores)[:, 0].double())
        assert model.similarity(a[0], b[0]).shape == (1, 1)
        assert model.similarity(a[0], a).shape == (1, 2)
        assert model.similarity_pairwise(a[0], np.array(b[0])).shape == ()


def test_similarities_agree_with_the_reference(minilm_path):
    model = SentenceTransformer(str(minilm_path), device="cpu")
    vectors = model.encode(SENTENCES)
    for name, matrix, pairs in (
        ("dot", [0.665955, 0.104584], [0.665955, 0.141145]),
        ("euclidean", [-0.817367, -1.338220], [-0.817367, -1.310615]),
        ("manhattan", [-12.62693, -20.21670], [-12.62692, -20.12880]),
    ):
        model.similarity_fn_name = name
        scores = model.similarity(vectors[:1], vectors[1:])[0]
        np.testing.assert_allclose(scores, matrix, rtol=2e-5)
        np.testing.assert_allclose(model.similarity_pairwise(vectors[:2], vectors[1:]), pairs, rtol=2e-5)


# -- types of numbers, devices -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "numpy_type", "torch_type"),
    [
        ("half", np.float16, torch.float16),
        ("bfloat16", np.float32, torch.bfloat16),  # NumPy has none
        ("double", np.float64, torch.float64),
    ],
)
def test_vectors_have_the_model_s_type_of_numbers(checkpoints, method, numpy_type, torch_type):
    model = tiny(Transformer(checkpoints("bert")))
    exact = model.encode(TEXTS)
    getattr(model, method)()
    assert model.dtype == torch_type
    vectors = model.encode(TEXTS)
    assert vectors.dtype == numpy_type
    np.testing.assert_allclose(vectors, exact, atol=1e-6 if method == "double" else 0.05)
    assert model.encode(TEXTS[0]).dtype == numpy_type
    assert model.encode(TEXTS, convert_to_tensor=True).dtype == torch_type
    assert model.encode(TEXTS, convert_to_numpy=False)[0].dtype == torch_type
    assert model.encode(TEXTS, output_value="token_embeddings")[0].dtype == torch_type
    scaled = model.encode(TEXTS, normalize_embeddings=True)
    assert scaled.dtype == numpy_type
    np.testing.assert_allclose(np.linalg.norm(scaled.astype(np.float64), axis=1), 1, atol=0.01)
    assert model.encode(TEXTS, precision="int8").dtype == np.int8
    np.testing.assert_array_equal(model.encode(TEXTS, precision="ubinary"), np.packbits(vectors > 0, axis=1))


def test_a_model_in_double_precision_pools_in_double_precision(checkpoints):
    model = tiny(Transformer(checkpoints("bert"))).double()
    tokens = model.encode(TEXTS[2], output_value="token_embeddings")
    expected = tokens.mean(dim=0).numpy()
    np.testing.assert_allclose(model.encode(TEXTS[2]), expected, rtol=1e-13)


def test_half_precision_agrees_with_the_reference(minilm_path):
    model = SentenceTransformer(str(minilm_path), device="cpu").half()
    expected = [[0.01909, 0.12, 0.15942, 0.06714], [-0.01881, 0.04141, 0.07428, 0.07843]]
    np.testing.assert_allclose(firsts(model.encode(SENTENCES))[:2], expected, atol=3e-4)


def test_encode_moves_the_model_to_the_device_and_out_of_training(model):
    model.train()
    vectors = model.encode(TEXTS, device="cpu")
    assert not any(part.training for part in model.modules())
    np.testing.assert_array_equal(vectors, model.encode(TEXTS))
    assert model.device == torch.device("cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_vectors(model):
    on_cpu = model.encode(TEXTS, device="cpu")
    np.testing.assert_allclose(model.encode(TEXTS, device="cuda"), on_cpu, atol=1e-4)
    assert model.device.type == "cuda"
    assert model.encode(TEXTS, convert_to_tensor=True).device.type == "cuda"


def test_a_model_can_be_trained_after_it_has_encoded(model):
    for output_value in ("sentence_embedding", "token_embeddings", None):
        model.encode(TEXTS, output_value=output_value)
    model.train()
    model(model.tokenize(TEXTS))["sentence_embedding"].sum().backward()
    gradients = [parameter.grad for parameter in model[0].auto_model.encoder.parameters()]
    assert all(gradient is not None for gradient in gradients)
    vectors = model.encode(TEXTS, convert_to_tensor=True)
    (vectors @ nn.Parameter(torch.ones(WIDTH))).sum().backward()  # results are usable in training, too


# -- the numbers that users see ----------------------------------------------------------------------------


def test_the_quickstart_gives_the_documented_numbers(minilm):
    vectors = minilm.encode(SENTENCES)
    assert vectors.shape == (3, 384)
    similarities = minilm.similarity(vectors, vectors)
    expected = torch.tensor([[1.0000, 0.6660, 0.1046], [0.6660, 1.0000, 0.1411], [0.1046, 0.1411, 1.0000]])
    torch.testing.assert_close(similarities, expected, atol=5e-5, rtol=0)
    firsts_of_reference = [
        [0.0192, 0.12009, 0.1596, 0.06707],
        [-0.01869, 0.04152, 0.07432, 0.07843],
        [0.1365, 0.08227, -0.02526, 0.03045],
    ]
    np.testing.assert_allclose(firsts(vectors), firsts_of_reference, atol=1e-5)


@pytest.mark.slow
def test_the_score_on_stsb_is_the_reference_s(minilm, shared_data):
    from scipy.stats import spearmanr

    path = shared_data / "stsb" / "en" / "test.tsv.gz"
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert len(rows) == 1379
    first, second = (minilm.encode([row[name] for row in rows]) for name in ("sentence1", "sentence2"))
    scores = minilm.similarity_pairwise(first, second).numpy()
    correlation = spearmanr(scores, [float(row["score"]) for row in rows]).statistic
    assert 100 * correlation == pytest.approx(82.03, abs=0.01)


def test_whoever_goes_through_the_modules_finds_those_that_training_uses(minilm_path):
    model = SentenceTransformer(str(minilm_path), device="cpu")
    assert list(model.parameters())  # asked for all the time, so nothing is built for it
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.train()
    features = model.tokenize(["Nothing is left to chance."])
    first = model(dict(features))["sentence_embedding"]
    assert torch.equal(first, model(dict(features))["sentence_embedding"])
