"""Every import path of the table in `compat/moved.py` leads to the one object it names."""

import ast
import importlib
import importlib.util
import pickle
import subprocess
import sys
import warnings

import pytest

import sentence_transformers
from sentence_transformers.compat import moved

PATHS = sorted((module, name) for module, names in moved.NAMES.items() for name in names)
FRONT_DOORS = (
    "",
    ".datasets",
    ".models",
    ".quantization",
    ".readers",
    ".sampler",
    ".sentence_transformer",
    ".similarity_functions",
    ".util",
)


def home_of(module, name):
    """The object itself; skips a name whose home is not built yet."""
    home, _, attribute = moved.NAMES[module][name].partition(":")
    if importlib.util.find_spec(home) is None:
        pytest.skip(f"{home} does not exist yet")
    return getattr(importlib.import_module(home), attribute)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("module", "name"), PATHS, ids=lambda value: value)
def test_every_path_gives_the_one_object(module, name):
    expected = home_of(module, name)
    assert getattr(importlib.import_module(module), name) is expected
    scope: dict[str, object] = {}
    exec(f"from {module} import {name}", scope)
    assert scope[name] is expected


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("module", sorted(moved.NAMES))
def test_every_module_lists_its_names(module):
    imported = importlib.import_module(module)
    assert set(moved.NAMES[module]) <= set(imported.__all__)
    assert set(moved.NAMES[module]) <= set(dir(imported))


@pytest.mark.parametrize("door", FRONT_DOORS)
def test_front_doors_say_what_they_do_not_have(door):
    module = importlib.import_module(f"sentence_transformers{door}")
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = module.nonsense
    with pytest.raises(ImportError):
        exec(f"from sentence_transformers{door} import nonsense")


def test_no_module_without_a_file_hides_one_that_has_a_file():
    for name, module in sys.modules.items():
        if name.startswith("sentence_transformers.") and type(module).__name__ == "LazyModule":
            assert not moved.is_file(name)


def test_names_for_type_checkers_are_those_of_the_table():
    source = importlib.util.find_spec("sentence_transformers").loader.get_source("sentence_transformers")
    told = {line.partition(" as ")[2].strip(" ,") for line in source.splitlines() if " as " in line}
    assert told <= set(moved.NAMES["sentence_transformers"])


def test_submodules_are_attributes_of_the_package():
    assert sentence_transformers.util.cos_sim is sentence_transformers.util.similarity.cos_sim
    with warnings.catch_warnings():
        # Told once in a process, perhaps to an earlier test.
        warnings.simplefilter("ignore", DeprecationWarning)
        tokenizer = sentence_transformers.models.tokenizer.WhitespaceTokenizer
    assert tokenizer.__name__ == "WhitespaceTokenizer"
    assert sentence_transformers.base.modules.Module is sentence_transformers.models.Module


def in_a_new_process(code):
    """What a fresh interpreter prints."""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


@pytest.mark.parametrize("module", ["", ".util", ".models", ".quantization", ".sentence_transformer"])
def test_importing_loads_nothing_heavy(module):
    code = (
        f"import sys, sentence_transformers{module}; "
        "print([name for name in ('torch', 'transformers', 'numpy', 'tqdm', 'huggingface_hub', 'tokenizers') "
        "if name in sys.modules])"
    )
    assert in_a_new_process(code) == "[]"


def test_importing_the_package_runs_only_the_table_of_names():
    code = (
        "import sys, sentence_transformers\n"
        "files = {m.__spec__.origin for n, m in sys.modules.items() if n.startswith('sentence_transformers')"
        " and getattr(m, '__spec__', None) is not None and m.__spec__.origin}\n"
        "print(sorted(f.replace('\\\\', '/').split('/sentence_transformers/')[1] for f in files))"
    )
    ran = ast.literal_eval(in_a_new_process(code))
    rooms = {file.split("/")[0] for file in ran}
    assert rooms <= {"__init__.py", "arguments.py", "compat", "storage"}, ran
    assert len(ran) <= 8, ran


def test_the_class_is_found_also_after_the_module_of_its_name_was_imported():
    code = (
        "import sentence_transformers.SentenceTransformer, sys\n"
        "from sentence_transformers import SentenceTransformer\n"
        "print(isinstance(SentenceTransformer, type), "
        "sys.modules['sentence_transformers.SentenceTransformer'].SentenceTransformer is SentenceTransformer)"
    )
    assert in_a_new_process(code) == "True True"


def test_an_old_path_can_be_the_first_import_of_a_process():
    code = "from sentence_transformers.models.Pooling import Pooling; print(Pooling.__module__)"
    assert in_a_new_process(code) == "sentence_transformers.modules.pooling"


def test_pickles_that_name_an_old_path_are_read():
    # As older releases wrote it: module and name of the class, protocol 0.
    pickled = b"csentence_transformers.models.Pooling\nPooling\n."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert pickle.loads(pickled) is sentence_transformers.models.Pooling


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        (
            "sentence_transformers.models.Pooling import Pooling",
            "from sentence_transformers.models import Pooling",
        ),
        (
            "sentence_transformers.SentenceTransformer import SentenceTransformer",
            "from sentence_transformers import SentenceTransformer",
        ),
        (
            "sentence_transformers.models.tokenizer import WhitespaceTokenizer",
            "from sentence_transformers.sentence_transformer.modules.tokenizer import",
        ),
    ],
)
def test_a_moved_module_says_so_once_and_where_it_was_used(line, advice):
    code = (
        "import warnings\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        f"    from {line}\n"
        f"    from {line}\n"
        "ours = [w for w in caught if 'sentence_transformers' in str(w.message)]\n"
        "print(len(ours), ours[0].category.__name__, ours[0].filename, ours[0].message)"
    )
    told = in_a_new_process(code)
    assert told.startswith("1 DeprecationWarning <string>")
    assert advice in told


@pytest.mark.parametrize(
    "module", [name for name in moved.NAMES if not moved.has_moved(name)], ids=lambda name: name
)
def test_documented_modules_give_no_warning(module):
    assert moved.advice_about(module) is None


def test_the_version_is_a_local_one_that_satisfies_what_tools_ask_for():
    from packaging.version import Version

    assert Version(sentence_transformers.__version__) >= Version("6.2.0")
    assert Version(sentence_transformers.__version__) in __import__(
        "packaging.specifiers"
    ).specifiers.SpecifierSet(">=5.0,<7")
