"""Tiny transformers checkpoints with random weights, one per architecture family, made without a network.

A family is a configuration and the special tokens that its tokenizers carry. Every checkpoint has a fast
tokenizer made here from a few lines of real text, two layers and a width of 32, and is the same in every
run. The table `FAMILIES` is the list of what exists. What is tested with them stands in the tests.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

SAMPLE = Path(__file__).parent / "data" / "medquad-sample.txt"
VOCABULARY_SIZE = 400
WIDTH = 32
MAX_TOKENS = 128


@dataclass(frozen=True, kw_only=True)
class Family:
    """How one architecture family is built tiny."""

    model_type: str
    """Name under which transformers knows the configuration."""

    settings: Mapping[str, Any]
    """Arguments of the configuration, on top of the vocabulary and the special token ids."""

    special_tokens: Mapping[str, str]
    """Tokenizer argument -> token, in the order of their ids from 0 on."""

    template: str
    """What a row looks like, with `$A` for the text."""

    pair_template: str
    """What a pair of texts looks like, with `$A` and `$B`."""

    tokenizer_settings: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the tokenizer."""

    pieces: str = "wordpiece"
    """How words are split, a key of `TOKENIZERS`."""


BERT_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
ROBERTA_TOKENS = {
    "cls_token": "<s>",
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
T5_TOKENS = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
QWEN_TOKENS = {"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>", "unk_token": "<|unknown|>"}
LLAMA_TOKENS = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
GEMMA_TOKENS = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}

BERT_LIKE: dict[str, Any] = {"template": "[CLS] $A [SEP]", "pair_template": "[CLS] $A [SEP] $B:1 [SEP]:1"}
ROBERTA_LIKE: dict[str, Any] = {"template": "<s> $A </s>", "pair_template": "<s> $A </s> </s> $B </s>"}

# The initial weights are large, so that embeddings of different texts differ clearly and a mistake in a
# mask or a position shows in the result.
ENCODER = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": MAX_TOKENS,
    "initializer_range": 0.2,
}
DECODER = {**ENCODER, "num_key_value_heads": 2, "head_dim": 8}
# The families that count positions from the padding token's id on need room for the offset.
OFFSET_ENCODER = {**ENCODER, "max_position_embeddings": MAX_TOKENS + 2, "type_vocab_size": 1}

