"""Sites: the modules of a foreign model that attend, in one pass; what each makes of other tokens."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from analysis.capture import AttentionCall
from analysis.capture.adapter import Inputs
from analysis.capture.capture import refuse_graphs
from analysis.capture.layout import TokenTable
from analysis.capture.state import ModuleState, copied, kept_random_numbers, kept_state
from analysis.errors import RecordError
from analysis.module_axes import AxisProbe, TokenAxes, axis_readings, by_token
from analysis.module_runs import Run, SubmoduleRun, check_repeated, end_of_run, kept_runs
from analysis.sensitivity.of_view import GRADIENT_BYTES

__all__ = [
    "ModuleSite",
    "Probes",
    "arguments_of",
    "call_module",
    "check_arguments",
    "find_sites",
    "owner_site",
    "tokens_given",
]


@dataclass(frozen=True)
class Probes:
    """How G of a module is computed.

    Attributes:
        count: random vectors a query frame, at least 2; None: exact, by one product for each number of the output.
        seed: of the vectors.
        max_bytes: about the most that intermediate results may take.
    """

    count: int | None = 16
    seed: int = 0
    max_bytes: int = GRADIENT_BYTES


@dataclass(frozen=True)
class ModuleSite:
    """One attention module in one run: what it was given, and which of that and of its output are tokens.

    Attributes:
        run: path of the innermost module that made the call, and how often it had run before.
        known: of its run.
        copies: numbers of its arguments, one after another, that are the tokens.
        tokens: the argument that holds the tokens, of three axes.
        output: what it returned in their place: of several the one that its attention reaches.
        output_place: number of that, one after another.
        several: its attention reaches several; `output` is the first.
        places: frame, patch -> number of the token among all of the call, row by row.
        axes: of rows and tokens in `tokens`.
        output_axes: the same in `output`.
        probe: tells the axes.
    """

    run: Run
    known: SubmoduleRun
    copies: tuple[int, ...]
    tokens: Float[Tensor, "_ _ _"]
    output: Float[Tensor, "_ _ _"]
    output_place: int
    several: bool
    places: Int[Tensor, "frames patches"]
    axes: TokenAxes
    output_axes: TokenAxes
    probe: AxisProbe

    def input_frames(self, values: Float[Tensor, "_ _ _"]) -> Float[Tensor, "frames patches dim"]:
        """Tokens of each frame, of what stands in place of `tokens`."""
        return by_token(values, self.axes).flatten(0, 1)[self.places]

    def output_frames(self, values: Float[Tensor, "_ _ _"]) -> Float[Tensor, "frames patches dim"]:
        """Tokens of each frame, of what the module returns."""
        return by_token(values, self.output_axes).flatten(0, 1)[self.places]

    def check_tokens(self, name: str) -> None:
        """Refuse tokens that are others than those of the call: a few are replaced, and the call's own must move.

        Args:
            name: of the call.

        Raises:
            RecordError: others move.
        """
        if self.probe.input_axes([self.axes]) is None:
            raise RecordError(
                f"{name}: where one of the tokens that it is given is replaced, another of its call moves, so that "
                "which frame each is of is not known: leave out the part 'sensitivity', and give features="
            )

    def replaced(self, frames: Float[Tensor, "frames numbers"]) -> Float[Tensor, "frames out_numbers"]:
        """The output's tokens, frame by frame, had the tokens of the frames been these; others stay."""
        rows = by_token(self.tokens, self.axes)
        flat = rows.flatten(0, 1).index_copy(0, self.places.flatten(), frames.reshape(self.places.numel(), -1))
        tokens = flat.reshape(rows.shape).movedim((0, 1), self.axes)
        # The plain form: fused kernels have no rule for many gradients at once.
        with sdpa_kernel(SDPBackend.MATH):
            output = self.again(tokens)
        return self.output_frames(output).flatten(1)

    def again(self, tokens: Float[Tensor, "_ _ _"]) -> Float[Tensor, "_ _ _"]:
        """What the module returns in place of `output`, given others in place of `tokens`."""
        return self.output_of(_run(self.known, self.copies, tokens))

    def output_of(self, returned: Any) -> Any:
        """What stands in place of `output` in what the module returns; None: nothing."""
        leaves = tree_leaves(returned)
        return leaves[self.output_place] if self.output_place < len(leaves) else None


