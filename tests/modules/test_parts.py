"""Parts of any age are saved and loaded with the arguments they know."""

from __future__ import annotations

import pytest
from torch import nn

from sentence_transformers.modules.parts import inside, load_part, save_part


class Older(nn.Module):
    """What a custom part looked like before release 5."""

    def save(self, output_path):
        self.saved = (output_path, {})

    @staticmethod
    def load(input_path):
        return ("older", input_path, {})


class OlderWithMore(nn.Module):
    def save(self, output_path, *args, **kwargs):
        self.saved = (output_path, kwargs)

    @staticmethod
    def load(input_path, trust_remote_code=False, **kwargs):
        return ("more", input_path, {"trust_remote_code": trust_remote_code, **kwargs})


class Newer(nn.Module):
    def save(self, output_path, *args, safe_serialization=True, **kwargs):
        self.saved = (output_path, {"safe_serialization": safe_serialization})

    @classmethod
    def load(cls, model_name_or_path, subfolder="", token=None, **kwargs):
        return ("newer", model_name_or_path, {"subfolder": subfolder, "token": token, **kwargs})


OPTIONS = {"trust_remote_code": True, "model_kwargs": {"x": 1}}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Older, ("older", {})),
        (OlderWithMore, ("more", {"trust_remote_code": True})),
        (Newer, ("newer", {"subfolder": "", "token": None, **OPTIONS})),
    ],
)
def test_load_gets_its_own_folder_and_the_options_it_knows(kind, expected, tmp_path):
    name, folder, options = load_part(kind, tmp_path, OPTIONS)
    assert (name, options) == expected
    assert folder == str(tmp_path)


@pytest.mark.parametrize(
    ("kind", "options"),
    [(Older, {}), (OlderWithMore, {"safe_serialization": False}), (Newer, {"safe_serialization": False})],
)
def test_save_gets_the_format_if_it_knows_of_formats(kind, options, tmp_path):
    part = kind()
    save_part(part, tmp_path, safe_serialization=False)
    assert part.saved == (str(tmp_path), options)


@pytest.mark.parametrize("name", ["", "1_Pooling", "a/b", "a/../b", "."])
def test_folders_below_the_model_s_own_are_found(name, tmp_path):
    assert inside(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize("name", ["..", "../x", "a/../../x", "/etc", "/"])
def test_folders_outside_of_the_model_s_own_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match=r"lies outside of .* is not loaded"):
        inside(tmp_path, name)


def test_a_link_that_leads_outside_is_refused(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="outside of"):
        inside(tmp_path / "model", "link")


@pytest.mark.parametrize("name", [None, 5, ["a"]], ids=repr)
def test_what_is_no_name_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match="as folder of a part"):
        inside(tmp_path, name)
