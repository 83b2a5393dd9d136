"""A plain `state_dict` in a file: its tensors, read by another process, and what the file is."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from gmsa_models.checkpoints.header import CheckpointError
from gmsa_models.checkpoints.importing import state_process
from gmsa_models.errors import ContentError

__all__ = ["StateFile", "read_state", "state_in_memory"]

# Processor time, and by the clock; memory beside what torch itself takes: the file, its tensors, and copies of them.
_SECONDS, _BYTES_A_SECOND, _LONGEST_WAIT = 30, 1 << 24, 600
_BYTES_A_BYTE, _ALLOWANCE = 6, 1 << 29
_WRAPPERS = ("module.", "_orig_mod.", "model.")  # of DataParallel, torch.compile and training loops


@dataclass(frozen=True, eq=False)
class StateFile:
    """What a file of weights holds.

    Attributes:
        path: of the file.
        sha256: of its bytes.
        tensors: by name, in the order of the file, without the prefixes that all of them share.
    """

    path: Path
    sha256: str
    tensors: dict[str, Tensor]


def read_state(path: str | Path, key: str | None = None) -> StateFile:
    """The tensors of a file that `torch.save(model.state_dict(), path)` or safetensors wrote.

    Nothing in the file is run; it is read in a process of its own, with limits of memory and time.

    Args:
        path: of the file; the tensors may lie under a usual key, such as "state_dict" or "model".
        key: under which they lie, where there are several sets; see `named_tensors` of `state_process`.

    Raises:
        CheckpointError: no ordinary file, or anything else than one set of dense tensors by name.
    """
    path = Path(path)
    if not os.path.isfile(path):
        what = "a directory, pipe or device" if os.path.exists(path) else "no such file"
        raise CheckpointError(f"{str(path)!r:.300}: {what}; expected a file of weights (.pt, .pth, .safetensors)")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "tensors.safetensors"
        answer = _read_elsewhere(path, target, key or "")
        read = load_file(target)
    tensors = {name: read[name] for name in answer["names"]}
    if not tensors:
        raise CheckpointError(f"{path}: holds no tensors; expected a state_dict")
    return StateFile(path, answer["sha256"], _unwrapped(tensors))


def state_in_memory(contents: Mapping[str, Any], key: str | None = None) -> StateFile:
    """The same of what is there already; its SHA-256 is that of its safetensors.

    Args:
        contents: a `state_dict`, or dictionaries around it, as in a file.
        key: see `read_state`.

    Raises:
        CheckpointError: anything else than one set of dense tensors by name.
    """
    place = Path("the state_dict")
    try:
        tensors = state_process.named_tensors(contents, key)
        dense = [each for each in tensors.values() if each.layout == torch.strided and not each.is_nested]
        size = sum(each.untyped_storage().nbytes() for each in dense)
        copies = {name: each.cpu() for name, each in state_process.dense_copies(tensors, size).items()}
    except ContentError as error:
        raise CheckpointError(f"{place}: {error}") from None
    return StateFile(place, hashlib.sha256(to_bytes(copies)).hexdigest(), _unwrapped(copies))


def _read_elsewhere(path: Path, target: Path, key: str) -> dict[str, Any]:
    """Let another process write the tensors to `target`; the file's SHA-256, and the names in their order."""
    size = path.stat().st_size
    limits = _SECONDS + size // _BYTES_A_SECOND, _BYTES_A_BYTE * size + _ALLOWANCE
    try:
        done = subprocess.run(
            [sys.executable, "-P", state_process.__file__, str(path.absolute()), str(target), *map(str, limits), key],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False,
            timeout=_LONGEST_WAIT, env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise CheckpointError(f"{path}: reading it does not end; damaged, or made by hand") from None
    if done.returncode:
        raise CheckpointError(
            f"{path}: reading its {size} bytes took more than {limits[0]} s or {limits[1]} bytes of memory, or crashed "
            f"(exit code {done.returncode}): damaged, or made by hand"
        )
    answer: dict[str, Any] = json.loads(done.stdout)
    if "wrong" in answer:
        raise CheckpointError(f"{path}: {answer['wrong']}")
    return answer


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same without prefixes that wrappers of a model put before all names."""
    while wrapper := next((each for each in _WRAPPERS if all(name.startswith(each) for name in tensors)), None):
        tensors = {name.removeprefix(wrapper): value for name, value in tensors.items()}
    return tensors
