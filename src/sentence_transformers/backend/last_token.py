"""What a causal language model says after the last token of each row.

Of the many logits such a model can give, a reranker reads one or two: those of "yes" and "no" behind the last
token. Here the model's own head is given that token's state only, and of a plain head only the rows that are
asked for. A table says whose logits are the head's result and no more; other classes are left to transformers.
Nothing here runs a decoder's layers, but for `last_logits`, which asks transformers.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sentence_transformers.backend.float32_linear import Float32Linear
from sentence_transformers.inputs.packing import PackedLayout

TOKENS_ASKED_FOR = "logits_of_tokens"
"""Key under which features say of which tokens the logits are wanted; without it, of the whole vocabulary."""

SERVED = frozenset(
    {
        "gemma2.modeling_gemma2.Gemma2ForCausalLM",
        "gemma3.modeling_gemma3.Gemma3ForCausalLM",
        "llama.modeling_llama.LlamaForCausalLM",
        "mistral.modeling_mistral.MistralForCausalLM",
        "qwen2.modeling_qwen2.Qwen2ForCausalLM",
        "qwen3.modeling_qwen3.Qwen3ForCausalLM",
    }
)
"""Classes whose logits are their head's of the decoder's states, perhaps capped; by path below `transformers.models`."""


def serves(model: Any) -> bool:
    """Whether the logits of a model can be computed here: of a known class, with that class's own forward."""
    kind = type(model)
    return (
        f"{kind.__module__}.{kind.__qualname__}".removeprefix("transformers.models.") in SERVED
        and "forward" not in model.__dict__
        and not (model._forward_hooks or model._forward_pre_hooks)
    )


def logits(model: Any, states: Tensor, tokens: Sequence[int] | None = None) -> Tensor:
    """Logits as the model's own forward gives them.

    Args:
        model: One that `serves` accepts.
        states: What the decoder made of one token of each row, (B, D).
        tokens: The tokens of the vocabulary to compute them for; None for all.

    Returns:
        (B, n) for n tokens; float32 where only some are computed, which half precision would round.
    """
    head = model.get_output_embeddings()
    if tokens is not None and is_plain(head):
        rows = torch.as_tensor(tokens, device=head.weight.device)
        bias = None if head.bias is None else head.bias[rows].float()
        with torch.autocast(states.device.type, enabled=False):
            values = F.linear(states.float(), head.weight[rows].float(), bias)  # (B, n)
    else:
        values = head(states)
        if tokens is not None:
            values = values[:, torch.as_tensor(tokens, device=values.device)]
    cap = getattr(model.config, "final_logit_softcapping", None)
    return values if cap is None else cap * torch.tanh(values / cap)


def is_plain(head: nn.Module) -> bool:
    """Whether a head is one matrix with plain weights and nothing around it; adapters and quantisers are not."""
    return (
        type(head) in (nn.Linear, Float32Linear)
        and type(head._parameters.get("weight")) is nn.Parameter
        and not (head._forward_hooks or head._forward_pre_hooks)
    )


def last_places(mask: Tensor) -> Tensor:
    """Number of the last token of each row that the mask (B, T) keeps, (B,); of a row without any, the last place."""
    behind = mask.flip(1).bool().int().argmax(dim=1)
    return mask.shape[1] - 1 - behind


def last_of_rows(states: Tensor, mask: Tensor | None) -> Tensor:
    """What belongs to the last token of each row: of (B, T, …) the (B, …). Without a mask every row is full."""
    if mask is None or mask.shape != states.shape[:2]:
        return states[:, -1]
    return states[torch.arange(len(states), device=states.device), last_places(mask.to(states.device))]


def last_of_packed(states: Tensor, layout: PackedLayout) -> Tensor:
    """The same of packed rows (sum of T, …), none of them empty: (B, …)."""
    return states[layout.cumulative(states.device)[1:].long() - 1]


def last_logits(
    model: Any, given: dict[str, Any], *, counts_from_zero: bool, **kwargs: Any
) -> tuple[Tensor, Any]:
    """The logits behind each row's last token as transformers computes them, and all it gives.

    Args:
        model: Any causal language model.
        given: Padded inputs for it, `attention_mask` (B, T) among them where rows differ in length.
        counts_from_zero: Whether the first token of a row has the position 0.
        **kwargs: For the model's `forward`.

    Returns:
        (B, V), and the model's outputs.
    """
    mask = given.get("attention_mask")
    kind: Any = type(model)
    names = arguments_of(kind)
    pads_left = mask is not None and not bool(mask[:, 0].all())
    if pads_left and counts_from_zero and "position_ids" in names and "position_ids" not in given:
        # A row must not score otherwise for the padding in front of it.
        assert mask is not None
        given = {**given, "position_ids": (mask.long().cumsum(dim=1) - 1).clamp(min=0)}
    if mask is None or "logits_to_keep" not in names:
        if mask is None and "logits_to_keep" in names:
            kwargs = {**kwargs, "logits_to_keep": 1}
        outputs = model(**given, **kwargs, return_dict=True)
        return last_of_rows(outputs.logits, mask), outputs
    places = last_places(mask)  # (B,)
    kept, which = places.unique(return_inverse=True)
    outputs = model(**given, **kwargs, logits_to_keep=kept, return_dict=True)
    return outputs.logits[torch.arange(len(places), device=which.device), which], outputs


@lru_cache(maxsize=64)
def arguments_of(kind: Any) -> frozenset[str]:
    """Names of the arguments that models of a class take."""
    return frozenset(inspect.signature(kind.forward).parameters)
