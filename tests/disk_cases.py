"""Rows, vectors without a model, and stops at every step of writing, for the tests of `encode_to`."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import numpy as np

from sentence_transformers.inference.disk_formats import FORMATS
from sentence_transformers.inference.to_disk import write_embeddings
from sentence_transformers.inputs.row_streams import row_stream

WIDTH = 3
EMPTY = np.zeros((0, WIDTH), dtype=np.float32)


class Stop(BaseException):
    """Ends a run where it stands, as a kill does."""


def vectors_of(texts):
    """A vector for each text, which depends on the text alone."""
    digests = [hashlib.sha256(text.encode()).digest()[: 4 * WIDTH] for text in texts]
    return np.array([np.frombuffer(one, dtype=np.uint32) for one in digests], dtype=np.float32)


def compute(windows):
    """What `write_embeddings` asks for, without a model."""
    for window in windows:
        yield vectors_of(window)


def write(path, texts, *, format="npy", ids=None, rows_per_window=4, compute=compute, characters=None, **how):
    """Write the vectors of some texts."""
    stream = row_stream(texts, ids=ids)
    output = FORMATS[format](Path(path), has_ids=stream.has_ids)
    if characters is not None:
        output.usual_characters = characters
    arguments = {"settings": {"ids": stream.has_ids}, "made_with": {}, "empty": EMPTY, **how}
    return write_embeddings(output, stream, compute, rows_per_window=rows_per_window, **arguments)


def contents(folder):
    """Bytes of every file below a folder, by its name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


class Stopper:
    """Stops a run at the n-th time that it waits for the disk or renames or removes a file.

    Args:
        at: Which time, from 0 on.
        when: "before" the step, "after" it, or "torn": before it, and part of what was not yet on the disk is lost.
    """

    def __init__(self, at, when):
        self.left = at
        self.when = when
        self.has_stopped = False
        self.on_disk = {}  # bytes by number of the file

    def install(self, monkeypatch):
        for name in ("fsync", "replace", "unlink"):
            monkeypatch.setattr(os, name, self.stopping(name, getattr(os, name)))

    def stopping(self, name, real):
        def step(*arguments, **others):
            stops = self.left == 0 and not self.has_stopped
            self.left -= 1
            if stops:
                self.has_stopped = True
                if self.when == "after":
                    real(*arguments, **others)
                elif self.when == "torn" and name == "fsync":
                    self.lose_some(arguments[0])
                raise Stop
            if name == "fsync":
                status = os.fstat(arguments[0])
                self.on_disk[status.st_ino] = status.st_size
            return real(*arguments, **others)

        return step

    def lose_some(self, descriptor):
        """Spoil what was written since the last time: half of what was added, or the header."""
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return
        before = self.on_disk.get(status.st_ino, 0)
        if status.st_size > before:
            os.ftruncate(descriptor, (before + status.st_size) // 2)
        else:
            os.pwrite(descriptor, bytes(64), 0)
