"""From token embeddings to one vector per row.

One function per mode over unpadded or masked tokens, in a table; packed rows are pooled group by group of
equal length with the same functions. Nothing here knows where the tokens came from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import Self

from sentence_transformers.arguments import accepts_older_names
from sentence_transformers.inputs.packing import PackedLayout
from sentence_transformers.modules.base import Module, locate


def first_token(tokens: Tensor, mask: Tensor, counted: Tensor, total: Tensor | None = None) -> Tensor:
    """Embedding of the first token of each row that counts; zeros where none does."""
    del mask, total
    first = counted.to(torch.uint8).argmax(dim=1)  # (B,)
    rows = tokens[torch.arange(len(tokens), device=tokens.device), first]
    return rows * counted.any(dim=1, keepdim=True)


def last_token(tokens: Tensor, mask: Tensor, counted: Tensor, total: Tensor | None = None) -> Tensor:
    """Embedding of the last token of each row that counts; zeros where none does."""
    del mask, total
    positions = torch.arange(tokens.shape[1], device=tokens.device)
    last = torch.where(counted, positions, -1).max(dim=1).values  # (B,)
    rows = tokens[torch.arange(len(tokens), device=tokens.device), last.clamp(min=0)]
    return rows * (last >= 0).unsqueeze(-1)


def max_tokens(tokens: Tensor, mask: Tensor, counted: Tensor, total: Tensor | None = None) -> Tensor:
    """Largest value of each dimension over the tokens that count; zeros where none does."""
    del mask, total
    lowest = torch.finfo(tokens.dtype).min
    largest = tokens.masked_fill(~counted.unsqueeze(-1), lowest).max(dim=1).values
    return largest.masked_fill(~counted.any(dim=1, keepdim=True), 0)


def mean_tokens(tokens: Tensor, mask: Tensor, counted: Tensor, total: Tensor | None = None) -> Tensor:
    """Average of the tokens that count; zeros where none does."""
    del mask
    weights = counted.unsqueeze(-1).to(tokens.dtype)
    return (tokens * weights).sum(dim=1) / divisor(weights, total)


def mean_sqrt_length_tokens(
    tokens: Tensor, mask: Tensor, counted: Tensor, total: Tensor | None = None
) -> Tensor:
    """Sum of the tokens that count over the square root of their number."""
    del mask
    weights = counted.unsqueeze(-1).to(tokens.dtype)
    return (tokens * weights).sum(dim=1) / divisor(weights, total).sqrt()


def position_weighted_mean_tokens(
    tokens: Tensor, mask: Tensor, counted: Tensor, total: Tensor | None = None
) -> Tensor:
    """Average in which a token weighs as much as its position, counted from 1 (Muennighoff 2022, SGPT)."""
    position = mask.to(torch.long).cumsum(dim=1) * counted  # (B, T)
    weights = position.unsqueeze(-1).to(tokens.dtype)
    return (tokens * weights).sum(dim=1) / divisor(weights, total)


def divisor(weights: Tensor, total: Tensor | None) -> Tensor:
    """What sums are divided by, (B, 1): the sum of the weights, or the total that a word-weighting module left."""
    if total is not None:
        return total.unsqueeze(-1).to(weights.dtype).clamp(min=1e-9)
    return weights.sum(dim=1).clamp(min=1)


POOLINGS: Mapping[str, Callable[..., Tensor]] = {
    "cls": first_token,
    "max": max_tokens,
    "mean": mean_tokens,
    "mean_sqrt_len_tokens": mean_sqrt_length_tokens,
    "weightedmean": position_weighted_mean_tokens,
    "lasttoken": last_token,
}
"""The modes by name, in the order in which older settings put several of them side by side.
Each takes tokens (B, T, D), the mask of real tokens (B, T), the mask of those that count, and for averages the
sum of the tokens' weights (B,) if they have been weighted."""

SETTING_OF_MODE: Mapping[str, str] = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
"""The older boolean setting for each mode."""

