"""Imports inside the package point down only, from the specific to the general.

A room is a folder of `src/sentence_transformers`. `BELOW` names the rooms right below each one; a room may
import those, and whatever lies below them. Every import counts, also one inside a function.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "sentence_transformers"
SOURCE = Path(__file__).resolve().parents[2] / "src" / PACKAGE
FILES = sorted(SOURCE.rglob("*.py"))

BELOW: dict[str, tuple[str, ...]] = {
    # The ground: argument names, arithmetic, files, what can be encoded.
    "arguments": (),
    "tensors": ("arguments",),
    "storage": ("tensors",),
    "inputs": ("storage",),
    # A transformer is run by a backend, which also holds packed attention (docs/decisions/0001).
    "backend": ("inputs",),
    "modules": ("backend",),
    "inference": ("modules",),
    # A card describes a model by its public attributes, so it stands below the models.
    "model_card": ("storage",),
    "encoder": ("inference", "model_card"),
    # Losses, search and evaluation know models through protocols only.
    "losses": ("storage",),
    "search": ("storage",),
    "evaluation": ("search", "inputs", "model_card"),
    "training": ("encoder", "losses", "evaluation"),
    # The kinds, and what is built with them.
    "sentence_transformer": ("training",),
    "cross_encoder": ("training",),
    "sparse_encoder": ("training",),
    "multi_vector_encoder": ("training",),
    "recipes": ("cross_encoder", "sparse_encoder", "multi_vector_encoder", "datasets"),
    "datasets": ("sentence_transformer", "readers"),
    "readers": ("inputs",),
    "on_ray": ("sentence_transformer", "cross_encoder"),
    "serve": ("recipes",),
    "cli": ("serve",),
    # A table of names, which are resolved when they are used.
    "compat": ("storage",),
}

DOOR = "a front door"
"""The files beside the rooms, and each room's `__init__.py`: they only hand names on."""

BETWEEN_KINDS = dict.fromkeys(
    ("cross_encoder", "sparse_encoder", "multi_vector_encoder"), f"{PACKAGE}.sentence_transformer.model"
)
"""A kind imports no other kind, but may build on the class that nearly every program uses."""

LIGHT = {
    "huggingface_hub",
    "numpy",
    "packaging",
    "safetensors",
    "tokenizers",
    "torch",
    "tqdm",
    "typing_extensions",
}
"""What a file may import when it is itself imported; everything else waits until a function needs it."""

SUBCLASSES: dict[str, set[str]] = {
    "cli/app.py": {"typer"},
    "cli/console.py": {"rich"},
    "cli/encode.py": {"typer"},
    "cli/serve.py": {"typer"},
    "cli/train.py": {"typer"},
    "model_card/callbacks.py": {"transformers"},
    "training/arguments.py": {"transformers"},
    "training/fit_callbacks.py": {"transformers"},
    "training/fit_trainer.py": {"transformers"},
    "training/trainer.py": {"transformers"},
    "serve/app.py": {"fastapi", "pydantic_core", "starlette"},
    "serve/messages.py": {"pydantic"},
    "serve/protocol.py": {"uvicorn"},
}
"""Files that only define subclasses of another package's classes, commands of the command line or routes of a
server with it, and are imported only for those."""


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_a_file_imports_only_from_its_own_room_and_the_rooms_below(file):
    room = room_of_file(file)
    assert room == DOOR or room in BELOW, f"{room} is a new room: give it a place in BELOW"
    wrong = [
        f"line {line}: {name}"
        for line, name in imports_within_the_package(file)
        if not may_import(file, room, name)
    ]
    assert not wrong, f"{room} may import {', '.join(sorted(reach(room)))}, and not {'; '.join(wrong)}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_a_file_imports_nothing_heavy_before_it_is_needed(file):
    known = (
        LIGHT
        | {PACKAGE}
        | sys.stdlib_module_names
        | SUBCLASSES.get(file.relative_to(SOURCE).as_posix(), set())
    )
    heavy = [
        f"line {line}: {name}"
        for line, name in imports_when_loaded(ast.parse(file.read_text(encoding="utf-8")))
        if name.partition(".")[0] not in known
    ]
    assert not heavy, f"import these inside the function that needs them: {'; '.join(heavy)}"


def test_no_room_lies_below_itself():
    for room in BELOW:
        assert all(room not in reach(below) for below in BELOW[room]), room


def may_import(file: Path, room: str, name: str) -> bool:
    """Whether a file may import the module of this dotted name."""
    other = room_of_module(name)
    if room == DOOR:
        return True
    if name == f"{PACKAGE}.__version__" or (file.name == "__init__.py" and other == "compat"):
        return True
    return other in reach(room) or BETWEEN_KINDS.get(room) == name


def reach(room: str) -> set[str]:
    """The room itself and every room below it."""
    return {room}.union(*(reach(below) for below in BELOW.get(room, ())))


def room_of_file(file: Path) -> str:
    inside = file.relative_to(SOURCE)
    if len(inside.parts) > 1:
        return inside.parts[0]
    return inside.stem if inside.stem in BELOW else DOOR


def room_of_module(name: str) -> str:
    """The room of a dotted name; the package itself and files beside the rooms are front doors."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in BELOW else DOOR


def imports_within_the_package(file: Path) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of every import of a part of the package."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = absolute_base(file, node)
            # `from sentence_transformers.tensors import similarity` names a module too.
            names = [f"{base}.{alias.name}" if base == PACKAGE else base for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.partition(".")[0] == PACKAGE)


def absolute_base(file: Path, node: ast.ImportFrom) -> str:
    """The module after `from`, with leading dots worked out."""
    if not node.level:
        return node.module or ""
    here = (PACKAGE, *file.relative_to(SOURCE).parts[:-1])
    return ".".join([*here[: len(here) - node.level + 1], *([node.module] if node.module else [])])


def imports_when_loaded(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of the absolute imports that run when the file is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if not node.level:
                yield node.lineno, node.module or ""
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from imports_when_loaded(ast.Module(body=node.orelse, type_ignores=[]))
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from imports_when_loaded(node)
