"""Finds the device that an encoder runs on."""

import torch

from simcse_lit.errors import UserError


def find_device(name: str) -> torch.device:
    """Return the device with this name. `auto` is a GPU if there is one, else the CPU.

    Raises:
        UserError: this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"device={name}: this machine has no such device. Use device=auto, cpu, cuda, cuda:1 or mps."
        ) from error
    return torch.device(name)
