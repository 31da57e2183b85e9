"""What is known about a model for its card: the facts, kept while it is built, trained and evaluated.

Model kinds derive from `BaseModelCardData` and state what differs: tags, facts, usage. The card data hold
plain values; the model itself is only referred to weakly. How a card looks is written in `card.py`. No
network is used, except by `validate_datasets` when it is told to ask for languages.
"""

from __future__ import annotations

import copy
import json
import re
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar, Literal

from huggingface_hub.repocard_data import CardData
from torch import nn

from sentence_transformers.model_card import dataset_facts
from sentence_transformers.model_card.evaluation_facts import EvaluationResult, evaluation_tables, model_index
from sentence_transformers.model_card.loss_facts import get_losses, loss_citation, loss_settings
from sentence_transformers.model_card.markdown import code_block, format_duration, table
from sentence_transformers.model_card.model_facts import (
    best_effort,
    describe_modules,
    input_limit,
    modality_names,
    token_counter,
)
from sentence_transformers.model_card.versions import get_versions

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
HUB_CACHE_FOLDER = re.compile(r"models--(?P<name>[^/\\]+)[/\\]snapshots[/\\](?P<revision>[0-9a-f]+)")

PLACEHOLDER_ID = "your-name/your-model"

EXAMPLE_TEXTS = [
    "A cat is asleep on the warm windowsill.",
    "The kitten naps in the sun.",
    "Interest rates rose again this spring.",
]

WIDGET_ROWS = 5
LONGEST_WIDGET_TEXT = 1000
LABEL_EXAMPLES = 3


