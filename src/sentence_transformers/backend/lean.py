"""A checkpoint opened without transformers.

Importing transformers' modelling code takes longer than everything else between the start of a process and
its first embedding. For the families that `bert.py` computes, the weights file and `config.json` say all
that is needed, so a model can be opened without it: `LeanEncoder`, and `LeanClassifier` with a head, have the
same parameters under the same names, and `grown` turns them into the real transformers model, sharing those
parameters, as soon as anybody asks for that. Anything unusual about a checkpoint, and it is not opened this way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from sentence_transformers.backend.activations import ACTIVATIONS
from sentence_transformers.backend.bert import FAMILIES, Family
from sentence_transformers.backend.int8 import Int8Linear
from sentence_transformers.backend.int8_checkpoint import SCALE, is_int8
from sentence_transformers.storage.folder import SAFETENSORS, read_json, read_weights

CLASSES: dict[str, str] = {
    "bert": "bert.modeling_bert.BertModel",
    "roberta": "roberta.modeling_roberta.RobertaModel",
    "xlm-roberta": "xlm_roberta.modeling_xlm_roberta.XLMRobertaModel",
    "camembert": "camembert.modeling_camembert.CamembertModel",
    "mpnet": "mpnet.modeling_mpnet.MPNetModel",
}
"""The class transformers gives a checkpoint of each model type, by its path below `transformers.models`."""

CLASSIFIERS: dict[str, tuple[str, str]] = {
    "bert": ("bert.modeling_bert.BertForSequenceClassification", "bert"),
    "roberta": ("roberta.modeling_roberta.RobertaForSequenceClassification", "roberta"),
    "xlm-roberta": ("xlm_roberta.modeling_xlm_roberta.XLMRobertaForSequenceClassification", "roberta"),
    "camembert": ("camembert.modeling_camembert.CamembertForSequenceClassification", "roberta"),
    "mpnet": ("mpnet.modeling_mpnet.MPNetForSequenceClassification", "mpnet"),
}
"""The same with a head for sequence classification, and the name under which it holds its encoder."""

CLASSIFICATION = "sequence-classification"

NEEDED_SETTINGS = (
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "layer_norm_eps",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "pad_token_id",
    "vocab_size",
)
"""What `config.json` has to say itself: nothing here knows transformers' defaults."""

UNUSUAL_SETTINGS = ("auto_map", "adapters", "pruned_heads", "chunk_size_feed_forward")
"""Settings with which a checkpoint is left to transformers."""

EMBEDDING_TABLES = (
    "word_embeddings",
    "position_embeddings",
    "token_type_embeddings",
    "relative_attention_bias",
)


class LeanModel(nn.Module):
    """A model's parameters under transformers' names, with the configuration as plain values.

    Args:
        settings: Contents of `config.json`.
        state: Tensors by name.
        name: Where the checkpoint came from.
        **inside: Models that it holds, before its own layers.
    """

    class_path: str

    def __init__(
        self, settings: Mapping[str, Any], state: Mapping[str, Tensor], name: str, **inside: nn.Module
    ) -> None:
        super().__init__()
        self.settings = dict(settings)
        self.name = name
        self.config = SimpleNamespace(
            **{
                "type_vocab_size": 0,
                **settings,
                "num_labels": label_count(settings),
                "_attn_implementation": "sdpa",
                "output_hidden_states": False,
            }
        )
        for place, model in inside.items():
            self.add_module(place, model)
        for path in dict.fromkeys(key.rpartition(".")[0] for key in state):
            put(self, path, layer_of(path, state, float(settings["layer_norm_eps"])))
        self.eval()

    @property
    def class_name(self) -> str:
        """Name of the transformers class this stands for."""
        return self.class_path.rpartition(".")[2]

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


class LeanEncoder(LeanModel):
    """An encoder."""

    def __init__(self, settings: Mapping[str, Any], state: Mapping[str, Tensor], name: str) -> None:
        self.class_path = CLASSES[settings["model_type"]]
        super().__init__(settings, state, name)


class LeanClassifier(LeanModel):
    """An encoder with a head for sequence classification, which `heads.py` computes."""

    def __init__(self, settings: Mapping[str, Any], state: Mapping[str, Tensor], name: str) -> None:
        self.class_path, self.base_model_prefix = CLASSIFIERS[settings["model_type"]]
        start = f"{self.base_model_prefix}."
        inner = {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}
        outer = {key: value for key, value in state.items() if not key.startswith(start)}
        super().__init__(
            settings, outer, name, **{self.base_model_prefix: LeanEncoder(settings, inner, name)}
        )

    @property
    def base_model(self) -> Any:
        """The encoder."""
        return self.get_submodule(self.base_model_prefix)


