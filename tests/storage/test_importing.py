import collections.abc
import functools

import pytest
import torch

from sentence_transformers.storage.importing import (
    fullname,
    import_from_string,
    import_module_class,
    similarity_fct_name,
)
from sentence_transformers.tensors.late_interaction import maxsim
from sentence_transformers.tensors.similarity import cos_sim


class Local:
    def __call__(self, a, b): ...


def test_a_path_gives_the_object_and_the_object_the_path():
    for path, thing in (
        ("torch.nn.modules.activation.Tanh", torch.nn.Tanh),
        ("collections.abc.Sequence", collections.abc.Sequence),
        ("sentence_transformers.tensors.similarity.cos_sim", cos_sim),
    ):
        assert import_from_string(path) is thing
        assert fullname(thing) == path


def test_an_object_has_the_path_of_its_class():
    assert fullname(torch.nn.Tanh()) == "torch.nn.modules.activation.Tanh"
    assert fullname(Local()).endswith("test_importing.Local")
    assert fullname(3) == "int"
    assert fullname(obj=torch.nn.Tanh()) == fullname(o=torch.nn.Tanh())


@pytest.mark.parametrize(
    "path",
    [
        "sentence_transformers.models.Pooling",
        "sentence_transformers.models.Pooling.Pooling",
        "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    ],
)
def test_every_spelling_of_a_module_type_is_understood_without_a_warning(path):
    assert fullname(import_from_string(path)) == "sentence_transformers.modules.pooling.Pooling"


@pytest.mark.parametrize("path", ["Tanh", "torch.nn.Nope", "no_such_module.Nope"])
def test_what_cannot_be_imported_is_an_import_error(path):
    with pytest.raises(ImportError, match=path.split(".")[0]):
        import_from_string(path)


def test_a_model_may_name_our_classes_and_the_caller_any():
    assert import_module_class("sentence_transformers.models.Dense", "some/model").__name__ == "Dense"
    assert import_module_class("torch.nn.Tanh") is torch.nn.Tanh


@pytest.fixture
def model_with_code(tmp_path, monkeypatch):
    """A model folder that carries a class, and a cache for dynamic modules of its own."""
    import transformers.dynamic_module_utils

    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path / "cache")
    folder = tmp_path / "model_with_code"
    folder.mkdir()
    (folder / "carried_code.py").write_text("class Carried:\n    pass\n")
    return str(folder)


def test_code_that_a_model_carries_runs_only_if_it_is_trusted(model_with_code):
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        import_module_class("carried_code.Carried", model_with_code)
    carried = import_module_class("carried_code.Carried", model_with_code, trust_remote_code=True)
    assert carried.__name__ == "Carried"


def test_a_trusted_model_may_name_a_class_of_an_installed_package(model_with_code):
    with pytest.raises(ValueError, match="OrderedDict"):
        import_module_class("collections.OrderedDict", model_with_code)
    found = import_module_class("collections.OrderedDict", model_with_code, trust_remote_code=True)
    assert found is collections.OrderedDict


def test_similarities_are_named_by_function_class_and_fixed_arguments():
    assert similarity_fct_name(cos_sim) == "cos_sim"
    assert similarity_fct_name(torch.nn.CosineSimilarity()) == "CosineSimilarity"
    assert similarity_fct_name(Local) == similarity_fct_name(Local()) == "Local"
    assert (
        similarity_fct_name(functools.partial(maxsim, length_normalize=True))
        == "maxsim(length_normalize=True)"
    )
