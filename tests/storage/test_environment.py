import importlib.util
import logging
import platform

import pytest
import torch

from sentence_transformers.storage.environment import (
    check_package_availability,
    check_version_requirements,
    disable_datasets_caching,
    get_device_name,
    get_installed_version,
    is_accelerate_available,
    is_datasets_available,
    is_training_available,
    suggest_extra_on_exception,
)


def test_the_device_is_one_that_torch_can_use():
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert get_device_name() == expected
    torch.ones(1, device=get_device_name())


def test_a_package_counts_only_if_it_comes_from_its_owner():
    assert check_package_availability("accelerate", "huggingface") == is_accelerate_available()
    assert not check_package_availability("accelerate", "somebody")
    assert not check_package_availability("no_such_package", "huggingface")


def test_training_needs_accelerate_and_datasets():
    for package, is_available in (
        ("accelerate", is_accelerate_available),
        ("datasets", is_datasets_available),
    ):
        assert is_available() == (importlib.util.find_spec(package) is not None)
    assert is_training_available() == (is_accelerate_available() and is_datasets_available())


def test_installed_versions_are_found_under_all_names_of_a_package():
    assert get_installed_version("torch") == get_installed_version("pytorch")
    assert get_installed_version("torch").startswith(torch.__version__.partition("+")[0])
    assert get_installed_version("python") == platform.python_version()
    assert get_installed_version("sentence_transformers") == get_installed_version("sentence-transformers")
    assert get_installed_version("no-such-package") is None


def test_requirements_that_are_met_pass():
    check_version_requirements(None)
    check_version_requirements({"torch": ">=2.0", "python": ">=3.8", "sentence_transformers": ">=6.0"})


def test_requirements_that_are_not_met_are_listed_with_the_command_to_mend_them():
    with pytest.raises(ImportError) as raised:
        check_version_requirements({"torch": ">=99", "numpy": ">=1", "no-such-package": ">=1"}, "my-model")
    message = str(raised.value)
    assert message.startswith("The model 'my-model' requires:")
    assert "torch>=99, but torch==2" in message
    assert "no-such-package>=1, but it is not installed" in message
    assert "numpy" not in message
    assert message.endswith('pip install -U "torch>=99" "no-such-package>=1"')


@pytest.mark.parametrize("requirements", [{"torch": "foo"}, {"torch": 3}, ["torch>=99"]])
def test_requirements_that_cannot_be_understood_are_passed_over_with_a_warning(requirements, caplog):
    with caplog.at_level(logging.WARNING):
        check_version_requirements(requirements, "my-model")
    assert "ignored" in caplog.text


@pytest.mark.parametrize(
    ("error", "command"),
    [
        (
            ModuleNotFoundError("No module named 'PIL'", name="PIL"),
            'pip install -U "sentence-transformers[image]"',
        ),
        (ImportError("This needs the datasets library"), 'pip install -U "sentence-transformers[train]"'),
        (ImportError("Loading needs torchcodec"), "pip install -U torchcodec"),
    ],
)
def test_an_import_error_says_how_to_install_what_is_missing(error, command):
    told = str(error)
    with pytest.raises(type(error)) as raised, suggest_extra_on_exception():
        raise error
    assert raised.value is error
    assert str(raised.value).startswith(told)
    assert str(raised.value).endswith(command)


@pytest.mark.parametrize("error", [ImportError("something else"), ValueError("PIL")])
def test_other_errors_pass_unchanged(error):
    told = str(error)
    with pytest.raises(type(error)) as raised, suggest_extra_on_exception():
        raise error
    assert str(raised.value) == told


@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="needs datasets")
def test_caching_is_off_within_the_block_and_as_before_after_it():
    import datasets

    before = datasets.is_caching_enabled()
    with disable_datasets_caching():
        assert not datasets.is_caching_enabled()
    assert datasets.is_caching_enabled() == before
    datasets.disable_caching()
    try:
        with disable_datasets_caching():
            pass
        assert not datasets.is_caching_enabled()
    finally:
        datasets.enable_caching()
