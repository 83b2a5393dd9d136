"""capture: every attention call of any PyTorch module, recomputed, verified against its output, kept as asked."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import torch
from torch import nn

from analysis.capture.axes import Axes
from analysis.capture.call import AttentionCall, Options
from analysis.capture.errors import CaptureError, CaptureWarning, module_place
from analysis.capture.layout import Layout
from analysis.capture.recognised import Recogniser
from analysis.capture.recorder import Recorder, Rewrite
from analysis.capture.running import ModuleStack
from analysis.capture.scripted import ScriptedCalls

__all__ = ["Captured", "capture", "refuse_graphs", "uncompiled"]

_MOST_NAMED = 4  # softmaxes in a warning
_FLEX = "torch.nn.attention.flex_attention"


@dataclass
class Captured:
    """The attention calls of a module, in the order in which they were made.

    Attributes:
        calls: those that were computed.
        skipped: path of a module -> how many of its calls were seen, but not computed: `layers` or the layout left
            them out.
        shared: name of a call -> the products that its map went into, where these are several, so that the call's
            output is not all that the module made of it.
    """

    calls: list[AttentionCall] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    shared: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the calls: paths of modules; the second call of the same module is "path#1"."""
        return tuple(call.name for call in self.calls)

    def __getitem__(self, name: str) -> AttentionCall:
        """The call of a name.

        Raises:
            KeyError: no such call; lists those there are.
        """
        for call in self.calls:
            if call.name == name:
                return call
        raise KeyError(f"no call {name!r} was recorded; there are {', '.join(map(repr, self.names)) or 'none'}")

    def __iter__(self) -> Iterator[AttentionCall]:
        return iter(self.calls)

    def __len__(self) -> int:
        return len(self.calls)

    @property
    def difference(self) -> float:
        """max |P V - out| over all calls."""
        return max((call.difference for call in self.calls), default=0.0)

    def table(self) -> pd.DataFrame:
        """One row a call: name, kind, sizes, difference and its bound, dropout, what changed the map."""
        columns = ("name", "kind", "difference", "bound", "dropout", "changed")
        sizes = ("batch", "heads", "queries", "keys")
        rows = [
            {name: getattr(call, name) for name in columns}
            | dict(zip(sizes, call.shape, strict=True))
            | {"between": ", ".join(call.between)}
            for call in self.calls
        ]
        return pd.DataFrame(rows, columns=[*columns[:2], *sizes, *columns[2:], "between"])


@contextmanager
def capture(
    module: nn.Module,
    *,
    reduce: str | None = None,
    layers: Sequence[str | int] | None = None,
    heads: Sequence[int] | None = None,
    queries: Sequence[int] | None = None,
    layout: Layout | Mapping[str, Layout | None] | None = None,
    max_bytes: int = Options.max_bytes,
    rewrite: Rewrite | None = None,
    axes: Mapping[str, Axes] | None = None,
) -> Iterator[Captured]:
    """Record the attention of a module while it runs inside the `with`.

    Calls that are seen: `F.scaled_dot_product_attention`, `F.multi_head_attention_forward` (`nn.MultiheadAttention`,
    `nn.TransformerEncoder`), a softmax followed by a product with values (of matrices, by einsum, or element by element
    and summed over the keys), and `flex_attention`. Each map P is recomputed from what the call was given, in float32
    (float64 for float64), and refused if P V is not what the module computed. A dropout that is on draws what it would
    have drawn; the map is the one before it, verified against the call without dropout (a fused call is made once more
    for that).

    The module computes what it computes without: its outputs are the same to the bit, but for `nn.MultiheadAttention`
    and `nn.TransformerEncoder` in evaluation mode without gradients, whose fused paths torch does not take while calls
    are seen, and for what `torch.compile` made, which runs uncompiled meanwhile: these differ by rounding, and at
    padded tokens, where the fused path writes 0.

    Args:
        module: any module; what it computes may be called several times and holds for each call.
        reduce: None: keep the maps over tokens. "frames": keep maps between frames only, which needs a layout; maps
            are reduced while they are made, so that their memory stays small.
        layers: which calls to compute: patterns of module paths as in file names ("encoder.layer.3.*"), or numbers of
            the attention modules in the order in which they are first called; default: all.
        heads: numbers of the heads to keep; default: all.
        queries: with a layout the query frames, else the query tokens to keep; default: all. Others are not computed.
        layout: of the tokens: one for all calls, or pattern of module paths -> layout, None for calls to leave out.
            Default: recognised from the configuration of the transformers models in `RECOGNISED`.
        max_bytes: about the most that one piece of a map takes while it is made; at least one query row is.
        rewrite: called with each call once it is verified, and the tensor that it returns, into which it may write: the
            module goes on with that. `analysis.interventions.modules` makes edits so.
        axes: name of a call -> `AttentionCall.axes` of another pass, which need not be found out again.

    Yields:
        What is recorded, filled while the module runs.

    Warns:
        CaptureWarning: a softmax that was multiplied, but not in a way that is understood; an `Adapter` helps. Or a
            function with a softmax that torch.jit compiled, or an operator that may be attention.

    Raises:
        CaptureError: a map that does not explain its output; jagged tensors; a scripted or exported module; a module
            that ran without any attention call, or did not run.
        LayoutError: a layout that does not fit a call.
    """
    refuse_graphs(module)
    wanted = Options.of(reduce, layers, heads, queries, layout, max_bytes)
    recogniser = Recogniser(module, needed=reduce == "frames") if layout is None else None
    modules = ModuleStack(module)

    def options() -> Options:
        return wanted if recogniser is None else replace(wanted, layout=recogniser.layouts())

    recorder = Recorder(modules, options, rewrite, axes)
    scripted = ScriptedCalls(modules)
    captured = Captured(recorder.calls, recorder.skipped)
    with ExitStack() as stack:
        if recogniser is not None:
            stack.enter_context(recogniser.watching())
        stack.enter_context(modules.watching())
        stack.enter_context(uncompiled())
        stack.enter_context(scripted.watching())
        stack.enter_context(_late_compiler())
        with recorder:
            yield captured
    captured.shared.update(recorder.shared_maps())
    unexplained = ". ".join(
        each for each in (_unexplained(recorder), _scripted(scripted, wanted), _operators(recorder, wanted)) if each
    )
    if not captured.calls:
        raise CaptureError(_nothing(module, captured, unexplained, modules.ran))
    if unexplained:
        warnings.warn(unexplained, CaptureWarning, stacklevel=3)


