"""Replay random numbers: the same dropout masks in a second forward as in the first.

Gradient caching embeds every input twice, and the two must agree. Nothing here knows about models.
"""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Any

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
