"""Recorder: sees every call of torch inside a module, and records those of attention under the submodule's path."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from analysis.capture.axes import Axes
from analysis.capture.call import AttentionCall, Options, make_call
from analysis.capture.followed import Use
from analysis.capture.intercept import flex, inside_multi_head, multi_head, refuse_unreadable, scaled_dot_product
from analysis.capture.layout import axes_of, layout_of
from analysis.capture.maps import ScoredMaps, TokenMaps
from analysis.capture.operations import SOFTMAXES
from analysis.capture.softmaxes import SoftmaxProducts

__all__ = ["ModuleStack", "Recorder", "Rewrite"]

# Called with a call, its maps, the axes in front of its tokens (None without a layout) and the tensor that it returns.
Rewrite = Callable[[AttentionCall, TokenMaps, Axes | None, torch.Tensor], None]


class ModuleStack:
    """Which submodules are running, outermost first, by their paths.

    A module that is used in several places has several paths; the one below the module that called it counts.

    Attributes:
        running: their paths.
        ran: whether any module was called.
        clips: length of the first axis of what the outermost was given; None: no tensor.

    Args:
        module: the outermost.
    """

    def __init__(self, module: nn.Module) -> None:
        self.running: list[str] = []
        self.ran = False
        self.clips: int | None = None
        self._paths: dict[nn.Module, list[str]] = {}
        for path, each in module.named_modules(remove_duplicate=False):
            self._paths.setdefault(each, []).append(path)

    @contextmanager
    def watching(self) -> Iterator[ModuleStack]:
        """Hooks on all submodules, taken off at the end; an error inside a module empties its place too."""
        with ExitStack() as stack:
            for each, paths in self._paths.items():
                if "" in paths:
                    hook = each.register_forward_pre_hook(self._count_clips, with_kwargs=True)
                    stack.callback(hook.remove)
                hooks = (
                    each.register_forward_pre_hook(partial(self._enter, paths)),
                    each.register_forward_hook(self._leave, always_call=True),
                )
                for hook in hooks:
                    stack.callback(hook.remove)
            yield self

    def _count_clips(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        tensors = [each for each in (*inputs, *named.values()) if isinstance(each, torch.Tensor) and each.ndim > 1]
        self.clips = tensors[0].shape[0] if tensors and not tensors[0].is_nested else None

    def _enter(self, paths: list[str], module: nn.Module, inputs: tuple[Any, ...]) -> None:
        inside = self.running[-1] + "." if self.running and self.running[-1] else ""
        self.ran = True
        self.running.append(next((path for path in paths if path.startswith(inside)), paths[0]))
        if isinstance(module, nn.MultiheadAttention):  # whose own words would be of the mode that watches
            refuse_unreadable(inputs, {}, f"module {self.running[-1]!r} (nn.MultiheadAttention)")

    def _leave(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self.running.pop()

    @property
    def innermost(self) -> str | None:
        """Path of the innermost module; None while the outermost is not running."""
        return self.running[-1] if self.running and self.running[0] == "" else None


class Recorder(TorchFunctionMode):
    """Records attention calls while it is active.

    Args:
        modules: the running submodules.
        options: what to keep of a call; a function, since a layout may be known only when the module was called.
        rewrite: see `capture`.
    """

    def __init__(self, modules: ModuleStack, options: Callable[[], Options], rewrite: Rewrite | None = None) -> None:
        super().__init__()
        self._rewrite = rewrite
        self.modules = modules
        self.options = options
        self.calls: list[AttentionCall] = []
        self.skipped: Counter[str] = Counter()
        self._sites: list[str] = []
        self._softmaxes = SoftmaxProducts()
        self._fused: dict[Any, tuple[Callable[..., tuple[ScoredMaps, float]], str]] = {
            F.scaled_dot_product_attention: (scaled_dot_product, "scaled_dot_product_attention"),
            F.multi_head_attention_forward: (multi_head, "multi_head_attention_forward"),
        }
        if "torch._higher_order_ops.flex_attention" in sys.modules:
            operator = sys.modules["torch._higher_order_ops.flex_attention"].flex_attention
            self._fused[operator] = (flex, "flex_attention")

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        where = self.modules.innermost
        if where is not None and func in self._fused:
            refuse_unreadable(args, kwargs, f"call {self._index(where)} of {where!r} ({self._fused[func][1]})")
        if where is not None and func is F.multi_head_attention_forward:
            return self._multi_head(args, kwargs, where)
        if where is not None and self._softmaxes.softmaxes:
            with torch._C.DisableTorchFunction():
                self._softmaxes.prepare(func, args, kwargs)
        result = func(*args, **kwargs)
        if where is None:
            return result
        if func in self._fused:
            read, kind = self._fused[func]
            with _plain():
                self._record(lambda: read(args, kwargs, result), where, kind, result)
        elif func in SOFTMAXES or self._softmaxes.softmaxes:
            with torch._C.DisableTorchFunction():
                product = self._softmaxes.see(func, args, kwargs, result, where)
            if product is not None:
                with _plain():
                    self._record(lambda: (product.maps, product.dropout), where, "softmax", result, product.between)
        return result

    def _multi_head(self, args: tuple[Any, ...], kwargs: dict[str, Any], where: str) -> Any:
        """Multi-head attention, whose map is of the kernels in the call, or else computed from what it was given."""
        inside = None if self._rewrite is not None else inside_multi_head(args, kwargs)
        with inside or nullcontext():
            result = F.multi_head_attention_forward(*args, **kwargs)

        def read() -> tuple[TokenMaps, float]:
            maps = None if inside is None else inside.maps()
            return multi_head(args, kwargs, result) if maps is None else (maps, 0.0)

        with _plain():
            self._record(read, where, "multi_head_attention_forward", result)
        return result

    def unexplained(self) -> dict[tuple[str, tuple[int, ...], Use], int]:
        """Module, shape and first other use of the softmaxes that were in no product that is understood -> how many."""
        options = self.options()
        numbers: dict[tuple[str, tuple[int, ...], str, str], tuple[Use, int]] = {}
        for each in self._softmaxes.softmaxes:
            use = next((use for use in each.uses if not use.excused), None)
            if use is None or each.recorded or not options.wants(each.module, -1):
                continue
            key = (each.module, each.shape, use.function, use.module)
            numbers[key] = (use, numbers.get(key, (use, 0))[1] + 1)
        return {(key[0], key[1], use): count for key, (use, count) in numbers.items()}

    def _record(
        self,
        maps: Callable[[], tuple[TokenMaps, float]],
        where: str,
        kind: str,
        result: Any,
        between: tuple[str, ...] = (),
    ) -> None:
        index = self._index(where)
        if where not in self._sites:
            self._sites.append(where)
        options = self.options()
        if self._left_out(options, where):
            self.skipped[where] += 1
            return
        recorded, dropout = maps()
        call = make_call(recorded, where, index, kind, options, dropout, between, self.modules.clips)
        self.calls.append(call)
        if self._rewrite is not None:
            layout = layout_of(options.layout, where)
            axes = None if layout is None else axes_of(layout, recorded.lead, self.modules.clips, call.name)
            self._rewrite(call, recorded, axes, result[0] if isinstance(result, tuple) else result)

    def _index(self, where: str) -> int:
        return sum(call.module == where for call in self.calls) + self.skipped[where]

    def _left_out(self, options: Options, where: str) -> bool:
        if not options.wants(where, self._sites.index(where)):
            return True
        return options.reduce == "frames" and layout_of(options.layout, where) is None


@contextmanager
def _plain() -> Iterator[None]:
    """Neither modes nor autocast nor gradients: the recomputation is seen by nobody."""
    with ExitStack() as stack:
        stack.enter_context(torch._C.DisableTorchFunction())
        stack.enter_context(torch.no_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