def label_count(settings: Mapping[str, Any]) -> int:
    """Labels of a head for sequence classification, by the contents of `config.json`."""
    return len(settings.get("id2label") or ()) or int(settings.get("num_labels") or 2)


def layer_of(path: str, state: Mapping[str, Tensor], epsilon: float) -> nn.Module:
    """The layer a weight (and its bias) belongs to, told by its name and shape, using those very tensors."""
    weight, bias = state[f"{path}.weight"], state.get(f"{path}.bias")
    kind: type[nn.Module]
    if weight.ndim == 1:
        kind, facts = (
            nn.LayerNorm,
            {"normalized_shape": weight.shape, "eps": epsilon, "elementwise_affine": True},
        )
    elif path.rpartition(".")[2] in EMBEDDING_TABLES:
        kind, facts = nn.Embedding, dict.fromkeys(("padding_idx", "max_norm"))
        facts |= {"num_embeddings": weight.shape[0], "embedding_dim": weight.shape[1]}
        facts |= {"norm_type": 2.0, "scale_grad_by_freq": False, "sparse": False}
    else:
        kind, facts = nn.Linear, {"in_features": weight.shape[1], "out_features": weight.shape[0]}
    # The constructors would draw random weights first, from everybody's random numbers.
    if weight.dtype == torch.int8:
        return Int8Linear(weight, state[f"{path}.{SCALE}"], bias)
    layer: Any = object.__new__(kind)
    nn.Module.__init__(layer)
    for name, fact in facts.items():
        setattr(layer, name, fact)
    layer.weight = nn.Parameter(weight)
    if kind is not nn.Embedding:
        layer.register_parameter("bias", None if bias is None else nn.Parameter(bias))
    return layer


def put(root: nn.Module, path: str, layer: nn.Module) -> None:
    """Put a layer at a dotted path, making the containers on the way."""
    *containers, last = path.split(".")
    place = root
    for number, name in enumerate(containers):
        if name not in place._modules:
            below = (containers + [last])[number + 1]
            place.add_module(name, nn.ModuleList() if below.isdigit() else nn.Module())
        place = place.get_submodule(name)
    place.add_module(last, layer)


def open_lean(folder: Path, task: str = "feature-extraction") -> LeanModel | None:
    """Open a checkpoint without transformers; None if anything about it calls for transformers.

    Args:
        folder: The checkpoint.
        task: What it is opened for: "feature-extraction" or "sequence-classification".
    """
    has_head = task == CLASSIFICATION
    weights = folder / SAFETENSORS
    if not weights.is_file() or (folder / "adapter_config.json").exists():
        return None
    settings = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    if not is_usual(settings, has_head):
        return None
    state = {
        name: tensor
        for name, tensor in read_weights(folder).items()
        if not name.endswith("embeddings.position_ids")
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items() if name.rpartition(".")[2] != SCALE}
    if shapes != expected_shapes(settings, has_head):
        return None
    if not all(
        tensor.dtype == torch.float32 or is_int8_weight(name, state) for name, tensor in state.items()
    ):
        return None
    return (LeanClassifier if has_head else LeanEncoder)(settings, state, str(folder))


def is_int8_weight(name: str, state: Mapping[str, Tensor]) -> bool:
    """Whether a tensor is the weight of a layer in eight bits, with its steps beside it."""
    scale = state.get(f"{name.removesuffix('.weight')}.{SCALE}")
    return (
        state[name].dtype == torch.int8
        and scale is not None
        and scale.shape == (len(state[name]), 1)
        and scale.dtype == torch.float32
    )


def is_usual(settings: Any, has_head: bool) -> bool:
    """Whether a `config.json` describes nothing but a plain encoder of a known family, and completely.

    Args:
        settings: Its contents.
        has_head: Whether there has to be a head for sequence classification, which otherwise must not be.
    """
    return (
        isinstance(settings, dict)
        and settings.get("model_type") in CLASSES
        and all(settings.get(name) is not None for name in NEEDED_SETTINGS)
        and not any(settings.get(name) for name in UNUSUAL_SETTINGS)
        and (not settings.get("quantization_config") or is_int8(settings["quantization_config"]))
        and settings["hidden_act"] in ACTIVATIONS
        and settings.get("position_embedding_type", "absolute") == "absolute"
        and not settings.get("is_decoder")
        and not settings.get("add_cross_attention")
        and not settings.get("output_hidden_states")
        and not settings.get("output_attentions")
        and settings.get("torch_dtype", "float32") in ("float32", None)
        and settings.get("dtype", "float32") in ("float32", None)
        and (settings.get("architectures") or [None])[0] == class_of(settings, has_head).rpartition(".")[2]
    )