SAVED_ORDER = ("cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
"""Order of the boolean settings in saved files."""


class Pooling(Module):
    """Makes one vector of the token embeddings of each row.

    Args:
        word_embedding_dimension: Width of the token embeddings; newer name `embedding_dimension`.
        pooling_mode: One of "cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken", or a
            sequence of them, whose results stand side by side in that order. None to go by the booleans.
        pooling_mode_cls_token: Use the first token.
        pooling_mode_max_tokens: Use the largest value of each dimension.
        pooling_mode_mean_tokens: Use the average.
        pooling_mode_mean_sqrt_len_tokens: Use the sum over the square root of the number of tokens.
        pooling_mode_weightedmean_tokens: Use the average weighted by position.
        pooling_mode_lasttoken: Use the last token.
        include_prompt: Whether the tokens of a prompt count.

    Raises:
        ValueError: If a mode is unknown or none is chosen.
    """

    POOLING_MODES = ("cls", "lasttoken", "max", "mean", "mean_sqrt_len_tokens", "weightedmean")
    config_keys: list[str] = ["embedding_dimension", "pooling_mode", "include_prompt"]
    reads_packed: ClassVar[bool] = True

    @accepts_older_names(embedding_dimension="word_embedding_dimension")
    def __init__(
        self,
        word_embedding_dimension: int,
        pooling_mode: str | Sequence[str] | None = None,
        pooling_mode_cls_token: bool = False,
        pooling_mode_max_tokens: bool = False,
        pooling_mode_mean_tokens: bool = True,
        pooling_mode_mean_sqrt_len_tokens: bool = False,
        pooling_mode_weightedmean_tokens: bool = False,
        pooling_mode_lasttoken: bool = False,
        include_prompt: bool = True,
    ) -> None:
        super().__init__()
        chosen = {
            "cls": pooling_mode_cls_token,
            "max": pooling_mode_max_tokens,
            "mean": pooling_mode_mean_tokens,
            "mean_sqrt_len_tokens": pooling_mode_mean_sqrt_len_tokens,
            "weightedmean": pooling_mode_weightedmean_tokens,
            "lasttoken": pooling_mode_lasttoken,
        }
        self.modes = modes_named(
            [mode for mode in POOLINGS if chosen[mode]] if pooling_mode is None else pooling_mode
        )
        self.word_embedding_dimension = word_embedding_dimension
        self.include_prompt = include_prompt

    def __getattr__(self, name: str) -> Any:
        for mode, setting in SETTING_OF_MODE.items():
            if name == setting:
                return mode in self.modes
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        # Older code switches modes by these booleans, one after the other.
        for mode, setting in SETTING_OF_MODE.items():
            if name == setting:
                chosen = {*self.modes, mode} if value else {*self.modes} - {mode}
                self.modes = tuple(mode for mode in POOLINGS if mode in chosen)
                return
        super().__setattr__(name, value)

    @property
    def pooling_mode(self) -> str | list[str]:
        """The mode, or the list of modes where there are several."""
        return self.modes[0] if len(self.modes) == 1 else list(self.modes)

    @pooling_mode.setter
    def pooling_mode(self, value: str | Sequence[str]) -> None:
        self.modes = modes_named(value)

    @property
    def embedding_dimension(self) -> int:
        """Width of the token embeddings."""
        return self.word_embedding_dimension

    @property
    def pooling_output_dimension(self) -> int:
        """Width of the result."""
        return self.word_embedding_dimension * len(self.modes)

    def get_pooling_mode_str(self) -> str:
        """The modes' names, joined by "+"."""
        return "+".join(self.modes)

    def get_sentence_embedding_dimension(self) -> int:
        """Width of the result: that of the tokens times the number of modes."""
        return self.pooling_output_dimension

    get_embedding_dimension = get_sentence_embedding_dimension

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add `sentence_embedding` (B, D × modes) to the features.

        Args:
            features: `token_embeddings` (B, T, D) with `attention_mask` (B, T), or packed; `prompt_length`
                where the texts have a prompt. `cls_token_embeddings` (B, D) of a custom part stands in for the
                first tokens.
            **kwargs: Ignored.
        """
        del kwargs
        tokens: Tensor = features["token_embeddings"]
        prompt = 0 if self.include_prompt else prompt_length(features)
        layout = PackedLayout.read(features)
        if layout is None:
            mask = features.get("attention_mask")
            if mask is None:
                mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
            pooled = self._pool(tokens, mask.bool(), prompt, features.get("token_weights_sum"))
            if "cls_token_embeddings" in features and "cls" in self.modes:
                start = self.modes.index("cls") * tokens.shape[-1]
                before, _, after = pooled.tensor_split((start, start + tokens.shape[-1]), dim=1)
                pooled = torch.cat([before, features["cls_token_embeddings"], after], dim=1)
        else:
            pooled = torch.cat([self._pool_whole(batch, prompt) for batch in layout.batches(tokens[0])])
        features["sentence_embedding"] = pooled
        return features

    def _pool(self, tokens: Tensor, mask: Tensor, prompt: int, total: Tensor | None = None) -> Tensor:
        if tokens.shape[1] == 0:
            return tokens.new_zeros(len(tokens), self.pooling_output_dimension)
        wide = widened(tokens)
        counted = mask & (mask.cumsum(dim=1) > prompt) if prompt else mask
        pooled = [POOLINGS[mode](wide, mask, counted, total) for mode in self.modes]
        return torch.cat(pooled, dim=1).to(tokens.dtype)

    def _pool_whole(self, tokens: Tensor, prompt: int) -> Tensor:
        """Pool rows without padding, all of one length."""
        if self.modes == ("mean",) and tokens.shape[1] > prompt:
            return widened(tokens[:, prompt:]).mean(dim=1).to(tokens.dtype)
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return self._pool(tokens, mask, prompt)

    def get_config_dict(self) -> dict[str, Any]:
        """Settings to save, in the form every release reads wherever that can say them."""
        if list(self.modes) == [mode for mode in POOLINGS if mode in self.modes]:
            return {
                "word_embedding_dimension": self.word_embedding_dimension,
                **{SETTING_OF_MODE[mode]: mode in self.modes for mode in SAVED_ORDER},
                "include_prompt": self.include_prompt,
            }
        return {
            "embedding_dimension": self.word_embedding_dimension,
            "pooling_mode": self.pooling_mode,
            "include_prompt": self.include_prompt,
        }

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
        init_defaults: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load the part; see `Module.load`."""
        del kwargs
        where = locate(model_name_or_path, subfolder, token, cache_folder, revision, local_files_only)
        return cls(**{**(init_defaults or {}), **cls.load_config(**where)})

    @classmethod
    def load_config(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read the saved settings; arguments as in `Module.load_config`."""
        config = super().load_config(*args, **kwargs)
        known = {"word_embedding_dimension", *cls.config_keys, *SETTING_OF_MODE.values()}
        return {key: value for key, value in config.items() if key in known}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.get_config_dict()})"


def prompt_length(features: Mapping[str, Any]) -> int:
    """Leading tokens of each row that belong to the prompt; a tensor of them holds the same number for each row."""
    length = features.get("prompt_length")
    if isinstance(length, Tensor):
        length = length.flatten()[0]
    return 0 if length is None else int(length)


def widened(tokens: Tensor) -> Tensor:
    """At least float32: sums over hundreds of tokens lose digits in half precision."""
    return tokens.float() if tokens.itemsize < 4 else tokens


def modes_named(names: str | Sequence[str]) -> tuple[str, ...]:
    """Modes by name, in the order given.

    Raises:
        ValueError: If a mode is unknown or none is named.
    """
    modes = tuple(name.lower() for name in ([names] if isinstance(names, str) else names))
    for mode in modes:
        if mode not in POOLINGS:
            raise ValueError(f"Unknown pooling_mode {mode!r}. Known: {', '.join(POOLINGS)}.")
    if not modes:
        raise ValueError("No pooling mode is chosen. Set pooling_mode, for example pooling_mode='mean'.")
    return modes
