"""Versions of the installed packages."""

from __future__ import annotations

import platform
import subprocess
import sys

import torch

from sentence_transformers.model_card.versions import get_versions


def test_versions_are_those_that_the_packages_name_themselves():
    versions = get_versions()
    assert versions["python"] == platform.python_version()
    assert versions["torch"] == torch.__version__
    assert next(iter(versions)) == "python"


def test_asking_for_versions_and_card_data_imports_no_heavy_package():
    program = (
        "import sys; from sentence_transformers.model_card.versions import get_versions; get_versions();"
        "import sentence_transformers.model_card.sentence_transformer, sentence_transformers.model_card.card;"
        "print(*({'transformers', 'datasets', 'accelerate', 'pandas', 'scipy', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
