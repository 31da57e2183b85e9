"""What a call of encode asks for, checked at the door."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from sentence_transformers.inference.options import (
    DEFAULT_BATCH_SIZE,
    OUTPUT_VALUES,
    PRECISIONS,
    EncodeOptions,
    UnknownOutputError,
    check_truncate_dim,
)


def test_the_default_batch_size_is_32_to_the_eye_and_no_limit_to_the_engine():
    assert DEFAULT_BATCH_SIZE == 32
    assert repr(DEFAULT_BATCH_SIZE) == "32"
    assert EncodeOptions().max_rows is None
    assert EncodeOptions(batch_size=32).max_rows == 32
    assert EncodeOptions(batch_size=np.int64(7)).max_rows == 7


def test_the_default_is_still_the_default_after_a_trip_to_another_process():
    for copied in (pickle.loads(pickle.dumps(DEFAULT_BATCH_SIZE)), copy.deepcopy(DEFAULT_BATCH_SIZE)):
        assert EncodeOptions(batch_size=copied).max_rows is None


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "8", None, True])
def test_a_batch_size_that_encodes_nothing_is_refused(batch_size):
    with pytest.raises(ValueError, match=r"batch_size=.*1 or more"):
        EncodeOptions(batch_size=batch_size)


@pytest.mark.parametrize("truncate_dim", [0, -3, 1.5, "8", True])
def test_a_truncation_that_keeps_nothing_is_refused(truncate_dim):
    with pytest.raises(ValueError, match=r"truncate_dim=.*keeps nothing"):
        EncodeOptions(truncate_dim=truncate_dim)


def test_any_positive_whole_number_is_a_truncation():
    for value in (None, 1, 10**6, np.int32(8)):
        check_truncate_dim(value)


def test_every_output_and_precision_of_the_tables_is_taken():
    for output_value in OUTPUT_VALUES:
        assert EncodeOptions(output_value=output_value).output_value == output_value
    for precision in PRECISIONS:
        assert EncodeOptions(precision=precision).precision == precision


def test_an_unknown_output_is_an_error_of_both_kinds_that_callers_catch():
    with pytest.raises(UnknownOutputError) as caught:
        EncodeOptions(output_value="sentence_embeddings")
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, KeyError)
    assert str(caught.value).startswith("Unknown output_value 'sentence_embeddings'")


def test_an_unknown_precision_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'float16' is not supported.*ubinary"):
        EncodeOptions(precision="float16")
