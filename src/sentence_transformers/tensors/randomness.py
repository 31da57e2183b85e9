"""Replay random numbers: the same dropout masks in a second forward, the same order of data in a resumed training.

Gradient caching embeds every input twice, and the two must agree: that is torch's randomness alone. The order
of data may come from Python, numpy or torch. Nothing here knows about models.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor


class RandomState:
    """The state of torch's random number generators now, to come back to later.

    `with state:` runs its block with the generators as they were when the object was made, and afterwards
    puts them where they were before the block; it may be used any number of times.

    Args:
        *tensors: Tensors of the computation; beside the CPU, the devices they are on are covered.
    """

    def __init__(self, *tensors: Tensor) -> None:
        devices = {tensor.device for tensor in tensors if tensor.device.type not in ("cpu", "meta")}
        self.devices = sorted(devices, key=str)
        self.cpu_state = torch.get_rng_state()
        self.device_states = [read_state(device) for device in self.devices]
        self._running: list[ExitStack] = []

    def __enter__(self) -> RandomState:
        stack = ExitStack()
        stack.callback(torch.set_rng_state, torch.get_rng_state())
        for device in self.devices:
            stack.callback(write_state, device, read_state(device))
        self._running.append(stack)
        torch.set_rng_state(self.cpu_state)
        for device, state in zip(self.devices, self.device_states, strict=True):
            write_state(device, state)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.pop().close()


def read_state(device: torch.device) -> Tensor:
    """State of an accelerator's generator."""
    module: Any = getattr(torch, device.type)
    # There is only one MPS device, so its functions take none.
    return module.get_rng_state() if device.type == "mps" else module.get_rng_state(device)


def write_state(device: torch.device, state: Tensor) -> None:
    """Put an accelerator's generator into a state."""
    module: Any = getattr(torch, device.type)
    module.set_rng_state(state) if device.type == "mps" else module.set_rng_state(state, device)


def global_state() -> dict[str, Any]:
    """The state of the global generators of Python, numpy and torch, in plain values that `torch.save` takes."""
    name, keys, *rest = np.random.get_state()
    state = {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.array(keys, dtype=np.int64)), *rest),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_global_state(state: Mapping[str, Any]) -> None:
    """Put the global generators into a state that `global_state` gave."""
    name, keys, *rest = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    # A checkpoint may have been written on a machine with another number of devices.
    if torch.cuda.is_available() and len(state.get("cuda", ())) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


@contextmanager
def global_state_kept() -> Iterator[None]:
    """After the block, random numbers go on as if it had drawn none."""
    state = global_state()
    try:
        yield
    finally:
        set_global_state(state)
