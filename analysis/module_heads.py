"""Heads that a module computes one by one, as modules of their own in a list or in a loop: joined to one call of all.

Paths alone do not tell the heads of a layer from layers, as both differ in a number only. Modules of one list that are
given the same tokens, none of which come of another of them, are heads; and so are calls that one module makes in a
run, if together they have as many heads as it says that it has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from analysis.capture import AttentionCall, Captured, FrameMap
from analysis.capture.adapter import Inputs
from analysis.capture.running import stated_heads
from analysis.module_sites import ModuleSite, call_module, find_sites, owner_site

__all__ = ["JoinedCalls", "join_heads"]


@dataclass(frozen=True)
class JoinedCalls:
    """The calls of a pass, heads of one list as one call.

    Attributes:
        captured: the calls.
        members: name of a call -> the calls that it was made of.
        sites: name of a call -> the module that is given its tokens, and that makes of them what its heads give
            together; none where no module does.
        inputs: the same of the modules whose tokens are known at least.
    """

    captured: Captured
    members: Mapping[str, Sequence[AttentionCall]]
    sites: Mapping[str, ModuleSite]
    inputs: Mapping[str, ModuleSite]


@dataclass(frozen=True)
class _Siblings:
    """Calls that may be heads: of modules in one list.

    Attributes:
        calls: in their order.
        place: path of the list, or of the module that makes all of them.
        rest: path of the calls' module inside each of its modules.
        looped: one module makes all of them.
    """

    calls: list[AttentionCall]
    place: str
    rest: str
    looped: bool = False

    @property
    def modules(self) -> list[str]:
        """Paths of the list's modules; none in a loop."""
        if self.looped:
            return []
        return [call.module.removesuffix(f".{self.rest}") if self.rest else call.module for call in self.calls]


def join_heads(module: nn.Module, inputs: Inputs, captured: Captured, output: Any, joined: bool = True) -> JoinedCalls:
    """Join the calls that are heads of one layer.

    Args:
        module: the outermost, in evaluation mode.
        inputs: of the pass.
        captured: its calls, between frames.
        output: what the module returned in it.
        joined: False: every call stays one.
    """
    groups = list(_siblings(module, captured.calls)) if joined else []
    with _watched_inputs(module, [path for each in groups for path in each.modules]) as taken:
        sites = find_sites(module, inputs, captured.calls, output)
    heads = [each for each in groups if _are_heads(module, inputs, each, taken)]
    of_lists = {call.name for each in heads for call in each.calls}
    loops = list(_loops(module, captured.calls)) if joined else []
    heads += [each for each in loops if not any(call.name in of_lists for call in each.calls)]
    if not heads:
        return JoinedCalls(captured, {call.name: [call] for call in captured}, sites, sites)
    calls, members = list(captured.calls), {call.name: [call] for call in captured}
    known, input_sites = dict(sites), dict(sites)
    for each in heads:
        call = _joined(each)
        calls[calls.index(each.calls[0])] = call
        calls = [one for one in calls if one not in each.calls]
        members[call.name] = each.calls
        if each.looped and each.place == call.module:
            continue  # it is that of each of them
        owner = each.place if each.looped else each.place.rpartition(".")[0]
        site = owner_site(module, inputs, call, each.calls, owner)
        known.pop(call.name, None)
        if site is not None:
            known[call.name] = input_sites[call.name] = site
        if not each.looped and each.calls[0].name in sites:
            input_sites[call.name] = sites[each.calls[0].name]
    return JoinedCalls(Captured(calls, captured.skipped), members, known, input_sites)


def _siblings(module: nn.Module, calls: Sequence[AttentionCall]) -> Iterator[_Siblings]:
    """Calls next to each other, of modules in one list, each of which attends once."""
    counts = Counter(call.module for call in calls)
    known: dict[tuple[str, str], list[AttentionCall]] = {}
    for call in calls:
        parts = call.module.split(".")
        for place, part in enumerate(parts):
            path = ".".join(parts[:place])
            if part.isdigit() and counts[call.module] == 1 and isinstance(module.get_submodule(path), nn.ModuleList):
                known.setdefault((path, ".".join(parts[place + 1 :])), []).append(call)
    for (path, rest), each in known.items():
        if _alike(each):
            yield _Siblings(each, path, rest)


