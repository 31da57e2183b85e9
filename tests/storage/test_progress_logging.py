import logging

import pytest

from sentence_transformers.storage.progress_logging import (
    LoggingHandler,
    disable_logging,
    disabled_tqdm,
    install_logger,
)


@pytest.fixture
def logger():
    logger = logging.getLogger("a_logger_for_these_tests")
    logger.propagate = False
    yield logger
    logger.handlers.clear()


def test_log_lines_are_printed_with_their_format(logger, capsys):
    handler = LoggingHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s|%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.info("a line")
    assert capsys.readouterr().out == "INFO|a line\n"


def test_a_handler_passes_on_nothing_below_its_level(logger, capsys):
    logger.addHandler(LoggingHandler(logging.ERROR))
    logger.warning("not this")
    logger.error("but this")
    assert capsys.readouterr().out == "but this\n"


def test_installing_twice_prints_once(logger, capsys):
    install_logger(logger)
    install_logger(logger, level="INFO", fmt="%(message)s")
    logger.info("a line")
    assert capsys.readouterr().out == "a line\n"


def test_nothing_is_logged_within_the_block_and_again_after_it(logger, capsys):
    logger.addHandler(LoggingHandler())
    with disable_logging():
        logger.critical("not this")
    with disable_logging(logging.WARNING):
        logger.warning("not this either")
        logger.error("but this")
    logger.warning("and this")
    assert capsys.readouterr().out == "but this\nand this\n"


def test_logging_is_back_as_it_was_also_after_an_error():
    before = logging.root.manager.disable
    with pytest.raises(KeyError), disable_logging():
        raise KeyError
    assert logging.root.manager.disable == before


def test_a_disabled_bar_shows_nothing_and_counts_through(capsys):
    assert list(disabled_tqdm(range(3), desc="a bar", disable=False)) == [0, 1, 2]
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
