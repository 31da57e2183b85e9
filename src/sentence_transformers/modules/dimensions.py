"""One question under the names it had over the releases: how wide are the vectors this part gives?

A part answers `get_embedding_dimension`; the two older names are answered with it. Nothing here knows
what the vectors are.
"""

from __future__ import annotations


class AnswersDimension:
    """Answers the older names of `get_embedding_dimension`."""

    def get_embedding_dimension(self) -> int:
        """Width of the vectors this part gives."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_embedding_dimension().")

    def get_sentence_embedding_dimension(self) -> int:
        """Older name of `get_embedding_dimension`, of parts that give one vector per input."""
        return self.get_embedding_dimension()

    def get_word_embedding_dimension(self) -> int:
        """Older name of `get_embedding_dimension`, of parts that give one vector per token."""
        return self.get_embedding_dimension()
