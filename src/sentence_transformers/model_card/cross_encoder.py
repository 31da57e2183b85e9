"""The card of a cross-encoder: what differs from other kinds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from sentence_transformers.model_card.data import PLACEHOLDER_ID, BaseModelCardData, quoted
from sentence_transformers.model_card.markdown import code_block
from sentence_transformers.model_card.model_facts import best_effort

EXAMPLE_PAIRS = [
    (
        "How many people live in Berlin?",
        "Berlin had a population of 3,520,031 registered inhabitants in 2015.",
    ),
    ("How many people live in Berlin?", "Berlin is well known for its museums."),
]


@dataclass(eq=False)
class CrossEncoderModelCardData(BaseModelCardData):
    """Facts for the card of a model that scores pairs of texts; arguments as in its base."""

    task_name: str | None = None
    tags: list[str] = field(default_factory=lambda: ["sentence-transformers", "cross-encoder", "reranker"])
    pipeline_tag: str | None = field(default="text-ranking", init=False)

    model_type: ClassVar[str] = "CrossEncoder"
    input_phrase: ClassVar[str] = "pair of texts"
    output_phrase: ClassVar[str] = "a score, or one score for each label"

    def register_model(self, model: Any) -> None:
        """Speak about this model from now on; one with several labels classifies, and does not rank."""
        super().register_model(model)
        if (best_effort(lambda: model.num_labels) or 1) > 1:
            self.pipeline_tag = "text-classification"

    def get_model_specific_metadata(self) -> dict[str, Any]:
        """Facts of the base, and the number of labels."""
        model = self.model
        labels = best_effort(lambda: model.num_labels)
        return {**super().get_model_specific_metadata(), **({"num_labels": labels} if labels else {})}

    def generate_usage_snippet(self) -> str:
        """Code that loads the model, scores two pairs and ranks, as a Markdown code block."""
        labels = self.get_model_specific_metadata().get("num_labels", 1)
        lines = [
            "from sentence_transformers import CrossEncoder",
            "",
            f"model = CrossEncoder({quoted(self.model_id or PLACEHOLDER_ID)})",
            "pairs = [",
            *(f"    ({quoted(first)}, {quoted(second)})," for first, second in EXAMPLE_PAIRS),
            "]",
            "scores = model.predict(pairs)",
            f"print(scores.shape)  # {(len(EXAMPLE_PAIRS), labels) if labels > 1 else f'({len(EXAMPLE_PAIRS)},)'}",
        ]
        if labels == 1:
            lines += [
                "",
                "ranks = model.rank(pairs[0][0], [document for _, document in pairs])",
                "# [{'corpus_id': ..., 'score': ...}, ...], the best document first",
            ]
        return code_block("\n".join(lines), "python")