def _run(known: SubmoduleRun, copies: Sequence[int], tokens: Tensor) -> Any:
    """What a module returns with other tokens in place of those that it was given, in the state in which it was."""
    leaves, form = tree_flatten((known.args, known.kwargs))
    for place in copies:
        leaves[place] = tokens
    args, kwargs = tree_unflatten(copied(leaves), form)
    with kept_state(known.module), kept_random_numbers():
        known.state.renew()
        return known.module(*args, **kwargs)


def call_module(module: nn.Module, inputs: Inputs) -> Any:
    """The module's output for a tensor, a tuple of arguments, or arguments by name.

    The inputs, what the module keeps and random numbers are as before afterwards: every such call begins alike.
    """
    args, named = copied(arguments_of(inputs))
    state = ModuleState(module)
    try:
        with kept_random_numbers():
            return state.apart(module(*args, **named))
    finally:
        state.restore()


def check_arguments(module: nn.Module, inputs: Inputs) -> None:
    """Refuse inputs that a module's `forward` has no parameters for, or too few; and what has no numbers.

    Raises:
        RecordError: says what it takes.
        CaptureError: no module, or a compiled graph.
    """
    refuse_graphs(module)
    if not isinstance(inputs, Tensor | tuple | Mapping):
        raise RecordError(
            f"inputs is {type(inputs).__name__}; expected a tensor, a tuple of arguments, or arguments by name"
        )
    args, named = arguments_of(inputs)
    _check_numbers(module, [*args, *named.values()])
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):  # not of Python
        return
    try:
        signature.bind(*args, **named)
    except TypeError as error:
        raise RecordError(
            f"{type(module).__name__} takes {signature}, and the inputs do not fit: {error}; give a tensor, a tuple of "
            "arguments, or arguments by name"
        ) from None


def _check_numbers(module: nn.Module, arguments: Sequence[Any]) -> None:
    """Refuse the meta device, but for weights that hooks of a library load as they are used.

    Raises:
        RecordError: tensors of it.
    """
    loaded = any(hasattr(each, "_hf_hook") for each in module.modules())
    weights = [] if loaded else [*module.named_parameters(), *module.named_buffers()]
    named = [*((f"input {place}", each) for place, each in enumerate(arguments)), *weights]
    empty = next((name for name, each in named if isinstance(each, Tensor) and each.is_meta), None)
    if empty is not None:
        raise RecordError(
            f"{empty} of {type(module).__name__} is on the meta device, which has no numbers: load the module's "
            "weights (module.to_empty(device='cpu'), then load_state_dict), and give inputs on its device"
        )


