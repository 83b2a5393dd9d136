"""CallWatcher: sees every call of torch inside a module, and which of them are attention."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from analysis.capture.followed import SeenSoftmax
from analysis.capture.intercept import flex, inside_multi_head, multi_head, refuse_unreadable, scaled_dot_product
from analysis.capture.maps import TokenMaps
from analysis.capture.operations import LOGSUMS, SOFTMAXES, function_name
from analysis.capture.operators import KERNELS, NATIVE, PLAIN, is_operator, may_attend
from analysis.capture.reordering import REORDERING, may_reorder
from analysis.capture.running import ModuleStack
from analysis.capture.softmaxes import SoftmaxProducts

__all__ = ["CallWatcher", "unwatched"]


class CallWatcher(TorchFunctionMode, ABC):
    """Hands attention calls on while it is active.

    Attributes:
        unseen: name of an operator that may be attention and is not seen, path of the module that called it -> how
            often.

    Args:
        modules: the running submodules.
        written: whether what a call returns may be written into, so that its maps are computed from what it was given.
    """

    def __init__(self, modules: ModuleStack, written: bool = False) -> None:
        super().__init__()
        self.modules = modules
        self._written = written
        self.softmaxes = SoftmaxProducts(keep_scores=written)
        self._fused: dict[Any, tuple[Callable[..., tuple[TokenMaps, float]], str]] = {
            F.scaled_dot_product_attention: (scaled_dot_product, "scaled_dot_product_attention"),
            F.multi_head_attention_forward: (multi_head, "multi_head_attention_forward"),
        }
        self._fused |= {kernel: (read, "scaled_dot_product_attention") for kernel, read in KERNELS.items()}
        self.unseen = Counter[tuple[str, str]]()
        if "torch._higher_order_ops.flex_attention" in sys.modules:
            operator = sys.modules["torch._higher_order_ops.flex_attention"].flex_attention
            self._fused[operator] = (flex, "flex_attention")
        self._first = frozenset((*self._fused, *SOFTMAXES, *LOGSUMS, *NATIVE))  # with which attention begins

    @abstractmethod
    def record(
        self,
        maps: Callable[[], tuple[TokenMaps, float]],
        where: str,
        kind: str,
        result: Any,
        between: tuple[str, ...] = (),
    ) -> None:
        """Take one attention call.

        Args:
            maps: makes its maps, and the dropout that was on in it; to be called in `unwatched`.
            where: path of the innermost module.
            kind, between: see `AttentionCall`.
            result: what the call returned.
        """

    def softmax_made(self, softmax: SeenSoftmax, result: Tensor) -> None:
        """Take note of a softmax that the module writes out; what is written into `result` the module goes on with."""

    def map_returned(self, softmax: SeenSoftmax) -> None:
        """Take note of the map that the call which was taken last returns beside its output."""

    def name_call(self, where: str) -> str:
        """The next call of a module, for messages."""
        return f"a call of {where!r}"

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in REORDERING and not self.modules.reordered:
            self.modules.reordered = may_reorder(func, args, kwargs or {})
        if func not in self._first and type(func) in PLAIN and not self.softmaxes.following:
            return func(*args, **(kwargs or {}))
        kwargs = kwargs or {}
        where = self.modules.innermost
        if where is not None and func in self._fused:
            refuse_unreadable(args, kwargs, f"{self.name_call(where)} ({self._fused[func][1]})")
        if where is not None and func in SOFTMAXES and args and isinstance(args[0], Tensor) and args[0].is_meta:
            refuse_unreadable(args, kwargs, f"a softmax of {where!r}")
        if where is not None and func is F.multi_head_attention_forward:
            return self._multi_head(args, kwargs, where)
        if where is not None and self.softmaxes.following:
            with torch._C.DisableTorchFunction(), torch.no_grad():
                self.softmaxes.prepare(func, args, kwargs)
        result = func(*args, **kwargs)
        if where is None:
            return result
        if func in self._fused:
            read, kind = self._fused[func]
            self.record(lambda: read(args, kwargs, result), where, kind, result)
        elif func in SOFTMAXES or func in LOGSUMS or self.softmaxes.following:
            count = len(self.softmaxes.softmaxes)
            with torch._C.DisableTorchFunction(), torch.no_grad():
                product = self.softmaxes.see(func, args, kwargs, result, where)
                if len(self.softmaxes.softmaxes) > count:
                    self.softmax_made(self.softmaxes.softmaxes[-1], result)
            if product is not None:
                self.record(lambda: (product.maps, product.dropout), where, "softmax", result, product.between)
        if func in NATIVE or (is_operator(func) and func not in self._first):
            with torch._C.DisableTorchFunction():
                self.unseen[function_name(func), where] += may_attend(func, args, kwargs, result)
        return result

    def _multi_head(self, args: tuple[Any, ...], kwargs: dict[str, Any], where: str) -> Any:
        """Multi-head attention, whose map is of the kernels in the call, or else computed from what it was given."""
        inside = None if self._written else inside_multi_head(args, kwargs)
        with inside or nullcontext():
            result = F.multi_head_attention_forward(*args, **kwargs)

        def read() -> tuple[TokenMaps, float]:
            maps = None if inside is None else inside.maps()
            return multi_head(args, kwargs, result) if maps is None else (maps, 0.0)

        kind = "multi_head_attention_forward"
        self.record(read, where, kind, result)
        if result[1] is not None:
            mean = bool(kwargs.get("average_attn_weights", True))
            self.map_returned(self.softmaxes.follow_returned(result[1], mean, kind, where))
        return result


@contextmanager
def unwatched() -> Iterator[None]:
    """Neither modes nor autocast nor gradients: a recomputation is seen by nobody."""
    with ExitStack() as stack:
        stack.enter_context(torch._C.DisableTorchFunction())
        stack.enter_context(torch.no_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