def _loops(module: nn.Module, calls: Sequence[AttentionCall]) -> Iterator[_Siblings]:
    """Calls of one run of a module, each of some of the heads that it says, all of them together."""
    known: dict[tuple[str, int], list[AttentionCall]] = {}
    for call in calls:
        path = call.module
        while not stated_heads(module.get_submodule(path))[1] and path:
            path = path.rpartition(".")[0]
        known.setdefault((path, call.runs.get(path, 0)), []).append(call)
    for (path, _), each in known.items():
        if _alike(each) and sum(call.shape[1] for call in each) == stated_heads(module.get_submodule(path))[0]:
            yield _Siblings(each, path, "", looped=True)


def _alike(calls: Sequence[AttentionCall]) -> bool:
    alike = {(call.shape[0], *call.shape[2:], call.kind, call.dropout) for call in calls}
    return len(calls) > 1 and len(alike) == 1


@contextmanager
def _watched_inputs(module: nn.Module, paths: Sequence[str]) -> Iterator[dict[str, list[Tensor]]]:
    """Path -> the tensors that a submodule was given."""
    taken: dict[str, list[Tensor]] = {}

    def note(path: str, each: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        taken[path] = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]

    with ExitStack() as stack:
        for path in paths:
            hook = module.get_submodule(path).register_forward_pre_hook(partial(note, path), with_kwargs=True)
            stack.callback(hook.remove)
        yield taken


def _are_heads(module: nn.Module, inputs: Inputs, group: _Siblings, taken: Mapping[str, list[Tensor]]) -> bool:
    """Whether the modules of a list were given the same tensors, none made of what another of them returned."""
    first, *others = (taken.get(path, []) for path in group.modules)
    if not first or any(len(each) != len(first) for each in others):
        return False
    pairs = [pair for each in others for pair in zip(first, each, strict=True)]
    if all(one is other for one, other in pairs):
        return True
    if not all(one.shape == other.shape and torch.equal(one, other) for one, other in pairs):
        return False
    return not _depend(module, inputs, group)


def _depend(module: nn.Module, inputs: Inputs, group: _Siblings) -> bool:
    """Whether what the first of them returns reaches another: were it no number, that one would be given none."""

    def replace_output(each: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        first = output[0] if isinstance(output, tuple) else output
        replaced = torch.full_like(first, torch.nan)
        return (replaced, *output[1:]) if isinstance(output, tuple) else replaced

    hook = module.get_submodule(group.modules[0]).register_forward_hook(replace_output)
    try:
        with _watched_inputs(module, group.modules[1:]) as taken:
            call_module(module, inputs)
    finally:
        hook.remove()
    return any(bool(each.isnan().any()) for tensors in taken.values() for each in tensors if each.is_floating_point())


def _name(group: _Siblings) -> str:
    if group.looped:
        return group.calls[0].module
    return f"{group.place}.*.{group.rest}" if group.rest else group.place


def _joined(group: _Siblings) -> AttentionCall:
    """One call, named by the list."""
    calls = group.calls
    parts = [call.frame_map for call in calls]
    frames = FrameMap(
        *(torch.cat([getattr(part, name) for part in parts], 1) for name in ("weights", "outside", "from_outside"))
    )
    total = sum(call.shape[1] for call in calls)
    batch, _, queries, keys = calls[0].shape
    return replace(
        calls[0],
        module=_name(group),
        shape=(batch, total, queries, keys),
        difference=max(call.difference for call in calls),
        bound=max(call.bound for call in calls),
        between=tuple(dict.fromkeys(name for call in calls for name in call.between)),
        heads=tuple(range(sum(len(call.heads) for call in calls))),
        frames=frames,
    )
