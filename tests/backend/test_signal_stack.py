"""Whoever opens and frees graphs of OpenVINO keeps a process that outlives its children."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signal stacks are looked at on Linux")

PROGRAM = """
    import faulthandler, gc, signal, subprocess, sys

    faulthandler.enable()  # which gives the process a signal stack
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.backend.signal_stack import signal_stack

    def place():
        return signal_stack().start, signal_stack().size

    before = place()
    models = [SentenceTransformer(sys.argv[1], backend="openvino", device="cpu") for _ in range(3)]
    for model in models:
        model.encode(["a text", "another one"])
    assert place() == before, "changed by opening"
    while models:
        models.pop(0)  # the first one first
        del model
        gc.collect()
        model = None
        assert place() == before, "changed by closing"
    signal.signal(signal.SIGCHLD, lambda *ignored: print("a child ended", flush=True))
    subprocess.run([sys.executable, "-c", ""], check=True)
    print("still here")
"""


def test_a_signal_finds_its_stack_after_graphs_were_freed_in_any_order(graph_folders):
    pytest.importorskip("openvino")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(graph_folders["openvino"])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "a child ended\nstill here\n"), done.stderr