@dataclass(eq=False)
class BaseModelCardData(CardData):
    """Facts for the card of a model of any kind.

    Args:
        language: Language codes of the model, one or several.
        license: Licence of the model, as the hub names it, such as `apache-2.0`.
        model_name: Name to show; made from the base model's when None.
        model_id: Name of the model's hub repository, for the code that loads it.
        train_datasets: What is known about the training data: dictionaries with `name` and `id`, in the
            order of the data sets. The rest is found out when training begins.
        eval_datasets: The same for evaluation data.
        task_name: What the model is for, as the end of a sentence.
        tags: Tags for the hub.
        local_files_only: Never ask the hub.
        generate_widget_examples: Take example inputs for the hub's widget from the training data.
    """

    language: str | list[str] | None = field(default_factory=list)
    license: str | None = None
    model_name: str | None = None
    model_id: str | None = None
    train_datasets: list[dict[str, str]] = field(default_factory=list)
    eval_datasets: list[dict[str, str]] = field(default_factory=list)
    task_name: str | None = "retrieval"
    tags: list[str] = field(
        default_factory=lambda: ["sentence-transformers", "sentence-similarity", "feature-extraction"]
    )
    local_files_only: bool = False
    generate_widget_examples: bool = True

    base_model: str | None = field(default=None, init=False)
    base_model_revision: str | None = field(default=None, init=False)
    non_default_hyperparameters: dict[str, Any] = field(default_factory=dict, init=False)
    all_hyperparameters: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    training_logs: list[dict[str, float]] = field(default_factory=list, init=False, repr=False)
    evaluation_results: list[EvaluationResult] = field(default_factory=list, init=False, repr=False)
    citations: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    widget: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False)
    usage_examples: list[Any] | None = field(default=None, init=False, repr=False)
    usage_examples_display: list[str] | None = field(default=None, init=False, repr=False)
    label_example_list: list[dict[str, str]] = field(default_factory=list, init=False, repr=False)
    similarities: str | None = field(default=None, init=False, repr=False)
    best_model_step: int | None = field(default=None, init=False)
    ir_model: bool | None = field(default=None, init=False)
    training_duration: float | None = field(default=None, init=False)
    evaluation_duration: float = field(default=0.0, init=False)
    save_dir: str | None = field(default=None, init=False)
    pipeline_tag: str | None = field(default="sentence-similarity", init=False)
    library_name: str = field(default="sentence-transformers", init=False)

    code_carbon_callback: Any = field(default=None, init=False, repr=False)
    model_reference: Callable[[], Any] | None = field(default=None, init=False, repr=False)

    model_type: ClassVar[str] = "model"
    """What the kind of model is called in a sentence."""

    input_phrase: ClassVar[str] = "input"
    """What the model takes one of, in a sentence."""

    output_phrase: ClassVar[str] = "an embedding"
    """What the model turns each input into, in a sentence."""

    left_out_of_dict: ClassVar[tuple[str, ...]] = ("code_carbon_callback", "model_reference")

    def __post_init__(self) -> None:
        self.language = as_list(self.language)
        self.tags = as_list(self.tags)
        self.train_datasets = self.validate_datasets(as_list(self.train_datasets))
        self.eval_datasets = self.validate_datasets(as_list(self.eval_datasets))

    def __getstate__(self) -> dict[str, Any]:
        # A copied or unpickled model must not have a card that speaks of the original.
        return {**self.__dict__, **dict.fromkeys(self.left_out_of_dict)}

    # ---- what the model is

    def register_model(self, model: Any) -> None:
        """Speak about this model from now on, and find out its base model."""
        self.model_reference = weakref.ref(model)
        best_effort(self.try_to_set_base_model)

    @property
    def model(self) -> Any:
        """The model spoken about; None when there is none, or it is gone."""
        return None if self.model_reference is None else self.model_reference()

    def set_model_id(self, model_id: str) -> None:
        """Set the name of the model's hub repository."""
        self.model_id = model_id

    def set_base_model(self, model_id: str, revision: str | None = None) -> bool:
        """Set the model that this one was made from.

        Args:
            model_id: A hub name. A folder of the hub's local cache counts as the repository it holds; any
                other folder is ignored, so that no path of this machine ends up in a card.
            revision: Branch, tag or commit.

        Returns:
            Whether the base model is set now.
        """
        cached = HUB_CACHE_FOLDER.search(str(model_id))
        if cached:
            model_id, revision = cached["name"].replace("--", "/"), revision or cached["revision"]
        elif not HUB_NAME.fullmatch(str(model_id)) or Path(model_id).exists():
            return False
        self.base_model, self.base_model_revision = model_id, revision
        return True

    def try_to_set_base_model(self) -> None:
        """Set the base model, when it is unknown, to the checkpoint that the transformer came from."""
        config = getattr(getattr(self.model, "transformers_model", None), "config", None)
        name = getattr(config, "name_or_path", None)
        if self.base_model is None and name:
            self.set_base_model(name, getattr(config, "_commit_hash", None))

    def set_language(self, language: str | list[str]) -> None:
        """Set the model's language codes."""
        self.language = as_list(language)

    def set_license(self, license: str) -> None:
        """Set the model's licence."""
        self.license = license

    def add_tags(self, tags: str | list[str]) -> None:
        """Add tags that are not there yet."""
        self.tags.extend(tag for tag in dict.fromkeys(as_list(tags)) if tag not in self.tags)

    def get_default_model_name(self) -> str:
        """The name to show for a model that was given none."""
        kind = self.model_type if self.model is None else type(self.model).__name__
        return f"{kind} based on {self.base_model}" if self.base_model else kind

    def get_model_specific_metadata(self) -> dict[str, Any]:
        """Facts about the model, by name; those that cannot be found out are left out."""
        model = self.model
        facts = {
            "model_type": self.model_type,
            "model_max_length": best_effort(input_limit, model),
            "supported_modalities": best_effort(modality_names, model),
            "model_string": best_effort(describe_modules, model),
        }
        return {name: value for name, value in facts.items() if value}

    # ---- how it was trained

    def validate_datasets(
        self, dataset_list: list[dict[str, Any]], infer_languages: bool | None = None
    ) -> list[dict[str, Any]]:
        """Bring descriptions of data sets into the form that the card uses.

        Args:
            dataset_list: Dictionaries with `name`, `id` and more; a plain string is taken as a name.
            infer_languages: True asks the hub for the languages of data sets that have an `id`, and takes
                them for the model's when it has none. Nothing is asked with `local_files_only`.

        Returns:
            The descriptions, without entries that are None.
        """
        described = [
            {key: value for key, value in entry.items() if value is not None}
            if isinstance(entry, Mapping)
            else dataset_named(str(entry))
            for entry in dataset_list
        ]
        if infer_languages and not self.local_files_only and not self.language:
            ids = [entry["id"] for entry in described if "id" in entry]
            found = [language for name in ids for language in best_effort(hub_languages, name) or []]
            self.language = list(dict.fromkeys(found))
        return described

    def infer_datasets(self, dataset: Any, dataset_name: str | None = None) -> list[dict[str, str]]:
        """Name, hub id and revision of a data set, or of each in a dictionary, from their own metadata."""
        if isinstance(dataset, Mapping):
            return [entry for name, one in dataset.items() for entry in self.infer_datasets(one, name)]
        origin = dataset_facts.dataset_origin(dataset)
        return [{**origin, "name": dataset_name} if dataset_name else origin]

    def compute_dataset_metrics(
        self,
        dataset: Any,
        dataset_info: dict[str, Any],
        loss: dict[str, nn.Module] | nn.Module | None,
        router_mapping: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """Add to a data set's description its size, columns, statistics, first rows and loss.

        Args:
            dataset: The data set; of one that is streamed nothing is read.
            dataset_info: What is known so far; `name` picks the loss out of several.
            loss: The loss it is used with, or losses by name of the data set.
            router_mapping: Has no effect; lengths do not depend on the route.

        Returns:
            `dataset_info`, completed.
        """
        del router_mapping
        rows = dataset_facts.first_rows(dataset)
        size = dataset_facts.dataset_size(dataset)
        if size is not None:
            dataset_info["size"] = size
        if getattr(dataset, "column_names", None):
            dataset_info["columns"] = list(dataset.column_names)
        if rows:
            count = best_effort(token_counter, self.model)
            dataset_info["stats"] = dataset_facts.column_statistics(rows, count)
            dataset_info["examples"] = dataset_facts.example_rows(rows)
        if isinstance(loss, Mapping):
            loss = loss.get(dataset_info.get("name", ""))
        if loss is not None:
            dataset_info["loss"] = {"name": type(loss).__name__, "settings": loss_settings(loss)}
        return dataset_info

    def extract_dataset_metadata(
        self,
        dataset: Any,
        dataset_metadata: list[dict[str, Any]],
        loss: nn.Module | dict[str, nn.Module],
        dataset_type: Literal["train", "eval"],
        router_mapping: dict[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Describe the data that a model is trained or evaluated on.

        Args:
            dataset: A data set, or data sets by name.
            dataset_metadata: What the user said about them, in the same order; it wins over what is found.
            loss: The loss, or losses by name.
            dataset_type: Which data it is; the size of training data becomes a tag.
            router_mapping: Has no effect.

        Returns:
            One description for each data set.
        """
        del router_mapping
        if dataset is None:
            return dataset_metadata
        datasets = list(dataset.values()) if isinstance(dataset, Mapping) else [dataset]
        found = self.infer_datasets(dataset)
        stated = [*dataset_metadata, *({} for _ in found)]
        described = [
            self.compute_dataset_metrics(one, {**origin, **known}, loss)
            for one, origin, known in zip(datasets, found, stated)
        ]
        if dataset_type == "train":
            total = sum(entry.get("size", 0) for entry in described)
            self.tags = [tag for tag in self.tags if not tag.startswith("dataset_size:")]
            if total:
                self.add_tags(f"dataset_size:{total}")
        return self.validate_datasets(described)

    def set_losses(self, losses: list[nn.Module]) -> None:
        """Note the losses, and those inside them: their names become tags, their papers are cited."""
        for loss in [inner for outer in losses for inner in get_losses(outer)]:
            name = type(loss).__name__
            self.add_tags(f"loss:{name}")
            citation = best_effort(loss_citation, loss)
            if citation:
                self.citations[name] = citation

    def set_best_model_step(self, step: int) -> None:
        """Note the step whose weights the model has; the logs show it in bold."""
        self.best_model_step = step

    def set_widget_examples(self, dataset: Any) -> None:
        """Take example inputs for the widget and for the usage code from the texts of a data set."""
        rows = dataset_facts.example_rows(dataset_facts.first_rows(dataset), WIDGET_ROWS)
        texts_of_rows = [
            list(
                dict.fromkeys(value[:LONGEST_WIDGET_TEXT] for value in row.values() if isinstance(value, str))
            )
            for row in rows
        ]
        texts = list(dict.fromkeys(text for row in texts_of_rows for text in row if text))
        if len(texts) < 3:
            return
        self.usage_examples = texts[:3]
        self.widget = [
            {"source_sentence": row[0], "sentences": [text for text in texts if text != row[0]][:WIDGET_ROWS]}
            for row in texts_of_rows
            if row
        ]

    def set_label_examples(self, dataset: Any) -> None:
        """Take some texts for each value of the data set's label column."""
        rows = dataset_facts.example_rows(dataset_facts.first_rows(dataset), dataset_facts.SAMPLED_ROWS)
        texts_by_label: dict[Any, list[str]] = {}
        for row in rows:
            text = next((value for value in row.values() if isinstance(value, str)), None)
            if text is not None and "label" in row:
                texts_by_label.setdefault(row["label"], []).append(text)
        self.label_example_list = [
            {"Label": str(label), "Examples": "; ".join(texts[:LABEL_EXAMPLES])}
            for label, texts in texts_by_label.items()
        ]

    def add_training_log(self, epoch: float, step: int, values: Mapping[str, float]) -> None:
        """Add values to the row of this step."""
        if not values:
            return
        if not self.training_logs or self.training_logs[-1]["Step"] != step:
            self.training_logs.append({"Epoch": epoch, "Step": step})
        self.training_logs[-1].update(values)

    def set_evaluation_metrics(
        self, evaluator: Any, metrics: dict[str, Any], epoch: int = 0, step: int = 0
    ) -> None:
        """Note what an evaluator measured; later results of the same evaluator replace earlier ones.

        Args:
            evaluator: Its class, `name`, `description` and `primary_metric` are read.
            metrics: Numbers by name.
            epoch: When in training; -1 for outside of it.
            step: The same.
        """
        numbers = {key: value for key, value in metrics.items() if isinstance(value, Real)}
        result = EvaluationResult.of(evaluator, numbers)
        same = (result.evaluator, result.name, tuple(result.metrics))
        self.evaluation_results = [
            other
            for other in self.evaluation_results
            if (other.evaluator, other.name, tuple(other.metrics)) != same
        ] + [result]
        if result.primary_metric in result.metrics and epoch >= 0 and step >= 0:
            label = f"{result.name}_{result.primary_metric}" if result.name else result.primary_metric
            self.add_training_log(epoch, step, {label: result.metrics[result.primary_metric]})

    def try_to_set_ir_model_from_evaluators(self) -> None:
        """Call it a retrieval model when it was evaluated as one, unless that is already settled."""
        if self.ir_model is None and self.evaluation_results:
            self.ir_model = any(result.is_retrieval for result in self.evaluation_results)

    # ---- what the card is made of

    def format_eval_metrics(self) -> dict[str, Any]:
        """Evaluation results: tables under `eval_metrics`, and `metrics` and `model-index` for the hub."""
        results = self.evaluation_results
        return {
            "eval_metrics": evaluation_tables(results),
            "metrics": list(dict.fromkeys(metric for result in results for metric in result.metrics)),
            "model-index": model_index(self.model_name or self.get_default_model_name(), results),
        }

    def format_training_logs(self) -> dict[str, str]:
        """The logs of training as a table, under `eval_lines`."""
        names = list(dict.fromkeys(name for row in self.training_logs for name in row))
        rows = []
        for log in self.training_logs:
            cells = [log.get(name) for name in names]
            if log["Step"] == self.best_model_step:
                cells = [None if value is None else f"**{value:.4g}**" for value in cells]
            rows.append(cells)
        return {"eval_lines": table(names, rows) if rows else ""}

    def get_codecarbon_data(self) -> dict[str, Any]:
        """What codecarbon measured of the training, as the hub's `co2_eq_emissions`; empty without it."""
        tracker = getattr(self.code_carbon_callback, "tracker", None)
        measured = getattr(tracker, "final_emissions_data", None)
        if measured is None:
            return {}
        return {
            "co2_eq_emissions": {
                # codecarbon counts kilograms, the hub grams.
                "emissions": float(measured.emissions) * 1000,
                "energy_consumed": float(measured.energy_consumed),
                "source": "codecarbon",
                "training_type": "fine-tuning",
                "on_cloud": measured.on_cloud == "Y",
                "cpu_model": measured.cpu_model,
                "ram_total_size": measured.ram_total_size,
                "hours_used": round(measured.duration / 3600, 3),
                **({"hardware_used": measured.gpu_model} if measured.gpu_model else {}),
            }
        }

    def get_training_duration_data(self) -> dict[str, str | None]:
        """How long training, and the evaluations in it, took; None for what is not known."""
        training, evaluation = self.training_duration, self.evaluation_duration
        return {
            "training_time": None if training is None else format_duration(training - evaluation),
            "evaluation_time": format_duration(evaluation) if evaluation else None,
            "total_time": None if training is None else format_duration(training),
        }

    def save_usage_example_assets(self) -> None:
        """Save the usage examples that are images below `save_dir`, so that the card can show their names."""
        if self.save_dir is None or not self.usage_examples:
            return
        display = []
        for number, example in enumerate(self.usage_examples):
            if hasattr(example, "save") and hasattr(example, "size"):
                path = Path(self.save_dir) / "assets" / f"image_{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                example.save(path)
                example = f"assets/{path.name}"
            display.append(str(example))
        self.usage_examples_display = display

    def shown_examples(self) -> list[str]:
        """The inputs that the usage code shows."""
        examples = self.usage_examples_display or self.usage_examples or EXAMPLE_TEXTS
        return [str(example) for example in examples]

    def run_usage_snippet(self) -> None:
        """Run the model on the usage examples, so that the usage code can show the result."""

    def generate_usage_snippet(self) -> str:
        """Code that loads the model and uses it, as a Markdown code block."""
        kind = self.model_type if self.model is None else type(self.model).__name__
        name = quoted(self.model_id or PLACEHOLDER_ID)
        return code_block(f"from sentence_transformers import {kind}\n\nmodel = {kind}({name})", "python")

    def hub_metadata(self) -> dict[str, Any]:
        """The entries of the card's front matter, in the order in which they are written."""
        evaluation = self.format_eval_metrics()
        entries = {
            "language": self.language,
            "license": self.license,
            "library_name": self.library_name,
            "pipeline_tag": self.pipeline_tag,
            "tags": self.tags,
            "base_model": self.base_model,
            "datasets": list(dict.fromkeys(entry["id"] for entry in self.train_datasets if "id" in entry)),
            "widget": self.widget,
            "metrics": evaluation["metrics"],
            **self.get_codecarbon_data(),
            "model-index": evaluation["model-index"],
        }
        return {name: value for name, value in entries.items() if value}

    def to_dict(self) -> dict[str, Any]:
        """Everything known, as plain values: this object's fields, and what the card derives from them."""
        self.try_to_set_base_model()
        own = {
            entry.name: copy.deepcopy(getattr(self, entry.name))
            for entry in fields(self)
            if entry.name not in self.left_out_of_dict
        }
        own["model_name"] = self.model_name or self.get_default_model_name()
        return {
            **own,
            **self.hub_metadata(),
            **self.get_model_specific_metadata(),
            **self.format_eval_metrics(),
            **self.format_training_logs(),
            **self.get_training_duration_data(),
            "usage_snippet": self.generate_usage_snippet(),
            "version": get_versions(),
        }

    def to_yaml(self, line_break: str | None = None) -> str:
        """The card's front matter as YAML.

        Args:
            line_break: End of line; None for the system's.
        """
        return CardData(**self.hub_metadata()).to_yaml(line_break=line_break)


def as_list(value: Any) -> list[Any]:
    """None -> [], one value -> [value], several -> a list of them."""
    if value is None:
        return []
    return [value] if isinstance(value, (str, Mapping)) else list(value)


def quoted(text: str) -> str:
    """A text as a Python literal in double quotes."""
    return json.dumps(text, ensure_ascii=False)


def dataset_named(name: str) -> dict[str, str]:
    """A data set that is given by its name alone, which is a hub id when it has an owner."""
    return {"name": name, "id": name} if re.fullmatch(r"[\w.-]+/[\w.-]+", name) else {"name": name}


def hub_languages(dataset_id: str) -> list[str]:
    """Languages that a data set's own card names. Asks the hub."""
    from huggingface_hub import dataset_info

    card = dataset_info(dataset_id).card_data
    return [] if card is None else as_list(card.get("language"))
