"""What the workers of a test's pool do: as they are told by the texts they are given.

A file of its own, because the processes of a pool import it by name.
"""

from __future__ import annotations

import os
import struct
import time
from typing import Any

import torch

from sentence_transformers.inference.workers import serve


class Unpicklable:
    """A result that cannot be sent."""

    def __reduce__(self) -> Any:
        raise TypeError("this cannot be pickled")


def obey(device: str, model: Any, inputs: Any, outputs: Any) -> None:
    """Serve chunks; a chunk that is one of the words below does what it says."""
    del device, model

    def write_half_a_result_and_die() -> None:
        os.write(outputs._writer.fileno(), struct.pack("!i", 1_000_000) + b"only this much")
        os._exit(9)

    orders = {
        "exit": lambda: os._exit(3),
        "half": write_half_a_result_and_die,
        "sleep": lambda: time.sleep(600),
        "raise": lambda: int("no number"),
        "unpicklable": Unpicklable,
    }

    def work(chunk: list[Any], options: dict[str, Any]) -> Any:
        time.sleep(options.get("seconds", 0))
        if chunk[0] in orders:
            return orders[chunk[0]]()
        # One small tensor for each input: sent as they are, each would need an open file.
        return [torch.tensor([len(text), os.getpid()]) for text in chunk]

    serve(work, inputs, outputs)