def arguments_of(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that a module is called with for some inputs."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}


def find_sites(module: nn.Module, inputs: Inputs, calls: Sequence[AttentionCall], output: Any) -> dict[str, ModuleSite]:
    """The modules that made some calls.

    Args:
        module: the outermost.
        inputs: of the pass.
        calls: some that were made in such a pass, in their order.
        output: what it returned.

    Returns:
        Name of a call -> its site, of those whose input and output are tokens.

    Raises:
        RecordError: a second pass returns something else.
    """
    runs = {call.name: (call.module, call.runs[call.module]) for call in calls}
    kept, again = kept_runs(module, lambda: call_module(module, inputs), set(runs.values()))
    check_repeated(module, output, again)
    sites = {}
    for call in calls:
        run = runs[call.name]
        of_run = [each for each in calls if runs[each.name] == run]
        # The first is given the tokens before another mixes them, and nothing mixes what the last makes of them.
        alike = [number for number, each in enumerate(of_run) if (each.tables, each.axes) == (call.tables, call.axes)]
        site = _site(call, run, kept[run], call.module, (alike[0], alike[-1])) if run in kept else None
        if site is not None:
            sites[call.name] = site
    return sites


def owner_site(
    module: nn.Module, inputs: Inputs, call: AttentionCall, heads: Sequence[AttentionCall], owner: str
) -> ModuleSite | None:
    """The site of a module around several that make one call together.

    Args:
        module, inputs: see `find_sites`.
        call: all of theirs as one.
        heads: the calls.
        owner: path of the module around them.
    """
    run = owner, heads[0].runs[owner]
    kept, _ = kept_runs(module, lambda: call_module(module, inputs), {run})
    return _site(call, run, kept[run], heads[0].module, (0, 0), heads[0]) if run in kept else None


def _site(
    call: AttentionCall,
    run: Run,
    known: SubmoduleRun,
    path: str,
    numbers: tuple[int, int],
    made: AttentionCall | None = None,
) -> ModuleSite | None:
    """None where not one argument, and one output, has the call's tokens, or on which axes is not told.

    Args:
        call: of the site.
        run, known: of the module.
        path: of the module that makes the call.
        numbers: of its calls in the run, by which the axes of what is given and of what is returned are told.
        made: the call itself, where `call` is several as one.
    """
    if call.tables is None:
        return None
    table, arguments = call.tables[0], (*known.args, *known.kwargs.values())
    tokens = next((each for each in arguments if _readings(each, table)), None)
    if tokens is None:
        return None
    leaves, _ = tree_flatten((known.args, known.kwargs))
    copies = tuple(number for number, each in enumerate(leaves) if each is tokens)
    again = partial(_run, known, copies)
    inside = path.removeprefix(run[0]).removeprefix(".")
    probe = AxisProbe(known.module, again, made or call, inside, numbers, tokens)
    reached = _output_places(known, table, probe)
    if not reached:
        return None
    place = reached[0]
    output = tree_leaves(known.output)[place]
    axes, output_axes = _axes(known, tokens, output, table, replace(probe, output_place=place))
    places = _places(table)
    if axes is None or output_axes is None or places is None:
        return None
    sizes = [tokens.shape[axis] for axis in axes]
    others = [each for each in arguments if each is not tokens and _readings(each, table)]
    if any([each.shape[axis] for axis in axes] == sizes for each in others):
        return None  # by which of them G would be is not known, and it would lack what comes through the others
    return ModuleSite(
        run, known, copies, tokens, output, place, len(reached) > 1, places.to(output.device), axes, output_axes, probe
    )


def _output_places(known: SubmoduleRun, table: TokenTable, probe: AxisProbe) -> list[int]:
    """Which of what the module returns, one after another, has tokens of its attention; each tensor once."""
    leaves = list(enumerate(tree_leaves(known.output)))
    fitting = sorted({id(each): place for place, each in reversed(leaves) if _readings(each, table)}.values())
    if len(fitting) < 2:
        return fitting
    reached = probe.outputs_reached()
    return [place for place in fitting if place in reached]


def _axes(
    known: SubmoduleRun, tokens: Tensor, output: Tensor, table: TokenTable, probe: AxisProbe
) -> tuple[TokenAxes | None, TokenAxes | None]:
    """Of the tokens and of the output; None: not told."""
    if isinstance(known.module, nn.MultiheadAttention):  # it says so itself
        own = (0, 1) if known.module.batch_first else (1, 0)
        return (own, own) if own in _readings(tokens, table) else (None, None)
    readings = _readings(tokens, table)
    axes = readings[0] if len(readings) == 1 else probe.input_axes(readings)
    return axes, None if axes is None else probe.output_axes(_readings(output, table))


def _readings(values: Any, table: TokenTable) -> list[TokenAxes]:
    return axis_readings(values.shape, table) if isinstance(values, Tensor) and values.is_floating_point() else []


def _places(table: TokenTable) -> Int[Tensor, "frames patches"] | None:
    """Where the tokens of each frame lie among all, row by row; None: not as many in each."""
    frame, patch = table.frame[0].flatten(), table.patch[0].flatten()
    real = frame >= 0
    order = (frame * table.patches + patch).masked_fill(~real, table.frames * table.patches).argsort(stable=True)
    used = order[: int(real.sum())]
    count = torch.bincount(frame[real], minlength=table.frames)
    return used.reshape(table.frames, -1) if len(set(count.tolist())) == 1 else None


def tokens_given(module: nn.Module, site: ModuleSite, inputs: Inputs) -> Float[Tensor, "frames numbers"]:
    """The tokens of each frame that one of a module's submodules is given, of any inputs; the pass ends there.

    Args:
        module: the outermost.
        site: of the submodule, in another pass.
        inputs: of the module.
    """
    reached = end_of_run(module, lambda: call_module(module, inputs), site.run)
    if reached is None:
        raise RecordError(f"{site.run[0]} was not called: the module makes other calls of other numbers")
    return site.input_frames(reached[0][site.copies[0]]).flatten(1)
