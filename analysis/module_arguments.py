"""What kinds the arguments about a module may have: another one is an error before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from analysis.capture import Adapter
from analysis.errors import RecordError
from analysis.module_sites import Probes

__all__ = ["check_kinds"]


def _is_number(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool | Tensor)


def _is_steps(value: Any) -> bool:
    whole = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
    return isinstance(value, Tensor) and value.dtype in whole


def _is_patterns(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(each, str) for pair in value.items() for each in pair)


# Name of an argument -> whether a value is of its kind, and what is.
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "streams": (_is_patterns, "a dictionary: name -> pattern of module paths"),
    "features": (lambda value: isinstance(value, Mapping), "a dictionary: stream -> array (time steps, dim)"),
    "class_names": (lambda value: not isinstance(value, str), "a list of names, as in class_names=['dog', 'cat']"),
    "adapter": (lambda value: isinstance(value, Adapter), "an object with the methods attention and logits"),
    "clip": (lambda value: hasattr(value, "frame_seconds"), "a ModuleClip"),
    "note": (lambda value: hasattr(value, "attributes"), "a ModelNote"),
    "probes": (lambda value: isinstance(value, Probes), "Probes, as in probes=Probes(16)"),
    "mask": (
        lambda value: isinstance(value, Tensor) and value.dtype == torch.bool and value.ndim == 2,
        "a tensor of booleans (query, key)",
    ),
    "steps": (_is_steps, "a tensor of whole numbers, the time step of each number of the input"),
    "layer": (_is_number, "the number of a layer"),
    "pinned": (_is_number, "the number of a time step"),
}


def check_kinds(**arguments: Any) -> None:
    """Refuse arguments of another kind than `analysis.inspect_module` takes; None is none.

    Args:
        arguments: by their names there.

    Raises:
        RecordError: names the first.
    """
    for name, value in arguments.items():
        fits, expected = _KINDS[name]
        if value is not None and not fits(value):
            raise RecordError(f"{name} is {value!r:.60}; expected {expected}")
