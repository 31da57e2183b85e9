"""`sentence-transformers train RECIPE`: one command for each recipe, made of the fields of its config.

Only reads arguments; the work is the recipe's `run`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from types import ModuleType
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperGroup

from sentence_transformers.cli.console import INTERRUPTED, plain_errors, terminal
from sentence_transformers.recipes.table import RECIPES, recipe


class RecipeGroup(TyperGroup):
    """The recipes as commands; each module is imported when its command is needed."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(RECIPES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return command_of(cmd_name) if cmd_name in RECIPES else None


train = typer.Typer(cls=RecipeGroup, no_args_is_help=True, rich_markup_mode="rich")


@train.callback()
def about() -> None:
    """Train, shrink or adapt a model by a whole method, and report what came of it.

    A run that was stopped goes on where it was when the same command is given again.
    """


def command_of(name: str) -> Any:
    """The command of one recipe."""
    module = recipe(name)
    app = typer.Typer(
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command(name, help=inspect.getdoc(module.run))(function_of(module))
    command = typer.main.get_command(app)
    command.name = name
    return command


def function_of(module: ModuleType) -> Callable[..., None]:
    """A function that takes the fields of a recipe's config, and runs it."""

    def run(debug: bool, **values: Any) -> None:
        try:
            with plain_errors(debug=debug):
                report = module.run(module.Config(**values))
        except KeyboardInterrupt:
            same = "The same command without --overwrite" if values["overwrite"] else "The same command"
            terminal().print(f"Stopped. {same} goes on from what is in {values['out']}.", markup=False)
            raise SystemExit(INTERRUPTED) from None
        print(report.table())
        terminal().print(f"Everything is in {report.folder}", markup=False)

    run.__signature__ = signature_of(module.Config)  # type: ignore[attr-defined]
    return run


def signature_of(config: type) -> inspect.Signature:
    """The options of a recipe, as typer reads them: those that must be given first."""
    hints = get_type_hints(config)
    parameters = []
    for one in fields(config):
        default = (
            one.default
            if one.default is not MISSING
            else one.default_factory()
            if one.default_factory is not MISSING
            else inspect.Parameter.empty
        )
        parameters.append(
            inspect.Parameter(
                one.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=Annotated[hints[one.name], shown_option(one.name, hints[one.name], one.metadata)],
            )
        )
    parameters.sort(key=lambda parameter: parameter.default is not inspect.Parameter.empty)
    debug = typer.Option("--debug", help="Show the traceback of an error.")
    parameters.append(
        inspect.Parameter(
            "debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, debug]
        )
    )
    return inspect.Signature(parameters)


def shown_option(name: str, kind: Any, metadata: Any) -> Any:
    """How a field is written on the command line; a truth by its name alone, or by its name behind "no"."""
    flag = "--" + name.replace("_", "-")
    names = [f"{flag}/--no-{flag[2:]}"] if kind is bool else [flag]
    return typer.Option(*names, help=metadata["help"])