FAMILIES: Mapping[str, Family] = {
    "bert": Family(model_type="bert", settings=ENCODER, special_tokens=BERT_TOKENS, **BERT_LIKE),
    "roberta": Family(
        model_type="roberta", settings=OFFSET_ENCODER, special_tokens=ROBERTA_TOKENS, **ROBERTA_LIKE
    ),
    "xlm-roberta": Family(
        model_type="xlm-roberta",
        settings=OFFSET_ENCODER,
        special_tokens=ROBERTA_TOKENS,
        pieces="unigram",
        **ROBERTA_LIKE,
    ),
    "mpnet": Family(
        model_type="mpnet",
        settings={**ENCODER, "max_position_embeddings": MAX_TOKENS + 2},
        special_tokens=ROBERTA_TOKENS,
        **ROBERTA_LIKE,
    ),
    "distilbert": Family(
        model_type="distilbert",
        settings={
            "dim": WIDTH,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 64,
            "max_position_embeddings": MAX_TOKENS,
            "initializer_range": 0.2,
        },
        special_tokens=BERT_TOKENS,
        **BERT_LIKE,
    ),
    "electra": Family(
        model_type="electra",
        settings={**ENCODER, "embedding_size": 16},
        special_tokens=BERT_TOKENS,
        **BERT_LIKE,
    ),
    "albert": Family(
        model_type="albert",
        settings={**ENCODER, "embedding_size": 16},
        special_tokens=BERT_TOKENS,
        pieces="unigram",
        **BERT_LIKE,
    ),
    "modernbert": Family(
        model_type="modernbert",
        # The second layer sees 4 tokens to each side only.
        settings={
            **ENCODER,
            "global_attn_every_n_layers": 2,
            "local_attention": 8,
            "initializer_cutoff_factor": 2.0,
        },
        special_tokens=BERT_TOKENS,
        pieces="bytes",
        **BERT_LIKE,
    ),
    "deberta-v2": Family(
        model_type="deberta-v2",
        settings={
            **ENCODER,
            "relative_attention": True,
            "position_buckets": 16,
            "pos_att_type": ["p2c", "c2p"],
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "position_biased_input": False,
            "type_vocab_size": 0,
        },
        special_tokens=BERT_TOKENS,
        pieces="unigram",
        **BERT_LIKE,
    ),
    "nomic-bert": Family(model_type="nomic_bert", settings=ENCODER, special_tokens=BERT_TOKENS, **BERT_LIKE),
    "t5": Family(
        model_type="t5",
        settings={
            "d_model": WIDTH,
            "d_kv": 8,
            "d_ff": 64,
            "num_layers": 2,
            "num_decoder_layers": 2,
            "num_heads": 4,
            "feed_forward_proj": "gated-gelu",
            "relative_attention_num_buckets": 8,
            "relative_attention_max_distance": 32,
            "decoder_start_token_id": 0,
        },
        special_tokens=T5_TOKENS,
        template="$A </s>",
        pair_template="$A </s> $B </s>",
        pieces="unigram",
    ),
    "qwen2": Family(
        model_type="qwen2",
        settings={key: value for key, value in DECODER.items() if key != "head_dim"},
        special_tokens=QWEN_TOKENS,
        template="$A <|im_end|>",
        pair_template="$A <|im_end|> $B <|im_end|>",
        tokenizer_settings={"padding_side": "left"},
        pieces="bytes",
    ),
    "qwen3": Family(
        model_type="qwen3",
        settings=DECODER,
        special_tokens=QWEN_TOKENS,
        template="$A <|im_end|>",
        pair_template="$A <|im_end|> $B <|im_end|>",
        tokenizer_settings={"padding_side": "left"},
        pieces="bytes",
    ),
    "llama": Family(
        model_type="llama",
        settings=DECODER,
        special_tokens=LLAMA_TOKENS,
        template="<s> $A </s>",
        pair_template="<s> $A </s> $B </s>",
        pieces="bytes",
    ),
    "mistral": Family(
        model_type="mistral",
        settings={**DECODER, "sliding_window": 8},
        special_tokens=LLAMA_TOKENS,
        template="<s> $A </s>",
        pair_template="<s> $A </s> $B </s>",
        pieces="bytes",
    ),
    "gemma2": Family(
        model_type="gemma2",
        # Layers alternate between a window of 8 tokens and all of them; scores are capped.
        settings={**DECODER, "sliding_window": 8, "query_pre_attn_scalar": 8},
        special_tokens=GEMMA_TOKENS,
        template="<bos> $A <eos>",
        pair_template="<bos> $A <eos> $B <eos>",
        pieces="bytes",
    ),
    "gemma": Family(
        model_type="gemma3_text",
        settings={
            **DECODER,
            "sliding_window": 8,
            "query_pre_attn_scalar": 8,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        special_tokens=GEMMA_TOKENS,
        template="<bos> $A <eos>",
        pair_template="<bos> $A <eos> $B <eos>",
        pieces="bytes",
    ),
    "embeddinggemma": Family(
        model_type="gemma3_text",
        settings={
            **DECODER,
            "sliding_window": 8,
            "query_pre_attn_scalar": 8,
            "layer_types": ["sliding_attention", "full_attention"],
            "use_bidirectional_attention": True,
        },
        special_tokens=GEMMA_TOKENS,
        template="<bos> $A <eos>",
        pair_template="<bos> $A <eos> $B <eos>",
        pieces="bytes",
    ),
}

ENCODERS = (
    "bert",
    "roberta",
    "xlm-roberta",
    "mpnet",
    "distilbert",
    "electra",
    "albert",
    "modernbert",
    "deberta-v2",
    "nomic-bert",
    "t5",
)
"""Families in which a token sees the tokens after it."""

DECODERS = ("qwen2", "qwen3", "llama", "mistral", "gemma2", "gemma")
"""Families in which a token sees only the tokens before it, as used with last-token pooling."""


def sample_texts() -> list[str]:
    """Fifty lines of real English text, from 25 to some hundred characters."""
    return SAMPLE.read_text(encoding="utf-8").splitlines()


def tiny_checkpoint(family: str, folder: str | Path, *, seed: int = 0, **settings: Any) -> Path:
    """Save a tiny checkpoint: configuration, weights and fast tokenizer.

    Args:
        family: A key of `FAMILIES`.
        folder: Where to save it; made when missing.
        seed: Of the random weights.
        **settings: Arguments of the configuration that differ from the family's.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tiny_model(family, seed=seed, **settings).save_pretrained(folder)
    tiny_tokenizer(family).save_pretrained(folder)
    # Under this name every release of transformers reads tokenizer.json as it stands.
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2), encoding="utf-8")
    return folder


def tiny_clip(folder: str | Path, *, seed: int = 0) -> Path:
    """Save a tiny CLIP model with random weights and its processor, which knows letters only.

    Args:
        folder: Where to save it; made when missing.
        seed: Of the random weights.

    Returns:
        The folder. Embeddings are 8 numbers wide, images are cut to 12 pixels, texts to 16 tokens.
    """
    import torch
    import transformers

    letters = [chr(number) for number in range(ord("a"), ord("z") + 1)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    common = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = transformers.CLIPConfig(
        text_config={**common, **ids, "vocab_size": len(vocabulary), "max_position_embeddings": 16},
        vision_config={**common, "image_size": 12, "patch_size": 4},
        projection_dim=8,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformers.CLIPModel(config).save_pretrained(folder)
    # The one that works with PIL alone; its name depends on the release of transformers.
    kind = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
    images = kind(size={"shortest_edge": 12}, crop_size={"height": 12, "width": 12})
    texts = transformers.CLIPTokenizerFast(vocab=vocabulary, merges=[], model_max_length=16)
    transformers.CLIPProcessor(image_processor=images, tokenizer=texts).save_pretrained(folder)
    return Path(folder)


def tiny_model(family: str, *, seed: int = 0, **settings: Any) -> Any:
    """The transformers model of a family, float32, in eval mode; an encoder-decoder gives the encoder."""
    import torch
    from transformers import AutoConfig, AutoModel, T5EncoderModel

    kind = FAMILIES[family]
    config = AutoConfig.for_model(
        kind.model_type,
        **{"vocab_size": VOCABULARY_SIZE, **special_token_ids(family), **kind.settings, **settings},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = T5EncoderModel(config) if kind.model_type == "t5" else AutoModel.from_config(config)
    return model.float().eval()


def special_token_ids(family: str) -> dict[str, int]:
    """The ids that a configuration names: padding and, where the family has them, start and end."""
    ids = {name: number for number, name in enumerate(FAMILIES[family].special_tokens)}
    found = {
        "pad_token_id": ids["pad_token"],
        "bos_token_id": ids.get("bos_token", ids.get("cls_token")),
        "eos_token_id": ids.get("eos_token", ids.get("sep_token")),
        "cls_token_id": ids.get("cls_token"),
        "sep_token_id": ids.get("sep_token"),
    }
    return {name: number for name, number in found.items() if number is not None}


def tiny_tokenizer(family: str) -> Any:
    """The fast tokenizer of a family, made from the sample texts."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    kind = FAMILIES[family]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(built_tokenizer(family)),
        model_max_length=MAX_TOKENS,
        model_input_names=input_names(family),
        **{"padding_side": "right", **kind.tokenizer_settings},
        **kind.special_tokens,
    )


