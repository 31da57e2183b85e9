"""The commands there are. Each is a function, or a group of them, in a file of its own, which imports heavy things
when it runs.

To add one, write its file and add its line to `COMMANDS`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

COMMANDS: Mapping[str, str] = {
    "encode": "sentence_transformers.cli.encode:encode",
    "serve": "sentence_transformers.cli.serve:serve",
    "train": "sentence_transformers.cli.train:train",
}
"""Where each command, or group of commands, stands, by its name."""


def run(arguments: Sequence[str] | None) -> int:
    """Run the command that the arguments name; gives the exit code."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
        # An error of ours is one sentence; any other is a defect, and its plain traceback says most.
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(root)
    for name, place in COMMANDS.items():
        command = found(place)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    try:
        app(args=list(sys.argv[1:] if arguments is None else arguments), prog_name="sentence-transformers")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def found(place: str) -> Any:
    """The function or group at `module:name`."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def tell_version(asked: bool) -> None:
    """Print the version and stop, if asked to."""
    if asked:
        from sentence_transformers import __version__

        typer.echo(__version__)
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", callback=tell_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Compute embeddings and train models from the command line."""
