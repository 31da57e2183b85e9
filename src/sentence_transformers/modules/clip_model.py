"""Texts and images in one space.

After Radford et al. 2021, "Learning transferable visual models from natural language supervision". The model
and the preparation of inputs are those of transformers; here they take texts and images mixed in one list.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from typing_extensions import Self

from sentence_transformers.arguments import accepts_older_names
from sentence_transformers.modules.base import InputModule, locate
from sentence_transformers.modules.dimensions import AnswersDimension
from sentence_transformers.modules.transformer.text import without_surrogates
from sentence_transformers.storage.hub import cache_directory

if TYPE_CHECKING:
    from transformers import CLIPModel as TransformersCLIPModel
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

TEXT, IMAGE = 1, 0
"""The kinds of inputs, as they stand in the entry `image_text_info` of the features."""


class CLIPModel(AnswersDimension, InputModule):
    """One embedding per text or image, out of a CLIP model.

    Args:
        model_name_or_path: Folder or hub name of the model (older name: `model_name`).
        processor_name: Folder or hub name of its processor; None for the model's own.
        model_kwargs: Further arguments of `transformers.CLIPModel.from_pretrained`.
        processor_kwargs: Further arguments of `transformers.CLIPProcessor.from_pretrained`.
        config_kwargs: Settings of the model's configuration to replace.
        max_seq_length: Tokens of a text that count; None for as many as the model knows positions.
    """

    save_in_root: bool = True
    modalities: list[Any] = ["text", "image"]

    @accepts_older_names(model_name="model_name_or_path")
    def __init__(
        self,
        model_name_or_path: str = "openai/clip-vit-base-patch32",
        processor_name: str | None = None,
        *,
        model_kwargs: dict[str, Any] | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        max_seq_length: int | None = None,
    ) -> None:
        super().__init__()
        import transformers

        self.model: TransformersCLIPModel = transformers.CLIPModel.from_pretrained(
            model_name_or_path, **(model_kwargs or {}), **(config_kwargs or {})
        )
        self.processor = transformers.CLIPProcessor.from_pretrained(
            processor_name or model_name_or_path, **(processor_kwargs or {})
        )
        if max_seq_length is not None:
            self.max_seq_length = max_seq_length

    @property
    def auto_model(self) -> TransformersCLIPModel:
        """The model of transformers."""
        return self.model

    @property
    def config(self) -> PretrainedConfig:
        """The configuration of the model of transformers."""
        return self.model.config

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer inside the processor."""
        return self.processor.tokenizer

    @property
    def max_seq_length(self) -> int:
        """Tokens of a text that count, special tokens included; at most as many as there are positions."""
        return min(self.tokenizer.model_max_length, self.config.text_config.max_position_embeddings)

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        self.tokenizer.model_max_length = value

    def preprocess(
        self,
        inputs: Sequence[Any],
        prompt: str | None = None,
        processing_kwargs: dict[str, dict[str, Any]] | None = None,
        padding: str | bool = True,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Tokenise the texts and prepare the images.

        Args:
            inputs: Texts and images in any order. An image is a PIL image, an array or a tensor; either may
                also stand in a dictionary under the key "text" or "image".
            prompt: Put in front of every text.
            processing_kwargs: Further arguments of the tokenizer under the key "text", and of the image
                processor under "image".
            padding: How texts are padded: True to the longest, "max_length" to the most that is possible.
            **kwargs: Ignored.

        Returns:
            `input_ids` and `attention_mask` (texts, T) if there are texts, `pixel_values` (images, 3, H, W)
            if there are images, and `image_text_info`, a list with 1 for each text and 0 for each image.

        Raises:
            ValueError: If an input is neither.
        """
        del kwargs
        given = processing_kwargs or {}
        told_apart = [text_or_image(item) for item in inputs]
        texts = [without_surrogates((prompt or "") + item) for kind, item in told_apart if kind == TEXT]
        images = [item for kind, item in told_apart if kind == IMAGE]
        features: dict[str, Any] = {}
        if texts:
            settings = {"padding": padding, "truncation": True, "max_length": self.max_seq_length}
            encoded = self.tokenizer(texts, **{**settings, **given.get("text", {})}, return_tensors="pt")
            features.update(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"])
        if images:
            features["pixel_values"] = self.processor.image_processor(images, return_tensors="pt")[
                "pixel_values"
            ]
        features["image_text_info"] = [kind for kind, _ in told_apart]
        return features

    def tokenize(self, texts: Sequence[Any], padding: str | bool = True, **kwargs: Any) -> dict[str, Any]:
        """Older name of `preprocess`."""
        return self.preprocess(texts, padding=padding, **kwargs)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add `sentence_embedding` (B, D), texts and images in the order of the inputs.

        Args:
            features: What `preprocess` gives. Without `image_text_info`, the texts come first.
            **kwargs: Ignored.
        """
        del kwargs
        found: dict[int, Tensor] = {}
        if "input_ids" in features:
            found[TEXT] = projected(
                self.model.get_text_features(
                    input_ids=features["input_ids"], attention_mask=features.get("attention_mask")
                )
            )
        if "pixel_values" in features:
            found[IMAGE] = projected(self.model.get_image_features(pixel_values=features["pixel_values"]))
        kinds = features.get("image_text_info")
        if kinds is None:
            kinds = [kind for kind in (TEXT, IMAGE) for _ in found.get(kind, ())]
        features["sentence_embedding"] = self._in_order(found, kinds)
        return features

    def _in_order(self, found: dict[int, Tensor], kinds: Sequence[int]) -> Tensor:
        if not found:
            return torch.empty(0, self.get_embedding_dimension(), device=self.model.device)
        if len(found) == 1:
            return next(iter(found.values()))
        embeddings = torch.cat([found[TEXT], found[IMAGE]])  # (B, D), texts first
        numbers = {TEXT: iter(range(len(found[TEXT]))), IMAGE: iter(range(len(found[TEXT]), len(embeddings)))}
        return embeddings[[next(numbers[kind]) for kind in kinds]]

    def get_embedding_dimension(self) -> int:
        """Width of the space that texts and images share."""
        return self.config.projection_dim

    def save(self, output_path: str, safe_serialization: bool = True, *args: Any, **kwargs: Any) -> None:
        """Write the model and its processor into a folder, as transformers does, always as safetensors."""
        del safe_serialization, args, kwargs
        self.model.save_pretrained(output_path)
        self.processor.save_pretrained(output_path)
        # Older releases of transformers look for the settings of images in a file of their own.
        self.processor.image_processor.save_pretrained(output_path)

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
        trust_remote_code: bool = False,
        model_kwargs: dict[str, Any] | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load the part; the arguments are those of `Module.load` and of the constructor."""
        del trust_remote_code, kwargs
        where = locate(model_name_or_path, subfolder, token, cache_folder, revision, local_files_only)
        where["cache_dir"] = cache_directory(where.pop("cache_folder"))
        path = where.pop("model_name_or_path")
        if Path(path).is_dir():
            where, path = {}, str(Path(path) / subfolder)
        return cls(
            path,
            model_kwargs={**where, **(model_kwargs or {})},
            processor_kwargs={**where, **(processor_kwargs or {})},
            config_kwargs=config_kwargs,
        )


def text_or_image(item: Any) -> tuple[int, Any]:
    """Tell whether an input is a text or an image, and take it out of its dictionary.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(item, dict) and len(item) == 1:
        [(key, value)] = item.items()
        if key in ("text", "image"):
            return (TEXT if key == "text" else IMAGE), value
    if isinstance(item, str):
        return TEXT, item
    # Images of PIL, arrays and tensors; PIL need not be installed for texts.
    if hasattr(item, "convert") or hasattr(item, "__array__"):
        return IMAGE, item
    raise ValueError(
        f"Cannot encode {item!r} of type {type(item).__name__}: unsupported input type. Pass texts, "
        "or images as PIL images, arrays or tensors."
    )


def projected(output: Any) -> Tensor:
    """The embeddings (B, D) in what transformers gives: a tensor, or an output with more than that."""
    return output if isinstance(output, Tensor) else output.pooler_output
