"""Which prompt a text gets. Pure look-up; nothing here touches texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

TASK_PROMPTS: Mapping[str, tuple[str, ...]] = {
    "query": ("query",),
    "document": ("document", "passage", "corpus"),
}
"""Names of the prompts for a task; the first one that is configured is used."""


def choose_prompt(
    prompts: Mapping[str, str],
    *,
    default_prompt_name: str | None,
    prompt: str | None,
    prompt_name: str | None,
) -> str | None:
    """The prompt to put in front of texts, or None.

    `prompt` wins over `prompt_name`, which wins over the default; an empty prompt switches the default off.

    Raises:
        ValueError: If the name that counts is not among the prompts.
    """
    if prompt is not None:
        return prompt or None
    name = prompt_name if prompt_name is not None else default_prompt_name
    if name is None:
        return None
    check_prompt_name("Prompt name", name, prompts)
    return prompts[name] or None


def check_prompt_name(what: str, name: str, prompts: Mapping[str, str]) -> None:
    """Raise `ValueError` unless a prompt of that name is configured."""
    if name not in prompts:
        raise ValueError(
            f"{what} '{name}' not found in the configured prompts dictionary with keys {list(prompts)!r}. "
            "Add it to model.prompts, or pass the text itself as prompt='…'."
        )


def first_configured(prompts: Mapping[str, str], names: Iterable[str]) -> str | None:
    """The first of the names under which a prompt is configured, or None."""
    return next((name for name in names if name in prompts), None)


def prompt_name_of_task(prompts: Mapping[str, str], task: str) -> str | None:
    """The name of a task's prompt, or None if none is configured; one with a text goes before an empty one."""
    names = TASK_PROMPTS[task]
    with_text = {name: text for name, text in prompts.items() if text}
    return first_configured(with_text, names) or first_configured(prompts, names)
