"""The card of a dense embedding model: what differs from other kinds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from sentence_transformers.model_card.data import EXAMPLE_TEXTS, PLACEHOLDER_ID, BaseModelCardData, quoted
from sentence_transformers.model_card.markdown import code_block
from sentence_transformers.model_card.model_facts import best_effort


@dataclass(eq=False)
class SentenceTransformerModelCardData(BaseModelCardData):
    """Facts for the card of a model that gives one dense vector per input; arguments as in its base."""

    task_name: str | None = (
        "semantic textual similarity, semantic search, paraphrase mining, classification, clustering, "
        "and more"
    )
    tags: list[str] = field(
        default_factory=lambda: [
            "sentence-transformers",
            "sentence-similarity",
            "feature-extraction",
            "dense",
        ]
    )

    model_type: ClassVar[str] = "SentenceTransformer"
    output_phrase: ClassVar[str] = "one dense vector"

    def get_model_specific_metadata(self) -> dict[str, Any]:
        """Facts of the base, the number of dimensions and the similarity function."""
        model = self.model
        facts = {
            "output_dimensionality": best_effort(lambda: model.get_embedding_dimension()),
            "similarity_fn_name": best_effort(lambda: model.similarity_fn_name),
        }
        return {
            **super().get_model_specific_metadata(),
            **{name: value for name, value in facts.items() if value},
        }

    def run_usage_snippet(self) -> None:
        """Compare the usage examples with each other, so that the usage code can show the result."""
        model = self.model
        if model is None:
            return
        embeddings = model.encode(list(self.usage_examples or EXAMPLE_TEXTS), convert_to_tensor=True)
        self.similarities = str(model.similarity(embeddings, embeddings))

    def generate_usage_snippet(self) -> str:
        """Code that loads the model, encodes three texts and compares them, as a Markdown code block."""
        self.try_to_set_ir_model_from_evaluators()
        facts = self.get_model_specific_metadata()
        examples = self.shown_examples()
        lines = [
            "from sentence_transformers import SentenceTransformer",
            "",
            f"model = SentenceTransformer({quoted(self.model_id or PLACEHOLDER_ID)})",
        ]
        if self.ir_model:
            lines += [
                f"query = {quoted(examples[0])}",
                "documents = [",
                *(f"    {quoted(example)}," for example in examples[1:]),
                "]",
                "query_embedding = model.encode_query(query)",
                "document_embeddings = model.encode_document(documents)",
                "print(model.similarity(query_embedding, document_embeddings))",
            ]
            return code_block("\n".join(lines), "python")
        shape = f"({len(examples)}, {facts.get('output_dimensionality', '?')})"
        lines += [
            "sentences = [",
            *(f"    {quoted(example)}," for example in examples),
            "]",
            "embeddings = model.encode(sentences)",
            f"print(embeddings.shape)  # {shape}",
            "print(model.similarity(embeddings, embeddings))",
        ]
        if self.similarities:
            lines += [f"# {line}" for line in self.similarities.splitlines()]
        return code_block("\n".join(lines), "python")