def input_names(family: str) -> list[str]:
    """The inputs that a family's forward takes; only BERT's kin have token types."""
    takes_types = family in ("bert", "electra", "albert", "deberta-v2", "nomic-bert")
    return ["input_ids", *(["token_type_ids"] if takes_types else []), "attention_mask"]


@cache
def built_tokenizer(family: str) -> str:
    """A family's tokenizer as the text of tokenizer.json; made once in a process."""
    from tokenizers.processors import TemplateProcessing

    kind = FAMILIES[family]
    tokens = list(kind.special_tokens.values())
    tokenizer = TOKENIZERS[kind.pieces](tokens, kind.special_tokens["unk_token"])
    # Filling up gives every family the vocabulary size that its configuration names.
    missing = VOCABULARY_SIZE - tokenizer.get_vocab_size()
    if missing > 0:
        tokenizer.add_tokens([f"<filler_{number}>" for number in range(missing)])
    tokenizer.post_processor = TemplateProcessing(
        single=kind.template,
        pair=kind.pair_template,
        special_tokens=[(token, number) for number, token in enumerate(tokens)],
    )
    return tokenizer.to_str()


def build_wordpiece(tokens: list[str], unknown: str) -> Any:
    """Lower-cased word pieces, as BERT has them."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    pieces = frequent_pieces(VOCABULARY_SIZE - len(tokens), lowercase=True, start="", inside="##")
    vocabulary = {piece: number for number, piece in enumerate([*tokens, *pieces])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def build_unigram(tokens: list[str], unknown: str) -> Any:
    """Pieces with a mark for the space before them, as SentencePiece has them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    pieces = frequent_pieces(VOCABULARY_SIZE - len(tokens), lowercase=False, start="\u2581", inside="")
    total = sum(pieces.values())
    scored = [(piece, math.log(count / total)) for piece, count in pieces.items()]
    vocabulary = [*((token, 0.0) for token in tokens), *scored]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=tokens.index(unknown)))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def frequent_pieces(size: int, *, lowercase: bool, start: str, inside: str) -> dict[str, int]:
    """The characters and the most frequent beginnings and endings of words, with their counts.

    Counted here because the trainers of `tokenizers` break ties differently in every process.

    Args:
        size: How many pieces.
        lowercase: Whether the words are lower-cased first.
        start: Mark of a piece that begins a word.
        inside: Mark of a piece that continues one.
    """
    characters: Counter[str] = Counter()
    longer: Counter[str] = Counter()
    for text in sample_texts():
        for word in re.findall(r"\w+|[^\w\s]", text.lower() if lowercase else text):
            characters.update([start + word[0], *(inside + letter for letter in word[1:])])
            characters.update([start, inside + word[0]] if start else [inside + word[0]])
            if len(word) > 1:
                longer.update([start + word[:length] for length in {2, 3, len(word)} if length <= len(word)])
                longer.update([inside + word[-length:] for length in (2, 3) if length < len(word)])
    ranked = [*by_frequency(characters), *by_frequency(longer)]
    return dict(ranked[:size])


def by_frequency(counts: Counter[str]) -> list[tuple[str, int]]:
    """Most frequent first, in alphabetical order where counts are equal."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def build_bytes(tokens: list[str], unknown: str) -> Any:
    """Pairs of bytes, as GPT-2 and its descendants have them; no text is unknown."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    del unknown
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sample_texts(), trainer)
    return tokenizer


TOKENIZERS: Mapping[str, Callable[[list[str], str], Any]] = {
    "wordpiece": build_wordpiece,
    "unigram": build_unigram,
    "bytes": build_bytes,
}
