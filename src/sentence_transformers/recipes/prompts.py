"""Training with prompts: a phrase in front of the texts of a column says what they are.

Su et al. (2023), "One Embedder, Any Task: Instruction-Finetuned Text Embeddings", https://arxiv.org/abs/2212.09741;
Wang et al. (2022), "Text Embeddings by Weakly-Supervised Contrastive Pre-training",
https://arxiv.org/abs/2212.03533, with "query: " and "passage: ". The trained model keeps its prompts, as "query" and
"document".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sentence_transformers.recipes.config import option
from sentence_transformers.recipes.judging import dev_judge, judged, judges
from sentence_transformers.recipes.report import Report
from sentence_transformers.recipes.running import only_run
from sentence_transformers.recipes.supervised import SupervisedConfig, lesson_of
from sentence_transformers.recipes.training import load, trained


@dataclass(kw_only=True)
class Config(SupervisedConfig):
    """What training with prompts is told."""

    prompts: list[str] = option(
        [],
        help='What stands in front of the texts of a column, such as "question=query: "; once for each column.',
    )
    include_prompt: bool = option(True, help="Let the prompt's own tokens count in the pooling.")
    plain: bool = option(False, help="Train without prompts as well, to compare.")

    def __post_init__(self) -> None:
        super().__post_init__()
        wrong = [prompt for prompt in self.prompts if not prompt.partition("=")[2]]
        if wrong or not self.prompts:
            given = f"{wrong[0]!r} is none" if wrong else "None is given"
            raise ValueError(
                f'{given}: a prompt is COLUMN=TEXT. Pass some, such as --prompts "question=query: ".'
            )


def run(config: Config) -> Report:
    """Train with prompts in front of the texts, and judge with and without them."""
    lesson = lesson_of(config)
    by_column = prompts_of(config.prompts, lesson.text_columns)
    all_judges = judges(config.dev, config.test)
    with only_run("prompts", config) as run:

        def prompted(model: Any) -> Any:
            """The model with the prompts of the config."""
            model.prompts, model.default_prompt_name = prompts_by_role(by_column, lesson.text_columns)
            model.set_pooling_include_prompt(config.include_prompt)
            return model

        def bare(model: Any) -> Any:
            """The model as it is without prompts."""
            model.prompts, model.default_prompt_name = {"query": "", "document": ""}, None
            return model

        start = load(config.model, config)
        run.measure("start", lambda: judged(bare(start), all_judges))
        run.measure("start, with prompts", lambda: judged(prompted(start), all_judges))

        def train(name: str, *, with_prompts: bool) -> Any:
            def make() -> tuple[Any, Any, Any]:
                model = load(config.model, config)
                model = prompted(model) if with_prompts else bare(model)
                return model, lesson.columns, lesson.loss(model)

            arguments = {**lesson.arguments, **({"prompts": by_column} if with_prompts else {})}
            judge = dev_judge(all_judges)
            return trained(run, make, config=config, name=name, judge=judge, arguments=arguments)

        if config.plain:
            plain = train("plain", with_prompts=False)
            run.measure("trained without prompts", lambda: judged(plain, all_judges))
        model = train("training", with_prompts=True)
        run.measure("trained with prompts, judged without", lambda: judged(bare(model), all_judges))
        run.measure("trained with prompts", lambda: judged(prompted(model), all_judges))
        return run.finish(prompted(model))


def prompts_of(given: Sequence[str], columns: Sequence[str]) -> dict[str, str]:
    """Prompts by column.

    Raises:
        ValueError: If there is no such column of texts.
    """
    found = {}
    for one in given:
        column, _, prompt = one.partition("=")
        if column not in columns:
            raise ValueError(f"There is no column of texts {column!r}. There are: {', '.join(columns)}.")
        found[column] = prompt
    return found


def prompts_by_role(
    by_column: Mapping[str, str], columns: Sequence[str]
) -> tuple[dict[str, str], str | None]:
    """What a model is to put in front of queries and documents, and the prompt of texts that are neither.

    The first column holds queries, the second one documents. Where both have the same prompt, or there is only one
    column, every text gets it.
    """
    query = by_column.get(columns[0], "")
    document = by_column.get(columns[1], "") if len(columns) > 1 else query
    return {"query": query, "document": document}, "query" if query and query == document else None
