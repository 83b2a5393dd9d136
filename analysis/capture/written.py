"""WrittenMaps: maps that a module wrote into a part of another tensor, head by head say, known again by its storage."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.capture.followed import FollowedMap, merged

__all__ = ["WrittenMaps"]


@dataclass(frozen=True)
class _Stored:
    """What was written into a storage: of what, and how its axis of keys lies there (None: not known)."""

    known: FollowedMap
    stride: int | None
    size: int


class WrittenMaps:
    """What was written into storages, as long as they live: each view of one has it, also those made before."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[torch.UntypedStorage], _Stored]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, tensor: Tensor) -> bool:
        return bool(self._entries) and self._stored(tensor) is not None

    def write(self, target: Tensor, known: FollowedMap, function: str) -> None:
        """Take note of a map that was written into a tensor.

        Args:
            target: it.
            known: of what is in it now.
            function: that wrote.
        """
        if target.layout != torch.strided or not target.ndim:
            return
        stride, size = (None, 0) if known.key is None else (target.stride(known.key), target.shape[known.key])
        before = self._stored(target)
        if before is not None:
            same = (before.stride, before.size) == (stride, size)
            stride = stride if same else None
        all_known = [known] if before is None else [before.known, known]
        whole = FollowedMap(
            merged(each.softmaxes for each in all_known),
            None,
            dropout=max(each.dropout for each in all_known),
            between=merged((*(each.between for each in all_known), (function,))),
            uses=merged(each.uses for each in all_known),
            reordered=merged((*(each.reordered for each in all_known), (function,))),
            stored=True,
        )
        storage, entries = target.untyped_storage(), self._entries
        number = id(storage)
        entries[number] = weakref.ref(storage, lambda _: entries.pop(number, None)), _Stored(whole, stride, size)

    def known(self, tensor: Tensor) -> FollowedMap | None:
        """What is known of a tensor by its storage; its keys are the axis that lies as what was written did."""
        stored = self._stored(tensor)
        if stored is None or not tensor.is_floating_point():
            return None
        pairs = list(zip(tensor.stride(), tensor.shape, strict=True))
        fitting = [axis - tensor.ndim for axis, each in enumerate(pairs) if each == (stored.stride, stored.size)]
        key = fitting[0] if len(fitting) == 1 and tensor.ndim > 1 else None
        known = stored.known
        return FollowedMap(
            known.softmaxes, key, dropout=known.dropout, between=known.between, uses=known.uses,
            reordered=known.reordered, stored=True,
        )  # fmt: skip

    def _stored(self, tensor: Tensor) -> _Stored | None:
        if tensor.layout != torch.strided or torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            return None
        entry = self._entries.get(id(tensor.untyped_storage()))
        return None if entry is None else entry[1]
