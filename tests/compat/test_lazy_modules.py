import importlib
import inspect
import pickle
import sys
import warnings

import pytest

from sentence_transformers.compat.lazy_modules import LazyModule, resolve


@pytest.fixture
def lazy():
    """A package `lazy_for_test` whose names live in `collections` and `json`."""
    homes = {"Ordered": "collections:OrderedDict", "dumps": "json:dumps"}
    module = LazyModule("lazy_for_test", homes, is_package=True, advice="Write it otherwise.")
    sys.modules["lazy_for_test"] = module
    yield module
    del sys.modules["lazy_for_test"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_name_is_looked_up_at_its_home_and_kept(lazy):
    from collections import OrderedDict

    assert "Ordered" not in vars(lazy)
    assert lazy.Ordered is OrderedDict
    assert vars(lazy)["Ordered"] is OrderedDict


def test_advice_is_given_once_and_only_for_names_that_exist(lazy):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not hasattr(lazy, "nonsense")
        assert not hasattr(lazy, "__wrapped__")
    with pytest.warns(DeprecationWarning, match="otherwise") as told:
        _ = lazy.dumps
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _ = lazy.Ordered


def test_tools_that_look_at_every_module_wake_none(lazy):
    inspect.getmodule(inspect.currentframe())
    assert not hasattr(lazy, "__warningregistry__")
    assert "Ordered" not in vars(lazy)
    assert {"Ordered", "dumps"} <= set(dir(lazy))


def test_it_imports_like_a_module(lazy):
    assert importlib.import_module("lazy_for_test") is lazy
    assert importlib.util.find_spec("lazy_for_test").name == "lazy_for_test"
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("lazy_for_test.below")
    assert pickle.loads(pickle.dumps(lazy)) is lazy


def test_a_home_that_does_not_exist_is_an_import_error(lazy):
    with pytest.raises(ModuleNotFoundError, match="no_such_home"):
        resolve("lazy_for_test", "gone", {"gone": "no_such_home:gone"})


def test_a_folder_without_a_package_file_is_no_submodule(tmp_path, monkeypatch):
    for folder in ("package_for_test/bare", "package_for_test/real"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "package_for_test/__init__.py").touch()
    (tmp_path / "package_for_test/real/__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("package_for_test")
    assert inspect.ismodule(resolve("package_for_test", "real", {}))
    # Python itself takes every folder for a package.
    with pytest.raises(AttributeError, match="'bare'"):
        resolve("package_for_test", "bare", {})
