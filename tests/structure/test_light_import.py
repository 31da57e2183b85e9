"""Importing the package costs nothing, and a model loads without the packages that it does not need.

Each test runs a fresh interpreter, since this one has imported everything already.
"""

from __future__ import annotations

import json
import subprocess
import sys

BLOCKED = (
    "accelerate",
    "datasets",
    "faiss",
    "fastapi",
    "matplotlib",
    "nltk",
    "onnxruntime",
    "pandas",
    "peft",
    "PIL",
    "psutil",
    "scipy",
    "sklearn",
    "torchvision",
)

# The packages can then be found neither by an import nor by one who asks whether they are there.
BLOCKING = f"""
import sys
from importlib.machinery import PathFinder

class HidingFinder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.partition(".")[0] in {BLOCKED!r}
        return None if hidden else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = HidingFinder
"""


def run(program: str) -> str:
    """What a program prints in a fresh interpreter."""
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=300
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_importing_the_package_loads_neither_torch_nor_transformers_nor_numpy():
    program = """
import sys
before = set(sys.modules)
import sentence_transformers
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""
    loaded = set(run(program).split())
    assert "sentence_transformers" in loaded
    assert loaded <= {"sentence_transformers", "__future__"} | sys.stdlib_module_names


def test_importing_the_model_class_leaves_transformers_alone():
    program = """
import sys
from sentence_transformers import SentenceTransformer
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
    assert not set(run(program).split()) & {"transformers", "tokenizers", *BLOCKED}


def test_loading_and_encoding_import_no_optional_package(minilm_path):
    program = f"""
import json, sys
from sentence_transformers import SentenceTransformer
model = SentenceTransformer({str(minilm_path)!r}, device="cpu")
embeddings = model.encode(["What causes gout?", "How to prevent a stroke?"])
print(json.dumps([embeddings.shape, sorted({{name.partition(".")[0] for name in sys.modules}})]))
"""
    shape, loaded = json.loads(run(program))
    assert shape == [2, 384]
    # transformers, where it is needed, imports some of these when they are installed: not our doing.
    if "transformers" not in loaded:
        assert not set(loaded) & set(BLOCKED)


def test_a_model_encodes_where_no_optional_package_is_installed(minilm_path):
    program = f"""{BLOCKING}
from sentence_transformers import SentenceTransformer
model = SentenceTransformer({str(minilm_path)!r}, device="cpu")
embeddings = model.encode(["What causes gout?", "Where does gout come from?"])
print(round(float(model.similarity(embeddings[0], embeddings[1])), 4))
"""
    assert 0.5 < float(run(program)) < 1.0


def test_a_plain_checkpoint_encodes_where_no_optional_package_is_installed(tmp_path):
    from tiny import tiny_checkpoint

    folder = tiny_checkpoint("deberta-v2", tmp_path)
    program = f"""{BLOCKING}
from sentence_transformers import SentenceTransformer
model = SentenceTransformer({str(folder)!r}, device="cpu")
print(model.encode(["What causes gout?"]).shape)
"""
    assert "(1, 32)" in run(program)
