"""States of a training that a small file makes expensive to read, made on the spot."""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch

from gmsa_models.training.state import TrainingProgress, save_state

Make = Callable[[Path], object]


class Allocated:
    """Becomes a gigabyte of zeros when it is unpickled; torch allows it."""

    def __reduce__(self) -> tuple:
        return bytearray, (1 << 30,)


class Enlarged:
    """A tensor of a gibibyte on a storage of four bytes."""

    def __reduce__(self) -> tuple:
        storage = torch.zeros(1)._typed_storage()
        return torch._utils._rebuild_tensor_v2, (storage, 0, (1 << 28,), (1,), False, OrderedDict())


def holding(value: object) -> Make:
    return lambda path: save_state(path, {"name": "x"}, TrainingProgress(), {"model": value})


def repacked(path: Path) -> None:
    """Its tensors packed by deflate."""
    holding(torch.zeros(1 << 26))(path)
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name, data in parts.items():
            file.writestr(name, data)


STATES: dict[str, tuple[Make, str, str]] = {
    "bytes that are allocated": (holding(Allocated()), "TrainingError", "it names '\\w+ bytearray'"),
    "a tensor larger than its storage": (holding(Enlarged()), "TrainingError", "cannot be read"),
    "packed tensors": (repacked, "TrainingError", "its parts are packed"),
}
