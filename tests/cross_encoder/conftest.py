"""Tiny cross-encoders, made once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cross_encoder_cases import tiny_classifier


@pytest.fixture(scope="session")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Folder of a tiny checkpoint with a head, by family and number of labels; made when first asked for."""
    made: dict[tuple[object, ...], str] = {}

    def folder_of(family: str = "bert", labels: int = 1, **settings: object) -> str:
        key = (family, labels, *settings.items())
        if key not in made:
            folder = tmp_path_factory.mktemp(family)
            made[key] = str(tiny_classifier(family, folder, labels, **settings))
        return made[key]

    return folder_of
