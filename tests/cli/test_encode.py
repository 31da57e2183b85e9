"""`sentence-transformers encode`, from its arguments to its exit code."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("typer")
pytest.importorskip("rich")

from sentence_transformers import SentenceTransformer, __version__
from sentence_transformers.cli import main
from sentence_transformers.inference.to_disk import load_embeddings, record_of
from sentence_transformers.sentence_transformer.to_disk import Progress
from tiny import sample_texts, tiny_checkpoint

TEXTS = sample_texts()


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return str(tiny_checkpoint("bert", tmp_path_factory.mktemp("bert")))


@pytest.fixture
def lines(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def encode(model_folder, capsys):
    """Runs the command and gives its exit code and what it says."""

    def run(*arguments):
        code = main(["encode", "--model", model_folder, "--device", "cpu", *map(str, arguments)])
        told = capsys.readouterr()
        assert told.out == ""
        return code, told.err

    return run


def test_lines_become_an_array(encode, model_folder, lines, tmp_path):
    code, told = encode(lines, "--out", tmp_path / "out.npy")
    assert code == 0
    assert "50 rows of 32 float32" in told
    assert "tokens/s" in told
    expected = SentenceTransformer(model_folder, device="cpu").encode(TEXTS)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-5)


def test_options_reach_the_model(encode, model_folder, tmp_path):
    records = [{"name": f"id {number}", "body": text} for number, text in enumerate(TEXTS)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    options = [
        "--column",
        "body",
        "--id-column",
        "name",
        "--format",
        "npy",
        "--prompt",
        "query: ",
        "--normalize",
    ]
    options += [
        "--truncate-dim",
        "8",
        "--precision",
        "float16",
        "--batch-size",
        "5",
        "--rows-per-shard",
        "20",
    ]
    code, told = encode(path, "--out", tmp_path / "out.npy", "--quiet", *options)
    assert (code, told) == (0, "")
    found = load_embeddings(tmp_path / "out.npy")
    model = SentenceTransformer(model_folder, device="cpu")
    expected = model.encode(TEXTS, prompt="query: ", normalize_embeddings=True, truncate_dim=8)
    np.testing.assert_allclose(found.embeddings, expected, atol=1e-3)
    assert found.embeddings.dtype == np.float16
    assert found.ids == [record["name"] for record in records]
    assert record_of(tmp_path / "out.npy").windows == 3


def test_standard_input_goes_into_shards(encode, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    data = io.BytesIO("".join(text + "\n" for text in TEXTS).encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(data, encoding="latin-1"))
    assert encode("-", "--out", tmp_path / "out", "--keep-texts")[0] == 0
    assert parquet.read_table(tmp_path / "out").column("text").to_pylist() == TEXTS


def test_int8_takes_its_ranges_from_a_file(encode, lines, tmp_path):
    np.save(tmp_path / "ranges.npy", np.stack([np.full(32, -3.0), np.full(32, 3.0)]))
    options = ["--precision", "int8", "--ranges", tmp_path / "ranges.npy"]
    assert encode(lines, "--out", tmp_path / "out.npy", *options)[0] == 0
    assert np.load(tmp_path / "out.npy").dtype == np.int8


def test_the_same_command_again_says_that_all_is_there(encode, lines, tmp_path):
    encode(lines, "--out", tmp_path / "out.npy")
    code, told = encode(lines, "--out", tmp_path / "out.npy")
    assert code == 0
    assert "50 of them from before" in told


def test_another_command_fails_in_a_sentence_unless_it_may_overwrite(encode, lines, tmp_path):
    encode(lines, "--out", tmp_path / "out.npy")
    code, told = encode(lines, "--out", tmp_path / "out.npy", "--normalize")
    assert code == 1
    assert "normalize_embeddings: False before, True now" in told
    assert "Traceback" not in told
    assert encode(lines, "--out", tmp_path / "out.npy", "--normalize", "--overwrite")[0] == 0
    np.testing.assert_allclose(np.linalg.norm(np.load(tmp_path / "out.npy"), axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["nothing.txt", "--out", "x.npy"], "no file 'nothing.txt'"),
        (["INPUT", "--out", "x.bin"], "does not tell its format"),
        (["INPUT", "--out", "x.npy", "--precision", "int8"], "needs the range of each dimension"),
        (["INPUT", "--out", "x.npy", "--prompt-name", "none"], "'none' not found"),
    ],
)
def test_errors_are_one_sentence(encode, lines, tmp_path, monkeypatch, options, told):
    monkeypatch.chdir(tmp_path)
    code, said = encode(*[lines if option == "INPUT" else option for option in options])
    assert code == 1
    assert said.startswith("Error: ")
    assert told in said


def test_a_traceback_is_shown_when_it_is_asked_for(encode, tmp_path):
    with pytest.raises(ValueError, match="no file"):
        encode("nothing.txt", "--out", tmp_path / "x.npy", "--debug")


@pytest.mark.parametrize(
    "arguments",
    [["encode"], ["encode", "x", "--out", "y"], ["nonsense"], ["encode", "x", "--batch-size", "0"]],
)
def test_wrong_arguments_exit_with_2(arguments):
    assert main(arguments) == 2


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def in_a_new_process(*arguments, **how):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=120, **how
    )


def test_help_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from sentence_transformers.cli import main\n"
        "assert main(['encode', '--help']) == 0\n"
        "heavy = {'torch', 'numpy', 'transformers', 'tokenizers', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    finished = in_a_new_process("-c", code)
    assert finished.returncode == 0, finished.stderr
    assert "--model" in finished.stdout


def test_the_package_can_be_run():
    finished = in_a_new_process("-m", "sentence_transformers", "--version")
    assert (finished.returncode, finished.stdout.strip()) == (0, __version__)


def test_what_is_missing_is_said_with_how_to_install_it():
    code = (
        "import sys\n"
        "from importlib.machinery import PathFinder\n"
        "class Hiding(PathFinder):\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, path=None, target=None):\n"
        "        return None if name == 'typer' else PathFinder.find_spec(name, path, target)\n"
        "sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding\n"
        "from sentence_transformers.cli import main\n"
        "sys.exit(main(['--version']))\n"
    )
    finished = in_a_new_process("-c", code)
    assert finished.returncode == 1
    assert finished.stderr == "The command line needs typer: pip install 'sentence-transformers[cli]'\n"


@pytest.mark.slow
def test_ctrl_c_leaves_a_state_to_go_on_from_and_says_so(encode, model_folder, tmp_path):
    feed, mouth = os.pipe()
    rows = [f"{text} {number}" for number in range(3) for text in TEXTS]
    # Whoever runs the tests in the background may have told them, and so their children, to ignore Ctrl-C.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from sentence_transformers.cli import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "encode", "-", "--model", model_folder]
    command += ["--device", "cpu", "--out", str(tmp_path / "out.npy"), "--rows-per-shard", "40"]
    with subprocess.Popen(command, stdin=feed, stderr=subprocess.PIPE, text=True) as process:
        os.close(feed)
        try:
            # The program waits for further lines, with two windows written, when it is interrupted.
            os.write(mouth, "".join(text + "\n" for text in rows[:90]).encode())
            while (record := record_of(tmp_path / "out.npy")) is None or record.rows < 80:
                assert process.poll() is None, process.stderr.read()
            os.kill(process.pid, signal.SIGINT)
            told = process.communicate(timeout=60)[1]
        finally:
            process.kill()
            os.close(mouth)
    assert process.returncode == 130
    assert "Stopped. 80 rows are safe" in told
    (tmp_path / "rows.txt").write_text("\n".join(rows), encoding="utf-8")
    code, told = encode(tmp_path / "rows.txt", "--out", tmp_path / "out.npy", "--rows-per-shard", "40")
    assert code == 0
    assert "80 of them from before" in told
    expected = SentenceTransformer(model_folder, device="cpu").encode(rows)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-5)


def test_rates_and_the_time_left_are_those_of_this_call():
    from sentence_transformers.cli.console import duration, rates

    progress = Progress(rows=3000, total=6000, resumed_from=1000, tokens=50_000)
    assert rates(progress, 10.0) == "200 texts/s · 5,000 tokens/s · 0:15 left"
    assert rates(Progress(rows=10, total=None, resumed_from=0, tokens=None), 5.0) == "2 texts/s"
    assert rates(Progress(rows=10, total=20, resumed_from=10, tokens=0), 1.0) == ""
    assert duration(3725) == "1:02:05"


def test_a_terminal_shows_the_bar_and_a_file_does_not(monkeypatch, capsys):
    from sentence_transformers.cli.console import EncodingBar

    progress = Progress(rows=30, total=60, resumed_from=0, tokens=500)
    for terminal, shows in (("1", True), ("0", False)):
        monkeypatch.setenv("TTY_COMPATIBLE", terminal)
        with EncodingBar(shown=True) as bar:
            bar.show(progress)
        assert ("30/60" in capsys.readouterr().err) is shows
