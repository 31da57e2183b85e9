"""A fully connected layer over embeddings."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from sentence_transformers.arguments import accepts_older_names
from sentence_transformers.modules.base import Module, locate

TRUSTED_ACTIVATIONS = ("torch.nn.", "transformers.activations.")
"""Where activation functions may come from without trust in the model's code."""


class Dense(Module):
    """Applies a linear layer and an activation function to each vector.

    Args:
        in_features: Width of the vectors that come in.
        out_features: Width of those that go out.
        bias: Whether the layer has a bias.
        activation_function: Applied to the result; None for none.
        init_weight: Weights to start with, (out_features, in_features).
        init_bias: Bias to start with, (out_features,).
        module_input_name: Entry of the features to read.
        module_output_name: Entry to write; None for the one that is read.
        use_residual: Add the input to the result (through a linear map without bias if the widths differ).
    """

    config_keys: list[str] = [
        "in_features",
        "out_features",
        "bias",
        "activation_function",
        "module_input_name",
        "module_output_name",
        "use_residual",
    ]
    reads_packed: ClassVar[bool] = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        activation_function: Callable[[Tensor], Tensor] | None = nn.Tanh(),  # noqa: B008 (documented default)
        init_weight: Tensor | None = None,
        init_bias: Tensor | None = None,
        module_input_name: str = "sentence_embedding",
        module_output_name: str | None = None,
        use_residual: bool = False,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.bias = bias
        self.activation_function = nn.Identity() if activation_function is None else activation_function
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        self.module_input_name = module_input_name
        self.module_output_name = module_output_name or module_input_name
        self.use_residual = use_residual
        self.residual: nn.Module | None = None
        if use_residual:
            same = in_features == out_features
            self.residual = nn.Identity() if same else nn.Linear(in_features, out_features, bias=False)
        if init_weight is not None:
            self.linear.weight = nn.Parameter(init_weight)
        if init_bias is not None:
            self.linear.bias = nn.Parameter(init_bias)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Replace the entry by the layer's result, (…, out_features)."""
        del kwargs
        vectors = features[self.module_input_name].to(self.linear.weight.dtype)
        result = self.activation_function(self.linear(vectors))
        if self.residual is not None:
            result = result + self.residual(vectors)
        features[self.module_output_name] = result
        return features

    def get_sentence_embedding_dimension(self) -> int:
        """Width of the result."""
        return self.out_features

    get_embedding_dimension = get_sentence_embedding_dimension

    def get_config_dict(self) -> dict[str, Any]:
        """Settings to save; those that only newer releases know, where they are not the usual ones."""
        kind = type(self.activation_function)
        config: dict[str, Any] = {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias,
            "activation_function": f"{kind.__module__}.{kind.__qualname__}",
        }
        if (self.module_input_name, self.module_output_name) != ("sentence_embedding",) * 2:
            config["module_input_name"] = self.module_input_name
            config["module_output_name"] = self.module_output_name
        if self.use_residual:
            config["use_residual"] = True
        return config

    def save(self, output_path: str, safe_serialization: bool = True, *args: Any, **kwargs: Any) -> None:
        """Write settings and weights into a folder.

        Raises:
            ValueError: If the activation function is a plain function, which settings cannot name.
        """
        del args, kwargs
        if not isinstance(self.activation_function, nn.Module):
            raise ValueError(
                f"The activation function {self.activation_function!r} cannot be saved by name. Use the torch module of "
                "it, such as torch.nn.Tanh()."
            )
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

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
        init_defaults: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load settings and weights; see `Module.load`.

        Raises:
            ValueError: If the settings name an activation function from elsewhere than torch and the
                model's code is not trusted.
        """
        del kwargs
        where = locate(model_name_or_path, subfolder, token, cache_folder, revision, local_files_only)
        config = {**(init_defaults or {}), **cls.load_config(**where)}
        config = {key: value for key, value in config.items() if key in cls.config_keys}
        if isinstance(config.get("activation_function"), str):
            config["activation_function"] = activation_named(
                config["activation_function"], trust_remote_code=trust_remote_code
            )
        model = cls(**config)
        return cls.load_torch_weights(**where, model=model)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.get_config_dict()})"


def activation_named(path: str, *, trust_remote_code: bool = False) -> Callable[[Tensor], Tensor]:
    """Make the activation function of an import path such as `torch.nn.modules.activation.Tanh`.

    Raises:
        ValueError: If it is no activation of torch and the model's code is not trusted, or does not exist.
    """
    if not trust_remote_code and not path.startswith(TRUSTED_ACTIVATIONS):
        raise ValueError(
            f"The model's settings name the activation function {path!r}, which is not one of torch's. Importing it "
            "would run code chosen by the model; if you trust the model, pass trust_remote_code=True."
        )
    module, _, name = path.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"The model's settings name the activation function {path!r}: {error}.") from error
    if not trust_remote_code and not (isinstance(kind, type) and issubclass(kind, torch.nn.Module)):
        raise ValueError(
            f"The model's settings name {path!r} as activation function, which is no torch module."
        )
    try:
        return kind()
    except TypeError as error:
        raise ValueError(
            f"The activation function {path!r} that the model's settings name needs arguments: {error}."
        ) from error
