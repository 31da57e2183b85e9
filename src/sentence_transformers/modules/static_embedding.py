"""One vector per input out of a table of token vectors, without any context.

The embedding is the mean of the vectors of an input's tokens: a lookup and a sum, many hundred times faster
than a transformer. Rows lie one after another in one long row of ids, so that there is no padding at all.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import Self

from sentence_transformers.arguments import accepts_older_names
from sentence_transformers.inputs.rows import TokenRows
from sentence_transformers.modules.base import RowInputModule, locate
from sentence_transformers.modules.dimensions import AnswersDimension
from sentence_transformers.modules.transformer.text import without_surrogates
from sentence_transformers.storage import hub

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

TOKENIZER_FILE = "tokenizer.json"


class StaticEmbedding(AnswersDimension, RowInputModule):
    """Mean of the vectors of an input's tokens.

    Args:
        tokenizer: A `tokenizers.Tokenizer`, or a fast tokenizer of transformers, of which a copy is made.
            Special tokens are not added; a truncation that is set on it is respected.
        embedding_weights: The table, (V, D). It keeps its number type; whole numbers become float32.
        embedding_dim: Width D of a table to make at random, when none is given.
        **kwargs: `base_model`, the name of the model that the table was made from; others are ignored.

    Raises:
        ValueError: If the tokenizer is not a fast one, or if there is neither a table nor a width.
    """

    # Every release reads the folder that this gives; only the newest ones look into the model's own.
    save_in_root: bool = False

    def __init__(
        self,
        tokenizer: Tokenizer | PreTrainedTokenizerFast,
        embedding_weights: np.ndarray | Tensor | None = None,
        embedding_dim: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.tokenizer: Tokenizer = fast_tokenizer(tokenizer)
        if embedding_weights is not None:
            table = torch.as_tensor(embedding_weights)
            table = table if table.is_floating_point() else table.float()
            self.embedding = nn.EmbeddingBag.from_pretrained(table, freeze=False, mode="mean")
        elif embedding_dim is not None:
            self.embedding = nn.EmbeddingBag(self.tokenizer.get_vocab_size(), embedding_dim, mode="mean")
        else:
            raise ValueError(
                "There is neither a table nor a width: pass embedding_weights, or embedding_dim "
                "for a random table."
            )
        self.num_embeddings = self.embedding.num_embeddings
        self.embedding_dim = self.embedding.embedding_dim
        self.base_model = kwargs.get("base_model")
        self._copy_without_padding: tuple[Tokenizer, str, Tokenizer] | None = None

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add `sentence_embedding` (B, D), zeros for a row without tokens.

        Args:
            features: `input_ids` (T,), the ids of all rows one after another, and `offsets` (B,), where each
                row starts.
            **kwargs: Ignored.
        """
        del kwargs
        features["sentence_embedding"] = self.embedding(features["input_ids"], features["offsets"])
        return features

    def preprocess(self, inputs: Sequence[str], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Tokenise texts into `input_ids` (T,) and `offsets` (B,).

        Args:
            inputs: Texts, or pairs of texts, whose tokens count together.
            prompt: Put in front of every text, or of the first of each pair.
            **kwargs: Ignored.

        Raises:
            ValueError: If an input is neither, or has a token that the table has no row for.
        """
        del kwargs
        return self.collate_rows(self.read_rows(inputs, prompt), packed=False)

    def read_rows(self, inputs: Sequence[str], prompt: str | None = None, **kwargs: Any) -> TokenRows:
        """Token ids of each input, without special tokens; the arguments are those of `preprocess`."""
        del kwargs
        texts = [readable(text, prompt or "") for text in inputs]
        encodings = self._tokenizer_without_padding().encode_batch_fast(texts, add_special_tokens=False)
        return TokenRows([encoding.ids for encoding in encodings])

    def collate_rows(self, rows: TokenRows, *, packed: bool) -> dict[str, Any]:
        """Put the rows one after another; there is no padded form."""
        del packed
        lengths = rows.lengths
        ids = np.fromiter(chain.from_iterable(rows.ids), dtype=np.int64, count=sum(lengths))  # (T,)
        if len(ids) and ids.max() >= self.num_embeddings:
            number = int(ids.max())
            raise ValueError(
                f"The token {self.tokenizer.id_to_token(number)!r} has the number {number}, but the "
                f"table has only {self.num_embeddings} rows. Does the tokenizer belong to this table?"
            )
        offsets = np.fromiter(accumulate(lengths, initial=0), dtype=np.int64, count=len(lengths))  # (B,)
        return {"input_ids": torch.from_numpy(ids), "offsets": torch.from_numpy(offsets), **rows.extras}

    def _tokenizer_without_padding(self) -> Tokenizer:
        """The tokenizer, or where it pads, a copy that does not; what the user has set on it stays set."""
        if self.tokenizer.padding is None:
            return self.tokenizer
        truncation = str(self.tokenizer.truncation)
        known = self._copy_without_padding
        if known is None or known[0] is not self.tokenizer or known[1] != truncation:
            private = copy.deepcopy(self.tokenizer)
            private.no_padding()
            known = self._copy_without_padding = (self.tokenizer, truncation, private)
        return known[2]

    @property
    def max_seq_length(self) -> float:
        """Infinity: a table has no limit of its own."""
        return math.inf

    def get_embedding_dimension(self) -> int:
        """Width of the table."""
        return self.embedding_dim

    @accepts_older_names(save_dir="output_path")
    def save(self, output_path: str, safe_serialization: bool = True, *args: Any, **kwargs: Any) -> None:
        """Write the table and the tokenizer into a folder; there is no configuration."""
        del args, kwargs
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)
        self.save_tokenizer(output_path)

    @classmethod
    @accepts_older_names(input_path="model_name_or_path", load_dir="model_name_or_path")
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
        """Load the part, also out of a folder of model2vec; the arguments are those of `Module.load`.

        Raises:
            ValueError: If the tokenizer or the table is missing or damaged.
        """
        del kwargs
        where = locate(model_name_or_path, subfolder, token, cache_folder, revision, local_files_only)
        file = cls.load_file_path(filename=TOKENIZER_FILE, **where)
        if file is None:
            raise ValueError(
                f"{cls.__name__} has no {TOKENIZER_FILE} in the folder {subfolder!r} of "
                f"{model_name_or_path!r}."
            )
        return cls(read_tokenizer(file), embedding_weights=table_of(cls.load_torch_weights(**where)))

    @classmethod
    def from_distillation(
        cls,
        model_name: str,
        vocabulary: list[str] | None = None,
        device: str | None = None,
        pca_dims: int | None = 256,
        apply_zipf: bool = True,
        use_subword: bool = True,
        sif_coefficient: float | None = 1e-4,
        token_remove_pattern: str | None = r"\[unused\d+\]",
        quantize_to: str = "float32",
        **kwargs: Any,
    ) -> Self:
        """Make the table out of a transformer, by embedding every token with it alone (model2vec).

        Args:
            model_name: The transformer, as folder or name on the hub.
            vocabulary: Words to have vectors for; None for the tokenizer's own.
            device: Where the transformer runs; None to let model2vec choose.
            pca_dims: Width of the table; None for the transformer's own.
            apply_zipf: Whether to weigh tokens by their rank, the more frequent the less. Older model2vec.
            use_subword: Whether to keep the tokenizer's own tokens beside `vocabulary`. Older model2vec.
            sif_coefficient: How much less frequent tokens weigh; None for equal weights. Newer model2vec.
            token_remove_pattern: Tokens that match this expression get no vector. Newer model2vec.
            quantize_to: Number type of the table. Newer model2vec.
            **kwargs: Further arguments of `model2vec.distill.distill`.

        Raises:
            ImportError: If model2vec is not installed.
        """
        try:
            from model2vec.distill import distill
        except ImportError as error:
            raise ImportError(
                "from_distillation needs model2vec, which is not installed. Install it: "
                "pip install 'model2vec[distill]'"
            ) from error
        arguments = {
            "vocabulary": vocabulary,
            "device": device,
            "pca_dims": pca_dims,
            "apply_zipf": apply_zipf,
            "use_subword": use_subword,
            "sif_coefficient": sif_coefficient,
            "token_remove_pattern": token_remove_pattern,
            "quantize_to": quantize_to,
        }
        # The releases of model2vec differ in what they can be told; each is told what it knows.
        known = inspect.signature(distill).parameters
        arguments = {name: value for name, value in arguments.items() if name in known}
        distilled = distill(model_name, **arguments, **kwargs)
        return cls(
            distilled.tokenizer, embedding_weights=table_of_model2vec(distilled), base_model=model_name
        )

    @classmethod
    def from_model2vec(cls, model_id_or_path: str) -> Self:
        """Load the table of a model2vec model; the package itself is not needed.

        Args:
            model_id_or_path: A folder, or a name on the hub.

        Raises:
            ValueError: If there is no such model, or it lacks the tokenizer or the table.
        """
        folder = hub.find_model(model_id_or_path)
        inner = folder / "0_StaticEmbedding"
        part = cls.load(str(inner if inner.is_dir() else folder))
        part.base_model = model_id_or_path
        return part


def fast_tokenizer(tokenizer: Any) -> Tokenizer:
    """The Rust tokenizer itself, or a copy of the one inside a tokenizer of transformers.

    A copy, because the outer tokenizer changes the settings of the inner one with every call.
    """
    from tokenizers import Tokenizer

    if isinstance(tokenizer, Tokenizer):
        return tokenizer
    inner = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(inner, Tokenizer):
        raise ValueError(
            f"StaticEmbedding needs a fast tokenizer, and {type(tokenizer).__name__} is none. Load one with "
            "tokenizers.Tokenizer.from_pretrained(name), or with AutoTokenizer.from_pretrained(name)."
        )
    return copy.deepcopy(inner)


def read_tokenizer(file: str) -> Tokenizer:
    """Read a `tokenizer.json`.

    Raises:
        ValueError: If the file is damaged.
    """
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(file)
    except Exception as error:  # the library raises bare exceptions
        raise ValueError(f"{file} is not a tokenizer that can be read: {error}") from error


def table_of(state: Mapping[str, Tensor]) -> Tensor:
    """The table (V, D) out of saved tensors, ours or those of model2vec.

    A model2vec model may share rows between tokens (`mapping`: row by token) and weigh tokens (`weights`).

    Raises:
        ValueError: If there is no table among the tensors.
    """
    table = state.get("embedding.weight", state.get("embeddings"))
    if table is None:
        raise ValueError(
            f"There is no table of embeddings among the tensors {sorted(state)}: neither "
            "'embedding.weight' nor 'embeddings'. Is this the folder of a static model?"
        )
    if not table.is_floating_point():
        table = table.float()
    if "mapping" in state:
        table = table[state["mapping"].long()]
    if "weights" in state:
        table = table * state["weights"].to(table.dtype).unsqueeze(1)
    return table


def table_of_model2vec(model: Any) -> Tensor:
    """The table of a model2vec model in memory, whose release decides what it has besides `embedding`."""
    parts = {"embeddings": model.embedding}
    for name, attribute in (("weights", "weights"), ("mapping", "token_mapping")):
        if getattr(model, attribute, None) is not None:
            parts[name] = getattr(model, attribute)
    return table_of({name: torch.as_tensor(values) for name, values in parts.items()})


def readable(text: Any, prompt: str) -> str | tuple[str, str]:
    """A text, or a pair of them, behind a prompt and free of what no tokenizer can read.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(text, str):
        return without_surrogates(prompt + text)
    if isinstance(text, (tuple, list)) and len(text) == 2 and all(isinstance(part, str) for part in text):
        return without_surrogates(prompt + text[0]), without_surrogates(text[1])
    raise ValueError(
        f"Cannot tokenise {text!r} of type {type(text).__name__}: unsupported input type. Pass a "
        "string, or a pair of strings."
    )
