"""A recurrent network over the tokens of a row.

After Hochreiter and Schmidhuber 1997, "Long short-term memory".
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from sentence_transformers.arguments import accepts_older_names
from sentence_transformers.modules.dimensions import AnswersDimension
from sentence_transformers.modules.with_weights import ModuleWithWeights


class LSTM(AnswersDimension, ModuleWithWeights):
    """Replace the token embeddings by the states of an LSTM that reads the row.

    Args:
        embedding_dimension: Width of the incoming token embeddings (older name:
            `word_embedding_dimension`).
        hidden_dim: Width of the state in each direction.
        num_layers: LSTMs on top of each other.
        dropout: Dropout between the layers, while training.
        bidirectional: Whether the row is also read backwards; doubles the outgoing width.
    """

    config_file_name: str = "lstm_config.json"
    config_keys: list[str] = ["embedding_dimension", "hidden_dim", "num_layers", "dropout", "bidirectional"]
    config_key_renames: dict[str, str] = {"word_embedding_dimension": "embedding_dimension"}

    @accepts_older_names(word_embedding_dimension="embedding_dimension")
    def __init__(
        self,
        embedding_dimension: int,
        hidden_dim: int,
        num_layers: int = 1,
        dropout: float = 0,
        bidirectional: bool = True,
    ) -> None:
        super().__init__()
        self.embedding_dimension = embedding_dimension
        self.hidden_dim = hidden_dim
        self.num_layers = num_layers
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.embeddings_dimension = hidden_dim * (2 if bidirectional else 1)
        self.encoder = nn.LSTM(
            embedding_dimension,
            hidden_dim,
            num_layers=num_layers,
            dropout=dropout,
            bidirectional=bidirectional,
            batch_first=True,
        )

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """Replace `token_embeddings` (B, T, D) by the states (B, T, `get_embedding_dimension()`).

        The length of each row is read from `sentence_lengths` (B,), else from `attention_mask`; padding,
        which has to follow the tokens, gives zeros.
        """
        tokens = features["token_embeddings"]
        rows, width = tokens.shape[:2]
        if rows == 0 or width == 0:
            features["token_embeddings"] = tokens.new_zeros(rows, width, self.embeddings_dimension)
            return features
        # A packed sequence cannot hold an empty row: it is read as one padding token, which no mask keeps.
        lengths = lengths_of_rows(features).clamp(min=1).cpu()
        packed = pack_padded_sequence(tokens, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.encoder(packed)[0], batch_first=True, total_length=width)
        features["token_embeddings"] = states
        return features

    def get_embedding_dimension(self) -> int:
        """Width of the outgoing token embeddings."""
        return self.embeddings_dimension

    def get_config_dict(self) -> dict[str, Any]:
        """Configuration to save, under the keys that every release reads."""
        return {
            "word_embedding_dimension": self.embedding_dimension,
            "hidden_dim": self.hidden_dim,
            "num_layers": self.num_layers,
            "dropout": self.dropout,
            "bidirectional": self.bidirectional,
        }

    def tokenize(self, text: str, **kwargs: Any) -> list[int]:
        """Not possible here: the first part of a model tokenizes.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("LSTM does not tokenize. Call tokenize of the model or of its first part.")


def lengths_of_rows(features: dict[str, Any]) -> Tensor:
    """Tokens in each row of a padded batch, (B,)."""
    if "sentence_lengths" in features:
        return torch.as_tensor(features["sentence_lengths"])
    if "attention_mask" in features:
        return features["attention_mask"].sum(dim=1)
    rows, width = features["token_embeddings"].shape[:2]
    return torch.full((rows,), width)
