"""Where the numbers of a map go beside its product with the values, by every call of torch that is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from analysis.capture.followed import SeenSoftmax, TensorTable
from analysis.capture.maps import GivenMaps, TokenMaps
from analysis.capture.operations import NO_NUMBERS, SAME, function_name
from analysis.module_pass import NamedCalls

__all__ = ["FollowedNumbers"]

Origins = Mapping[int | str, str]  # number of a softmax, or name of a fused call -> the first function behind its map

# What makes numbers of Python, which cannot be followed.
TAKEN = {
    *(getattr(torch.Tensor, f"__{kind}__") for kind in ("float", "int", "bool", "index", "complex", "array")),
    *(getattr(torch.Tensor, name) for name in ("item", "tolist", "numpy", "is_nonzero", "equal", "allclose")),
    torch.Tensor.__contains__,
    *(torch.is_nonzero, torch.equal, torch.allclose),
}  # fmt: skip


class FollowedNumbers(NamedCalls):
    """Keeps what each call returned, the softmaxes that its map is of, and what is made of maps elsewhere.

    Args:
        module: whose pass it will see.

    Attributes:
        outputs: name of a call -> what it returned.
        of_calls: name of a call -> numbers of the softmaxes that its map is of.
        taken: whose map's numbers were taken out of torch, as a number of Python or an array.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.outputs: dict[str, Tensor] = {}
        self.of_calls: dict[str, tuple[int, ...]] = {}
        self.taken: dict[int | str, str] = {}
        self._made = TensorTable[Origins]()
        self._stored: dict[int, tuple[torch.UntypedStorage, Origins]] = {}
        self._product: tuple[int | str, ...] | None = None

    def elsewhere(self, name: str, output: Tensor) -> str | None:
        """The function by which a call's map reaches an output of the module, or numbers of Python; None: it does not.

        Args:
            name: of the call.
            output: of the pass.
        """
        reached = {**self._origins(output), **self.taken}
        return next((reached[each] for each in (name, *self.of_calls.get(name, ())) if each in reached), None)

    def softmax_made(self, softmax: SeenSoftmax, result: Tensor) -> None:
        """Follow it."""
        self._made[result] = {len(self.softmaxes.softmaxes) - 1: ""}

    def returned(self, name: str, kind: str, result: Any, maps: Callable[[], TokenMaps]) -> None:
        """Keep what a call returned, and follow the map that a fused call returns beside it."""
        output, *others = result if isinstance(result, tuple) else (result,)
        self.outputs[name] = output.clone()
        written = maps() if kind == "softmax" else None
        if isinstance(written, GivenMaps):
            self.of_calls[name] = tuple(self.softmaxes.softmaxes.index(each) for each in written.softmaxes)
        self._product = (name, *self.of_calls.get(name, ()))
        for each in others:
            if isinstance(each, Tensor) and each.is_floating_point():
                self._made[each] = {name: ""}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self._product = None
        result = super().__torch_function__(func, types, args, kwargs)
        if self._made or self._stored:
            with torch._C.DisableTorchFunction():
                self._follow(func, args, kwargs or {}, result)
        return result

    def _follow(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """What was made of numbers of a map has such numbers too, but for the product of the map with its values."""
        name = function_name(func)
        if func in NO_NUMBERS:
            return
        same = func in SAME
        tensors = [each for each in tree_leaves((args[:1] if same else args, kwargs)) if isinstance(each, Tensor)]
        known = [origins for each in tensors if (origins := self._origins(each))]
        if self._product is not None:
            known = [
                {each: first for each, first in origins.items() if not self._is_map(each, known)} for origins in known
            ]
        origins = {each: first or ("" if same else name) for one in known for each, first in one.items()}
        if not origins:
            return
        if func in TAKEN:
            self.taken |= origins
        for each in [each for each in tree_leaves(result) if isinstance(each, Tensor)]:
            self._made[each] = origins
        target = args[0] if args and (result is args[0] or name == "__setitem__") and not same else kwargs.get("out")
        if isinstance(target, Tensor):  # what is written reaches every view
            storage = target.untyped_storage()
            self._stored[storage.data_ptr()] = storage, {**self._origins(target), **origins}

    def _is_map(self, origin: int | str, known: list[Origins]) -> bool:
        """Whether an operand of a product is the map by an origin, and the other has nothing of it."""
        return origin in (self._product or ()) and sum(origin in each for each in known) == 1

    def _origins(self, tensor: Tensor) -> Origins:
        own = self._made.get(tensor) or {}
        if not self._stored or tensor.layout != torch.strided:
            return own
        written = self._stored.get(tensor.untyped_storage().data_ptr())
        return own if written is None else {**written[1], **own}
