import logging

import pytest

from sentence_transformers.storage.hub_arguments import save_to_hub_args_decorator


@save_to_hub_args_decorator
def save_to_hub(self, repo_id, organization=None, token=None, private=None):
    return repo_id, organization, token, private


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("name",), ("name", None, None, None)),
        (("name", "owner"), ("name", "owner", None, None)),
        (("name", "owner", True), ("name", "owner", None, True)),
    ],
)
def test_calls_by_position_leave_out_the_token(arguments, expected):
    assert save_to_hub(object(), *arguments) == expected


def test_calls_by_keyword_pass_unchanged():
    expected = ("name", None, "secret", True)
    assert save_to_hub(object(), "name", token="secret", private=True) == expected


def test_the_older_keyword_of_the_name_works_and_is_told(caplog):
    with caplog.at_level(logging.WARNING):
        assert save_to_hub(object(), repo_name="name") == ("name", None, None, None)
    assert "repo_id" in caplog.text
