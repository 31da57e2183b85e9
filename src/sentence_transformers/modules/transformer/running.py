"""How a transformer is run: on padded rows as transformers does it, or on packed ones without padding.

`RunsRows` is the half of `Transformer` behind the tokenizer: token ids in, embeddings of tokens, scores of rows, or
the logits behind them out. Which way a model can take depends on its architecture (`architectures.py`), its head,
and on whether anybody looks in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sentence_transformers.backend import attention, heads, last_token, native
from sentence_transformers.backend.exported import ExportedModel
from sentence_transformers.backend.lean import CLASSIFICATION
from sentence_transformers.backend.untouched import has_hooks
from sentence_transformers.inputs.packing import FIRST_TOKENS_ONLY, PackedLayout
from sentence_transformers.modules.transformer import unpadding
from sentence_transformers.modules.transformer.architectures import PACKABLE, position_offset
from sentence_transformers.modules.transformer.calls import forget_capturing, recomputes, without_cache
from sentence_transformers.modules.transformer.compiled import CompiledForward
from sentence_transformers.tensors.padding import repad_flattened_features


class RunsRows:
    """Runs a transformers model over features."""

    # What a Transformer has.
    auto_model: Any
    tokenizer: Any
    transformer_task: str
    module_output_name: str
    unpad_inputs: bool | None
    _model: Any
    _encoder: Any
    get_word_embedding_dimension: Callable[[], int]
    max_seq_length: int | None
    compiled: CompiledForward | None = None
    """Runs the model compiled, where it is evaluated; None to run it as it is."""

    @property
    def can_pack(self) -> bool:
        """Whether this model computes packed rows exactly as padded ones."""
        config = self._model.config
        return (
            self.unpad_inputs is not False
            and (self.compiled is None or self._model.training)
            and not isinstance(self._model, ExportedModel)
            and self._packs_head
            and not getattr(config, "output_hidden_states", False)
            and not getattr(config, "output_attentions", False)
            and not getattr(config, "is_decoder", False)
            and not has_hooks(self._model)  # those who look in expect rows, (B, T, D)
            and (self._adopts_packing or native.runs(self._encoder))
        )

    @property
    def _packs_head(self) -> bool:
        """Whether what stands behind the encoder, if anything, computes packed rows too."""
        if self.transformer_task == "text-generation":
            return last_token.serves(self._model)
        return self.transformer_task == "feature-extraction" or heads.serves(self._model)

    @property
    def runs_natively(self) -> bool:
        """Whether packed rows are computed by our own forward."""
        return not isinstance(self._model, ExportedModel) and self.can_pack and native.runs(self._encoder)

    @property
    def keeps_bits(self) -> bool:
        """Whether packed rows can be computed so that each has the same bits in any batch (`fixed_shapes`)."""
        return (
            not isinstance(self._model, ExportedModel)
            and self.transformer_task in ("feature-extraction", CLASSIFICATION)
            and self.can_pack
            and native.forward_of(self._encoder) is not None
            and native.keeps_bits(self._encoder)
        )

    @property
    def computes_no_padding(self) -> bool:
        """Whether `forward` leaves padding out, so that rows of any length may share a batch at no cost."""
        # Asked of the model: a part that was just made calls itself in training.
        if not (self._model.training or torch.is_grad_enabled()):
            return False  # the engine packs rows itself, and other callers get what transformers gives
        # A layer that is computed again in the backward pass does not find the rows it was computed for.
        return (
            self.can_pack
            and self._adopts_packing
            and not (self._model.training and recomputes(self.auto_model))
        )

    @property
    def _adopts_packing(self) -> bool:
        """Whether transformers' own forward computes packed rows with our attention."""
        config = self._model.config
        return config.model_type in PACKABLE and config._attn_implementation in ("sdpa", attention.NAME)

    # -- features into embeddings ------------------------------------------------------------------------

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add `token_embeddings` (B, T, D) to the features; packed features give (1, sum of T, D).

        With a head for sequence classification add `scores` (B, labels) instead, from padded and packed features;
        for text generation `causal_logits` (B, 1, V), of the token behind the last one of each row.

        Args:
            features: From `preprocess` or `collate_rows`. With a true entry `output_hidden_states` they also
                get `all_layer_embeddings`, a list of (B, T, D): what the first layer is given, then what
                each layer makes of it. (An entry of the features reaches the routes of a `Router` too.)
            **kwargs: Passed to the transformers model.
        """
        layout = PackedLayout.read(features)
        if isinstance(self._model, ExportedModel):
            return self._forward_exported(features, kwargs)
        if layout is not None:
            features[self.module_output_name] = self._forward_packed(features, layout, kwargs)[0]
            return features
        asks_for_layers = bool(features.get("output_hidden_states"))
        if asks_for_layers:
            kwargs = {**kwargs, "output_hidden_states": True}
        if self.computes_no_padding and unpadding.applies_to(features, kwargs):
            tokens, *layers = self._forward_without_padding(features, kwargs)
        else:
            tokens, *layers = self._forward_padded(features, kwargs)
        if asks_for_layers:
            forget_capturing(self.auto_model)
        features[self.module_output_name] = tokens
        if layers:
            features["all_layer_embeddings"] = layers
        return features

    def _forward_exported(self, features: dict[str, Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        """`forward` where a graph stands in place of a transformers model, and computes padded rows."""
        asked = sorted({*kwargs, *(["output_hidden_states"] if features.get("output_hidden_states") else [])})
        if asked:
            raise ValueError(
                f"{', '.join(asked)}: not with backend={self._model.backend!r}, whose graph computes one result. "
                "Use backend='torch'."
            )
        if PackedLayout.read(features) is not None:
            features = repad_flattened_features(features)
        features[self.module_output_name] = self._model.result(features)
        return features

    def _forward_padded(self, features: dict[str, Any], kwargs: dict[str, Any]) -> list[Tensor]:
        """The result, and what is known of the layers, as transformers computes padded rows, (B, T, D)."""
        wanted = ("input_ids", "attention_mask", "token_type_ids", "inputs_embeds", "position_ids")
        names = [*self.tokenizer.model_input_names, *wanted]
        given = {name: features[name] for name in dict.fromkeys(names) if name in features}
        if self.transformer_task == "text-generation":
            return self._last_logits(given, features.get(last_token.TOKENS_ASKED_FOR), kwargs)
        settings = without_cache(self.auto_model)
        if self.compiled is not None and not self._model.training and self.compiled.serves(given, kwargs):
            filler, limit = getattr(self.tokenizer, "pad_token_id", None) or 0, self.max_seq_length
            return [self.compiled.run(self.auto_model, given, settings, filler=filler, limit=limit)]
        outputs = self.auto_model(**given, **settings, **kwargs, return_dict=True)
        return [outputs[0], *(outputs.get("hidden_states") or ())]

    def _last_logits(
        self, given: dict[str, Any], tokens: list[int] | None, kwargs: dict[str, Any]
    ) -> list[Tensor]:
        """The logits behind padded rows (B, 1, V), or those of some tokens (B, 1, n); and what is known of layers."""
        model = self.auto_model
        if last_token.serves(model):
            encoder = model.base_model
            outputs = encoder(**given, **without_cache(encoder), **kwargs, return_dict=True)
            states = last_token.last_of_rows(outputs[0], given.get("attention_mask"))
            logits = last_token.logits(model, states, tokens)
        else:
            counts_from_zero = position_offset(model.config) == 0
            options = {**without_cache(model), **kwargs}
            logits, outputs = last_token.last_logits(
                model, given, counts_from_zero=counts_from_zero, **options
            )
            logits = logits if tokens is None else logits[:, tokens]
        return [logits[:, None], *(outputs.get("hidden_states") or ())]

    def _forward_without_padding(self, features: dict[str, Any], kwargs: dict[str, Any]) -> list[Tensor]:
        """The same of the tokens alone; what stands at padding afterwards is zero, (B, T, D)."""
        packed, layout, places = unpadding.pack(features, offset=position_offset(self._model.config))
        shape = features["input_ids"].shape
        if self.transformer_task == "feature-extraction":
            return [
                unpadding.spread(tokens[0], places, shape)
                for tokens in self._forward_packed(packed, layout, kwargs)
            ]
        if kwargs or 0 in layout.lengths:
            return self._forward_padded(features, kwargs)
        scores = self._forward_packed(packed, layout, kwargs)[0]
        rows = places[packed["cu_seq_lens_q"][:-1].long()] // shape[1]  # the row of each score, (B,)
        return [torch.empty_like(scores).index_copy(0, rows, scores)]

    def _forward_packed(
        self, features: dict[str, Any], layout: PackedLayout, kwargs: dict[str, Any]
    ) -> list[Tensor]:
        """The same of packed rows, (1, sum of T, D); of a model with a head the scores, (B, labels)."""
        if self.transformer_task != "feature-extraction":
            if 0 in layout.lengths:  # without a token there is nothing for the head to look at
                return [
                    self.forward(repad_flattened_features({**features}), **kwargs)[self.module_output_name]
                ]
        elif layout.total == 0:
            width = self.get_word_embedding_dimension()
            return [torch.zeros(1, 0, width, dtype=self._model.dtype, device=self._model.device)]
        given: dict[str, Any] = {
            name: features[name]
            for name in ("input_ids", "position_ids", "token_type_ids")
            if name in features
        }
        if not kwargs:
            result = self._forward_natively(features, layout, given)
            if result is not None:
                return [result]
        if not self._adopts_packing:
            padded = self.forward(repad_flattened_features({**features}), **kwargs)
            result = padded[self.module_output_name]
            if self.transformer_task != "feature-extraction":
                return [result]
            return [result[padded["attention_mask"].bool()][None]]
        if self.auto_model.config._attn_implementation != attention.NAME:
            attention.adopt(self.auto_model)
        encoder = self._encoder
        with attention.packed(layout):
            outputs = encoder(**given, **without_cache(encoder), **kwargs, return_dict=True)
        return [self._after_head(outputs[0], layout, features), *(outputs.get("hidden_states") or ())]

    def _forward_natively(
        self, features: dict[str, Any], layout: PackedLayout, given: dict[str, Tensor]
    ) -> Tensor | None:
        """The same by our own forward; None where that cannot run the model.

        Where nothing but the first token of each row will be looked at, the features become those of the
        first tokens alone, and so does the result, (1, B, D).
        """
        embeds = self.transformer_task == "feature-extraction"
        if embeds:
            only_first = bool(features.get(FIRST_TOKENS_ONLY)) and 0 not in layout.lengths
        else:
            only_first = self.transformer_task == CLASSIFICATION and heads.reads_first_tokens_only(
                self._model
            )
        forward = native.forward_of(self._encoder, first_tokens_only=only_first)
        if forward is None:
            return None
        tokens = forward(layout, **given)
        if not only_first:
            return self._after_head(tokens, layout, features)
        if embeds:
            features.update(layout.of_first_tokens(features))
            return tokens
        return heads.scores(self._model, tokens[0])

    def _after_head(self, tokens: Tensor, layout: PackedLayout, features: dict[str, Any]) -> Tensor:
        """What the model makes of packed token embeddings (1, sum of T, D): nothing more, or what `forward` adds."""
        if self.transformer_task == "feature-extraction":
            return tokens
        if self.transformer_task == "text-generation":
            states = last_token.last_of_packed(tokens[0], layout)  # (B, D)
            return last_token.logits(self._model, states, features.get(last_token.TOKENS_ASKED_FOR))[:, None]
        return heads.scores(self._model, heads.packed_vectors(self._model, tokens[0], layout))
