"""Write the README of a model.

Each section is a function of the card data that gives Markdown, or nothing when there is nothing to say.
A section that fails is left out. What the facts are stands in `data.py`; nothing here finds them out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sentence_transformers.model_card.data import BaseModelCardData
from sentence_transformers.model_card.markdown import code_block, folded, json_block, table
from sentence_transformers.model_card.model_facts import best_effort
from sentence_transformers.model_card.versions import get_versions

Section = Callable[[BaseModelCardData], str]

FACT_LABELS = {
    "model_type": "Model type",
    "model_max_length": "Maximum input length",
    "output_dimensionality": "Output dimensions",
    "similarity_fn_name": "Similarity function",
    "supported_modalities": "Inputs",
    "num_labels": "Output labels",
}
FACT_UNITS = {"model_max_length": " tokens"}
TOLD_ELSEWHERE = ("model_string",)

ALWAYS_SHOWN = [
    "learning_rate",
    "per_device_train_batch_size",
    "num_train_epochs",
    "warmup_steps",
    "weight_decay",
    "lr_scheduler_type",
    "optim",
    "bf16",
    "fp16",
    "seed",
]
"""Hyperparameters that a reader looks for, also where they have their default."""

ROWS_SHOWN_OPENLY = 20

OWN_PAPER = """@inproceedings{reimers-2019-sentence-bert,
    title = "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks",
    author = "Reimers, Nils and Gurevych, Iryna",
    booktitle = "Proceedings of the 2019 Conference on Empirical Methods in Natural Language Processing",
    month = "11",
    year = "2019",
    publisher = "Association for Computational Linguistics",
    url = "https://arxiv.org/abs/1908.10084",
}"""


def generate_model_card(model: Any) -> str:
    """The README of a model, from its `model_card_data`.

    Args:
        model: A model of any kind.

    Returns:
        YAML front matter and Markdown. Never raises for a fact that cannot be found out, and uses no network.
    """
    card: BaseModelCardData = model.model_card_data
    if card.model is not model:
        card.register_model(model)
    best_effort(card.try_to_set_base_model)
    front_matter = best_effort(card.to_yaml) or "library_name: sentence-transformers\n"
    sections = [best_effort(section, card) for section in SECTIONS]
    return f"---\n{front_matter.rstrip()}\n---\n\n" + "\n\n".join(filter(None, sections)) + "\n"


def introduction(card: BaseModelCardData) -> str:
    origin = "" if card.base_model is None else f", made from {link(card.base_model)}"
    purpose = f" It can be used for {card.task_name}." if card.task_name else ""
    return (
        f"# {card.model_name or card.get_default_model_name()}\n\n"
        f"This is a [Sentence Transformers](https://www.sbert.net) model{origin}. "
        f"It turns each {card.input_phrase} into {card.output_phrase}.{purpose}"
    )


def description(card: BaseModelCardData) -> str:
    facts = card.get_model_specific_metadata()
    lines = [
        f"- **{FACT_LABELS.get(name) or name.replace('_', ' ').capitalize()}:** "
        f"{told(value)}{FACT_UNITS.get(name, '')}"
        for name, value in facts.items()
        if name not in TOLD_ELSEWHERE
    ]
    if card.base_model:
        revision = f" at revision {card.base_model_revision}" if card.base_model_revision else ""
        lines.append(f"- **Base model:** {link(card.base_model)}{revision}")
    data = [
        link(entry["id"], "datasets/") if "id" in entry else entry.get("name")
        for entry in card.train_datasets
    ]
    for label, values in (
        ("Training data", filter(None, data)),
        ("Language", card.language or []),
        ("License", filter(None, [card.license])),
    ):
        text = ", ".join(values)
        if text:
            lines.append(f"- **{label}:** {text}")
    return "## Model\n\n" + "\n".join(lines)


def architecture(card: BaseModelCardData) -> str:
    modules = card.get_model_specific_metadata().get("model_string")
    return f"### Architecture\n\n{code_block(modules)}" if modules else ""


def usage(card: BaseModelCardData) -> str:
    install = code_block("pip install -U sentence-transformers", "bash")
    return f"## Usage\n\n{install}\n\n{card.generate_usage_snippet()}"


def labels(card: BaseModelCardData) -> str:
    rows = [[entry["Label"], entry["Examples"]] for entry in card.label_example_list]
    return "### Labels\n\n" + table(["Label", "Examples"], rows) if rows else ""


def evaluation(card: BaseModelCardData) -> str:
    parts = ["## Evaluation"]
    for entry in card.format_eval_metrics()["eval_metrics"]:
        on = f", data sets: {entry['dataset_names']}" if entry["dataset_names"] else ""
        parts.append(
            f"### {entry['description']}\n\n"
            f"Measured with `{entry['class_name']}`{on}.\n\n{entry['table_lines']}"
        )
    return "\n\n".join(parts) if len(parts) > 1 else ""


def training(card: BaseModelCardData) -> str:
    parts = [
        *(
            dataset_part("Training data", entry)
            for entry in card.train_datasets
            if "size" in entry or "loss" in entry
        ),
        *(
            dataset_part("Evaluation data", entry)
            for entry in card.eval_datasets
            if "size" in entry or "loss" in entry
        ),
        hyperparameters(card),
        logs(card),
        durations(card),
    ]
    text = "\n\n".join(filter(None, parts))
    return f"## Training\n\n{text}" if text else ""


def dataset_part(heading: str, entry: dict[str, Any]) -> str:
    name = entry.get("name") or entry.get("id")
    lines = [f"### {heading}{f': {name}' if name else ''}\n"]
    if "id" in entry:
        revision = f" at revision {entry['revision']}" if "revision" in entry else ""
        lines.append(f"- Source: {link(entry['id'], 'datasets/')}{revision}")
    if "size" in entry:
        lines.append(f"- Rows: {entry['size']:,}")
    if "columns" in entry:
        lines.append("- Columns: " + ", ".join(f"`{column}`" for column in entry["columns"]))
    if "loss" in entry:
        lines.append(f"- Loss: `{entry['loss']['name']}`")
        if entry["loss"]["settings"]:
            lines.append("\n" + json_block(entry["loss"]["settings"]))
    statistics = entry.get("stats")
    if statistics:
        measures = list(dict.fromkeys(name for column in statistics.values() for name in column))
        rows = [[f"`{name}`", *(column.get(m) for m in measures)] for name, column in statistics.items()]
        lines.append("\nOver the first rows:\n\n" + table(["column", *measures], rows))
    examples = entry.get("examples")
    if examples:
        lines.append(
            "\nThe first of them:\n\n" + table(list(examples[0]), [list(row.values()) for row in examples])
        )
    return "\n".join(lines)


def hyperparameters(card: BaseModelCardData) -> str:
    known = card.all_hyperparameters
    shown = {name: known[name] for name in ALWAYS_SHOWN if name in known} | card.non_default_hyperparameters
    lines = "\n".join(f"- `{name}`: {told(value)}" for name, value in shown.items())
    return f"### Hyperparameters\n\n{lines}" if lines else ""


def logs(card: BaseModelCardData) -> str:
    lines = card.format_training_logs()["eval_lines"]
    if not lines:
        return ""
    if card.best_model_step is not None:
        lines += "\n\nIn bold: the step whose weights were kept."
    shown = (
        lines
        if len(card.training_logs) <= ROWS_SHOWN_OPENLY
        else folded(f"{len(card.training_logs)} rows", lines)
    )
    return f"### Logs\n\n{shown}"


def durations(card: BaseModelCardData) -> str:
    names = {"training_time": "Training", "evaluation_time": "Evaluation", "total_time": "Together"}
    known = {names[key]: value for key, value in card.get_training_duration_data().items() if value}
    lines = "\n".join(f"- {name}: {value}" for name, value in known.items())
    return f"### Time taken\n\n{lines}" if lines else ""


def versions(card: BaseModelCardData) -> str:
    return "## Versions\n\n" + "\n".join(f"- {name}: {version}" for name, version in get_versions().items())


def citation(card: BaseModelCardData) -> str:
    papers = [f"### {name}\n\n{code_block(text, 'bibtex')}" for name, text in card.citations.items()]
    own = f"### Sentence Transformers\n\n{code_block(OWN_PAPER, 'bibtex')}"
    return "\n\n".join(["## Citation", own, *papers])


SECTIONS: tuple[Section, ...] = (
    introduction,
    description,
    architecture,
    usage,
    labels,
    evaluation,
    training,
    versions,
    citation,
)
"""The sections of a card, in order."""


def link(name: str, folder: str = "") -> str:
    return f"[{name}](https://huggingface.co/{folder}{name})"


def told(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
