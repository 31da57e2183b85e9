"""One vector per word, looked up in a table."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import Self

from sentence_transformers.arguments import accepts_older_names
from sentence_transformers.inputs.rows import TokenRows
from sentence_transformers.modules.base import RowInputModule, locate
from sentence_transformers.modules.classic.tokenizers import (
    TransformersTokenizerWrapper,
    WhitespaceTokenizer,
    WordTokenizer,
    saved_name,
    tokenizer_class,
)
from sentence_transformers.modules.dimensions import AnswersDimension

logger = logging.getLogger(__name__)

PADDING_WORD = "PADDING_TOKEN"
"""The word that `from_text_file` puts in front of all others; its vector is zero."""


class WordEmbeddings(AnswersDimension, RowInputModule):
    """Token embeddings that do not depend on context, such as word2vec (Mikolov et al. 2013, "Efficient
    estimation of word representations in vector space") or GloVe (Pennington et al. 2014).

    Args:
        tokenizer: Gives the numbers of the words of a text. A tokenizer of transformers works as well.
        embedding_weights: The table, (V, D), as array, tensor or nested lists. Row 0 also stands for padding.
        update_embeddings: Whether training changes the table.
        max_seq_length: Words of a text that count; the rest is cut off.

    Raises:
        TypeError: If `tokenizer` is no tokenizer.
        ValueError: If the table is not two-dimensional.
    """

    save_in_root: bool = False
    config_file_name: str = "wordembedding_config.json"
    config_keys: list[str] = ["tokenizer_class", "update_embeddings", "max_seq_length"]

    def __init__(
        self,
        tokenizer: WordTokenizer,
        embedding_weights: np.ndarray | Tensor | Sequence[Sequence[float]],
        update_embeddings: bool = False,
        max_seq_length: int = 1000000,
    ) -> None:
        super().__init__()
        table = torch.as_tensor(embedding_weights).float()
        if table.ndim != 2:
            raise ValueError(
                f"embedding_weights has the shape {tuple(table.shape)}. Pass a table (words, dimensions)."
            )
        self.tokenizer = as_word_tokenizer(tokenizer)
        self.update_embeddings = update_embeddings
        self.max_seq_length = max_seq_length
        self.embeddings_dimension = table.shape[1]
        self.emb_layer = nn.Embedding.from_pretrained(table, freeze=not update_embeddings)

    @property
    def tokenizer_class(self) -> str:
        """Import path of the tokenizer's class, as it is saved."""
        return saved_name(self.tokenizer)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add `token_embeddings` (B, T, D) for `input_ids` (B, T); `kwargs` are ignored."""
        del kwargs
        features["token_embeddings"] = self.emb_layer(features["input_ids"])
        return features

    def preprocess(self, inputs: Sequence[str], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Tokenise texts.

        Args:
            inputs: Texts.
            prompt: Put in front of every text.
            **kwargs: Go to the tokenizer's `tokenize`.

        Returns:
            `input_ids` and `attention_mask` (B, T), padded with 0, and `sentence_lengths` (B,).
        """
        return self.collate_rows(self.read_rows(inputs, prompt, **kwargs), packed=False)

    def read_rows(self, inputs: Sequence[str], prompt: str | None = None, **kwargs: Any) -> TokenRows:
        """Numbers of the known words of each text, cut to `max_seq_length`."""
        texts = [prompt + text for text in inputs] if prompt else inputs
        ids = [self.tokenizer.tokenize(text, **kwargs)[: self.max_seq_length] for text in texts]
        return TokenRows(
            ids, prompt_length=len(self.tokenizer.tokenize(prompt, **kwargs)) if prompt else None
        )

    def collate_rows(self, rows: TokenRows, *, packed: bool) -> dict[str, Any]:
        """Pad rows to the length of the longest one."""
        del packed
        lengths = torch.tensor(rows.lengths, dtype=torch.long)
        width = max(rows.lengths, default=0)
        input_ids = torch.zeros(len(rows), width, dtype=torch.long)
        for row, words in zip(input_ids, rows.ids):
            row[: len(words)] = torch.as_tensor(words, dtype=torch.long)
        features: dict[str, Any] = {
            "input_ids": input_ids,
            "attention_mask": (torch.arange(width) < lengths.unsqueeze(1)).long(),
            "sentence_lengths": lengths,
            **rows.extras,
        }
        if rows.prompt_length is not None:
            features["prompt_length"] = rows.prompt_length
        return features

    def get_embedding_dimension(self) -> int:
        """Width of the table."""
        return self.embeddings_dimension

    def save(self, output_path: str, safe_serialization: bool = True, *args: Any, **kwargs: Any) -> None:
        """Write the configuration, the table and the tokenizer into a folder."""
        del args, kwargs
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)
        self.tokenizer.save(output_path)

    @classmethod
    @accepts_older_names(input_path="model_name_or_path")
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Load the part; the arguments are those of `Module.load`.

        Raises:
            ValueError: If the table is missing or damaged, or if the tokenizer's class is unknown.
        """
        del kwargs
        where = locate(model_name_or_path, subfolder, token, cache_folder, revision, local_files_only)
        config = cls.load_config(**where)
        folder = cls.load_dir_path(**where)
        if folder is None or "tokenizer_class" not in config:
            raise ValueError(
                f"{cls.__name__} has no {cls.config_file_name} that names a tokenizer_class in the folder "
                f"{subfolder!r} of {model_name_or_path!r}."
            )
        tokenizer = tokenizer_class(config.pop("tokenizer_class")).load(folder)
        return cls(tokenizer, cls.load_torch_weights(**where)["emb_layer.weight"], **config)

    @classmethod
    def from_text_file(
        cls,
        embeddings_file_path: str,
        update_embeddings: bool = False,
        item_separator: str = " ",
        tokenizer: WordTokenizer | None = None,
        max_vocab_size: int | None = None,
    ) -> Self:
        """Read a table of word vectors, in the text format of word2vec and GloVe.

        Args:
            embeddings_file_path: The file, UTF-8, compressed if its name ends in `.gz`. Each line has a word
                and its numbers; a first line with two counts, as word2vec writes, is skipped.
            update_embeddings: Whether training changes the table.
            item_separator: What stands between the items of a line.
            tokenizer: Gets the words of the file as vocabulary; None for a new `WhitespaceTokenizer`.
            max_vocab_size: Number of words to read; None for all of them.

        Returns:
            The part, with a row of zeros for padding in front of those of the file.

        Raises:
            ValueError: If there is no such file, if it has no vectors, or if something in it is no number.
        """
        vocab, table = read_word_vectors(
            embeddings_file_path, separator=item_separator, max_words=max_vocab_size
        )
        tokenizer = WhitespaceTokenizer() if tokenizer is None else as_word_tokenizer(tokenizer)
        tokenizer.set_vocab(vocab)
        return cls(tokenizer, table, update_embeddings=update_embeddings)


def as_word_tokenizer(tokenizer: Any) -> WordTokenizer:
    """A word tokenizer as it is, or a tokenizer of transformers wrapped into one.

    Raises:
        TypeError: If it is neither.
    """
    if isinstance(tokenizer, WordTokenizer):
        return tokenizer
    if callable(tokenizer) and hasattr(tokenizer, "get_vocab") and hasattr(tokenizer, "save_pretrained"):
        return TransformersTokenizerWrapper(tokenizer)
    raise TypeError(
        f"tokenizer is of type {type(tokenizer).__name__}. Pass a WordTokenizer, such as "
        "WhitespaceTokenizer(vocab), or a tokenizer of transformers."
    )


def read_word_vectors(
    path: str | Path, *, separator: str, max_words: int | None
) -> tuple[list[str], np.ndarray]:
    """Words and vectors of a text file, (V,) and (V, D), with the padding word and its zeros in front.

    Lines that have another number of items than the first vector are skipped with a warning.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"Embeddings file not found: {path}. Pass the path of a file with one word per line."
        )
    vocab: list[str] = []
    vectors: list[np.ndarray] = []
    skipped = 0
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            word, *items = line.rstrip().split(separator)
            is_header = number == 1 and len(items) == 1 and word.isdecimal() and items[0].isdecimal()
            if is_header:
                continue
            if not items or (vectors and len(items) != len(vectors[0])):
                skipped += 1
                continue
            try:
                vectors.append(np.array(items, dtype=np.float32))
            except ValueError as error:
                raise ValueError(
                    f"Line {number} of {path} has something that is no number: {error}. Does item_separator="
                    f"{separator!r} fit the file?"
                ) from error
            vocab.append(word)
            if max_words and len(vocab) >= max_words:
                break
    if not vectors:
        raise ValueError(f"{path} has no word vectors. Does item_separator={separator!r} fit the file?")
    if skipped:
        logger.warning(
            "Skipped %d lines of %s that are no vector of %d numbers.", skipped, path, len(vectors[0])
        )
    padding = np.zeros_like(vectors[0])
    return [PADDING_WORD, *vocab], np.stack([padding, *vectors])
