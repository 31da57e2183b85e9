"""Tiny models, their rows, and both forwards: ours over packed rows, and transformers' own."""

from __future__ import annotations

import numpy as np
import torch

from sentence_transformers.backend.native import forward_of
from sentence_transformers.inputs.packing import PackedLayout
from sentence_transformers.modules.transformer.architectures import position_offset
from tiny import FAMILIES, VOCABULARY_SIZE, sample_texts, tiny_model

LONGEST = 400


def camembert_model():
    from transformers import AutoModel, CamembertConfig

    settings = {**FAMILIES["roberta"].settings, "max_position_embeddings": LONGEST + 2}
    torch.manual_seed(0)
    return AutoModel.from_config(
        CamembertConfig(vocab_size=VOCABULARY_SIZE, pad_token_id=1, **settings)
    ).eval()


LIKE_BERT = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert", "mpnet")

GATED = ("modernbert", "nomic-bert")

SERVED = (*LIKE_BERT, *GATED)


def model_of(family, **settings):
    """A tiny model with room for long rows; after 128 tokens, MPNet's distances share their last bucket."""
    if family == "camembert":
        return camembert_model()
    return tiny_model(family, max_position_embeddings=LONGEST + 2, **settings)


def with_biases(model):
    """A model whose biases, which begin as zeros, are none."""
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, generator=generator)
    return model


def rows_of(lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(5, VOCABULARY_SIZE, (length,), generator=generator).tolist() for length in lengths]


def ours(model, rows, kinds=None, **wishes):
    layout = PackedLayout.of([len(row) for row in rows])
    with torch.inference_mode():
        forward = forward_of(model, **wishes)
        assert forward is not None
        options = {} if kinds is None else {"token_type_ids": flat(kinds)}
        return forward(
            layout,
            input_ids=flat(rows),
            position_ids=layout.positions(position_offset(model.config)),
            **options,
        )[0]


def theirs(model, rows, kinds=None):
    """Each row by itself, so that there is nothing to mask."""
    with torch.inference_mode():
        options = [{} if kinds is None else {"token_type_ids": flat([kind])} for kind in kinds or rows]
        return torch.cat([model(input_ids=flat([row]), **kind)[0][0] for row, kind in zip(rows, options)])


def flat(rows):
    return torch.tensor([[token for row in rows for token in row]])


TEXTS = [*sample_texts()[:5], "short", "two words"]


def averaged(model, texts):
    """Transformers' own forward over padded rows, and the plain average."""
    features = model.tokenizer(texts, return_tensors="pt", truncation=True, max_length=128, padding=True)
    with torch.no_grad():
        states = model[0].auto_model(**features).last_hidden_state
    kept = features["attention_mask"].bool()
    return np.stack([row[mask].mean(dim=0).numpy() for row, mask in zip(states, kept)])