def class_of(settings: Mapping[str, Any], has_head: bool) -> str:
    """Path of the transformers class of a checkpoint."""
    kind = settings["model_type"]
    return CLASSIFIERS[kind][0] if has_head else CLASSES[kind]


def expected_shapes(settings: Mapping[str, Any], has_head: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors of a complete checkpoint with this configuration."""
    is_bert = settings["model_type"] == "bert"
    if not has_head:
        return encoder_shapes(settings, has_pooler=True)
    prefix = CLASSIFIERS[settings["model_type"]][1]
    shapes = {
        f"{prefix}.{name}": shape for name, shape in encoder_shapes(settings, has_pooler=is_bert).items()
    }
    width, last = settings["hidden_size"], "classifier" if is_bert else "classifier.out_proj"
    if not is_bert:
        shapes |= {"classifier.dense.weight": (width, width), "classifier.dense.bias": (width,)}
    labels = label_count(settings)
    return shapes | {f"{last}.weight": (labels, width), f"{last}.bias": (labels,)}


def encoder_shapes(settings: Mapping[str, Any], *, has_pooler: bool) -> dict[str, tuple[int, ...]]:
    """The same of an encoder alone."""
    width, inner = settings["hidden_size"], settings["intermediate_size"]
    family = FAMILIES[CLASSES[settings["model_type"]]]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (settings["vocab_size"], width),
        "embeddings.position_embeddings.weight": (settings["max_position_embeddings"], width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
    }
    if has_pooler:
        shapes |= {"pooler.dense.weight": (width, width), "pooler.dense.bias": (width,)}
    if settings["model_type"] == "mpnet":
        buckets = settings.get("relative_attention_num_buckets", 32)
        shapes["encoder.relative_attention_bias.weight"] = (buckets, settings["num_attention_heads"])
    else:
        shapes["embeddings.token_type_embeddings.weight"] = (settings.get("type_vocab_size", 0), width)
    for number in range(settings["num_hidden_layers"]):
        for part, shape in layer_shapes(family, width, inner):
            shapes[f"{family.layers}.{number}.{part}.weight"] = shape
            shapes[f"{family.layers}.{number}.{part}.bias"] = shape[:1]
    return shapes


def layer_shapes(family: Family, width: int, inner: int) -> list[tuple[str, tuple[int, ...]]]:
    """Shape of the weight of each part of a layer."""
    square = (family.query, family.key, family.value, family.attended)
    norms = (family.attended_norm, family.narrowed_norm)
    return [
        *((part, (width, width)) for part in square),
        *((part, (width,)) for part in norms),
        (family.widened, (inner, width)),
        (family.narrowed, (width, inner)),
    ]


BUILT = (LeanEncoder, LeanClassifier, nn.Module, nn.ModuleList, nn.Linear, nn.LayerNorm, nn.Embedding)
"""What a lean model is made of, as long as nobody puts anything else into it."""

HOOKS = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_pre_hooks",
    "_backward_hooks",
    "_is_full_backward_hook",
)
"""Where modules keep what is to be called."""


def grown(lean: LeanModel) -> Any:
    """The transformers model a lean one stands for, with the very same parameters.

    Needs no file of the checkpoint, which may have gone since. What somebody put into the lean model in
    the meantime (another layer in place of one, a hook) is in the transformers model too.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification
    from transformers.initialization import no_init_weights

    settings = json.loads(json.dumps(lean.settings))
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    config._name_or_path = lean.name
    with torch.random.fork_rng(devices=[]), no_init_weights():
        kind: Any = AutoModelForSequenceClassification if isinstance(lean, LeanClassifier) else AutoModel
        model = kind.from_config(config)
    model.to(lean.device)
    hand_over(lean, model)
    model.name_or_path = lean.name
    return model.train(lean.training)


def hand_over(lean: nn.Module, model: nn.Module) -> None:
    """Give a transformers module the parameters and hooks of the lean one that stands for it."""
    for name in HOOKS:
        setattr(model, name, getattr(lean, name))
    for name, parameter in lean._parameters.items():
        setattr(model, name, parameter)
    for name, child in list(model._modules.items()):
        if name not in lean._modules and child is not None and any(True for _ in child.parameters()):
            # Somebody took it out of the lean model; what is here has never got any weights.
            if isinstance(model, nn.ModuleList):
                del model._modules[name]
            else:
                setattr(model, name, None)
    for name, part in lean._modules.items():
        if type(part) in BUILT and name in model._modules:
            hand_over(part, model.get_submodule(name))
        else:
            setattr(model, name, part)