def _unexplained(recorder: Recorder) -> str:
    """Which softmaxes may be attention, and are in no call; empty where there are none."""
    kinds = recorder.unexplained()
    shown = [
        f"softmax of shape {shape} in {_module(module)} ({count} call{'s' if count > 1 else ''}), which went "
        + (f"through {', '.join(use.through)} " if use.through else "")
        + f"into {use.function} in {_module(use.module)}"
        for (module, shape, use), count in list(kinds.items())[:_MOST_NAMED]
    ]
    more = f" and {len(kinds) - _MOST_NAMED} more" if len(kinds) > _MOST_NAMED else ""
    if not shown:
        return ""
    return (
        f"{'; '.join(shown)}{more}: not followed by a product with values that is understood, so not recorded. Where "
        "it is attention, write an Adapter (docs/any_model.md)"
    )


def _scripted(scripted: ScriptedCalls, options: Options) -> str:
    """Which compiled functions may have computed attention; empty where there are none."""
    shown = [
        f"{name} in {_module(module)} ({count} call{'s' if count > 1 else ''})"
        for (name, module), count in scripted.calls.items()
        if options.wants(module, -1)
    ]
    if not shown:
        return ""
    more = f" and {len(shown) - _MOST_NAMED} more" if len(shown) > _MOST_NAMED else ""
    return (
        f"TorchScript: {'; '.join(shown[:_MOST_NAMED])}{more}: compiled functions with a softmax, inside which "
        "attention calls are not seen, so not recorded. Give the module the functions that they were made from"
    )


def _operators(recorder: Recorder, options: Options) -> str:
    """Which operators may be attention, or have some inside; empty where there are none."""
    shown = [
        f"{name} in {_module(module)} ({count} call{'s' if count > 1 else ''})"
        for (name, module), count in recorder.unseen.items()
        if count and options.wants(module, -1)
    ]
    if not shown:
        return ""
    more = f" and {len(shown) - _MOST_NAMED} more" if len(shown) > _MOST_NAMED else ""
    return (
        f"operators: {'; '.join(shown[:_MOST_NAMED])}{more}: may be attention, or have some inside, where it is not "
        "seen, so not recorded. Where it is attention, write an Adapter (docs/any_model.md)"
    )


def _module(path: str) -> str:
    return f"module {path!r}" if path else module_place(path)


def _nothing(module: nn.Module, captured: Captured, unexplained: str, ran: bool) -> str:
    name = type(module).__name__
    if not ran:
        return (
            f"{name} was not called inside the `with`: run it there, in this thread; a replica of it is another, "
            "to be captured itself"
        )
    if unexplained:
        return f"no attention call of {name} was recorded. {unexplained}"
    if captured.skipped:
        return f"no attention call of {name} was computed: layers or layout left out {', '.join(captured.skipped)}"
    return (
        f"no attention call was seen in {name}. Its attention must be that of torch "
        "(scaled_dot_product_attention, nn.MultiheadAttention, softmax and a product, flex_attention). For a "
        'transformers model load it with attn_implementation="sdpa" or "eager"; external kernels and replicas in other '
        "threads are not seen. Otherwise give an Adapter"
    )


def refuse_graphs(module: nn.Module) -> None:
    """Refuse what is no module of Python code, in which attention calls can be seen.

    Raises:
        CaptureError: something else than a module; one of TorchScript or of an exported graph, or with one inside.
    """
    if not isinstance(module, nn.Module):
        raise CaptureError(f"module is {module!r:.60}; expected a torch.nn.Module")
    for path, each in module.named_modules():
        scripted = isinstance(each, torch.jit.ScriptModule)
        exported = isinstance(each, torch.fx.GraphModule) and any(
            isinstance(node.target, torch._ops.OpOverload) for node in each.graph.nodes
        )
        if scripted or exported:
            what = "TorchScript" if scripted else "an exported graph"
            raise CaptureError(
                f"{path or 'the module'} ({type(each).__name__}) is a compiled graph ({what}), in which attention "
                "calls are not seen; capture the module that it was made from"
            )


@contextmanager
def _late_compiler() -> Iterator[None]:
    """torch's compiler cannot be begun with while calls are seen, as flex_attention and torch.cond would.

    Raises:
        CaptureError: it was, and has failed.
    """
    known = "torch._dynamo" in sys.modules
    try:
        yield
    except Exception as error:
        if known or not type(error).__module__.startswith("torch._dynamo"):
            raise
        raise CaptureError(
            "torch's compiler was first loaded while the module ran (by flex_attention or torch.cond, say), which "
            "cannot be while its calls are seen: import torch._dynamo, and flex_attention, before"
        ) from error


@contextmanager
def uncompiled() -> Iterator[None]:
    """What torch.compile made runs as it was written, and flex_attention is one call instead of a graph."""
    flex: Any = sys.modules.get(_FLEX)
    before = None if flex is None else flex._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG
    with ExitStack() as stack:
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            if flex is not None:
                flex._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG = True
            yield
        finally:
            if flex is not None:
                flex._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG = before
