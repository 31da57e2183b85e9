"""Classification heads over packed rows.

What a transformers model for sequence classification does behind its encoder: it takes one vector for each
row and hands it to a few layers, whose own modules are called here. A table says how each known class does
so. A class that is not in it, or whose head has been changed, is left to transformers and its padded rows;
each one in it is in the packed-equals-padded tests. Nothing here runs an encoder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sentence_transformers.backend import fixed_shapes
from sentence_transformers.backend.parts import first_tokens
from sentence_transformers.backend.untouched import every_module, is_usual
from sentence_transformers.inputs.packing import PackedLayout

Head = Callable[[Any, Tensor], Tensor]  # the model and one vector for each row, (B, D) -> scores (B, labels)


def after_pooler(model: Any, vectors: Tensor) -> Tensor:
    """The encoder's pooler, then one layer."""
    return model.classifier(model.dropout(model.base_model.pooler(vectors[:, None])))


def after_activated_pooler(model: Any, vectors: Tensor) -> Tensor:
    """As ALBERT has it, whose pooler is a plain layer with the activation beside it."""
    encoder = model.base_model
    return model.classifier(model.dropout(encoder.pooler_activation(encoder.pooler(vectors))))


def own_module(model: Any, vectors: Tensor) -> Tensor:
    """A module that takes the first token of each row itself."""
    return model.classifier(vectors[:, None])


def two_layers(model: Any, vectors: Tensor) -> Tensor:
    """As DistilBERT has it."""
    return model.classifier(model.dropout(model.pre_classifier(vectors).relu()))


def prediction_head(model: Any, vectors: Tensor) -> Tensor:
    """As ModernBERT has it."""
    return model.classifier(model.drop(model.head(vectors)))


HEADS: dict[str, Head] = {
    "albert.modeling_albert.AlbertForSequenceClassification": after_activated_pooler,
    "bert.modeling_bert.BertForSequenceClassification": after_pooler,
    "camembert.modeling_camembert.CamembertForSequenceClassification": own_module,
    "distilbert.modeling_distilbert.DistilBertForSequenceClassification": two_layers,
    "electra.modeling_electra.ElectraForSequenceClassification": own_module,
    "modernbert.modeling_modernbert.ModernBertForSequenceClassification": prediction_head,
    "mpnet.modeling_mpnet.MPNetForSequenceClassification": own_module,
    "nomic_bert.modeling_nomic_bert.NomicBertForSequenceClassification": after_pooler,
    "roberta.modeling_roberta.RobertaForSequenceClassification": own_module,
    "xlm_roberta.modeling_xlm_roberta.XLMRobertaForSequenceClassification": own_module,
}
"""The classes served, by their path below `transformers.models`."""


def pooler_by_its_layers(model: Any, vectors: Tensor) -> Tensor:
    """As `after_pooler`, for evaluation."""
    return model.classifier(model.base_model.pooler.dense(vectors).tanh())


def module_by_its_layers(model: Any, vectors: Tensor) -> Tensor:
    """As `own_module` in RoBERTa, its kin and MPNet, for evaluation."""
    return model.classifier.out_proj(model.classifier.dense(vectors).tanh())


HEADS_OF_LEAN_MODELS: dict[str, Head] = {
    "bert.modeling_bert.BertForSequenceClassification": pooler_by_its_layers,
    "camembert.modeling_camembert.CamembertForSequenceClassification": module_by_its_layers,
    "mpnet.modeling_mpnet.MPNetForSequenceClassification": module_by_its_layers,
    "roberta.modeling_roberta.RobertaForSequenceClassification": module_by_its_layers,
    "xlm_roberta.modeling_xlm_roberta.XLMRobertaForSequenceClassification": module_by_its_layers,
}
"""The same for models opened without transformers (see `lean.py`), which have layers and nothing that calls them."""

POOLINGS = ("cls", "mean")
"""Values of ModernBERT's `classifier_pooling`; the other classes take the first token."""


def head_of(model: nn.Module) -> Head | None:
    """How a model's class computes scores, or None when it is not exactly of a known class."""
    stands_for = getattr(model, "class_path", None)
    if stands_for is not None:
        return HEADS_OF_LEAN_MODELS[stands_for]
    kind = type(model)
    return HEADS.get(f"{kind.__module__}.{kind.__qualname__}".removeprefix("transformers.models."))


def serves(model: Any) -> bool:
    """Whether the scores of a model can be computed here: of a known class, and the head as that class made it."""
    if head_of(model) is None or getattr(model.config, "classifier_pooling", "cls") not in POOLINGS:
        return False
    own = type(model).__module__
    parts = [part for part in model._modules.values() if part is not None and part is not model.base_model]
    layers = [layer for part in parts for layer in every_module(part)]
    kinds: list[Any] = [type(layer) for layer in [model, *layers]]
    return all(is_usual(kind, own) for kind in kinds) and not any(
        "forward" in layer.__dict__ for layer in [model, *layers]
    )


def reads_first_tokens_only(model: Any) -> bool:
    """Whether the scores of a model depend on nothing but the state of each row's first token."""
    return bool(getattr(model.config, "classifier_pooling", "cls") == "cls")


def packed_vectors(model: Any, states: Tensor, layout: PackedLayout) -> Tensor:
    """The vector of each packed row that its scores are computed from.

    Args:
        model: One that `serves` accepts.
        states: What the encoder made of the rows, (T, D).
        layout: Where the rows lie; none is empty.

    Returns:
        (B, D).
    """
    if reads_first_tokens_only(model):
        return first_tokens(states, layout)
    return torch.cat([rows.mean(dim=1) for rows in layout.batches(states)])


def scores(model: Any, vectors: Tensor) -> Tensor:
    """Scores as the model's own forward gives them, (B, labels), from the vectors of the rows (B, D)."""
    head = head_of(model)
    assert head is not None
    if fixed_shapes.wanted():
        return torch.cat([head(model, vector.clone()) for vector in vectors.split(1)])
    return head(model, vectors)
