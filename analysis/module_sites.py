"""Sites: the modules of a foreign model that attend, in one pass; G of each by differentiating it alone."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from analysis.capture import AttentionCall
from analysis.capture.adapter import Inputs
from analysis.errors import RecordError
from analysis.sensitivity.autograd import autograd_norms, sampled_norms
from analysis.sensitivity.of_view import GRADIENT_BYTES

__all__ = ["ModuleSite", "Probes", "call_module", "check_arguments", "find_sites", "norms_of", "tokens_given"]


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
    """One attention module in one pass: what it was given, and which of that and of its output are tokens.

    Attributes:
        module: the innermost module that made the call.
        args, kwargs: of its call.
        tokens: the argument that holds the tokens, (rows, tokens, dim), or (tokens, rows, dim) if `turned`.
        output: what it returned in their place.
        places: frame, patch -> number of the token among all of the call, row by row.
        turned: see `tokens`.
    """

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    tokens: Float[Tensor, "_ _ dim"]
    output: Float[Tensor, "_ _ out_dim"]
    places: Int[Tensor, "frames patches"]
    turned: bool

    def by_frame(self, values: Float[Tensor, "_ _ any_dim"]) -> Float[Tensor, "frames patches any_dim"]:
        """Tokens of each frame."""
        values = values.transpose(0, 1) if self.turned else values
        return values.flatten(0, 1)[self.places]

    def replaced(self, frames: Float[Tensor, "frames numbers"]) -> Float[Tensor, "frames out_numbers"]:
        """The output's tokens, frame by frame, had the tokens of the frames been these; others stay."""
        rows = self.tokens.transpose(0, 1) if self.turned else self.tokens
        flat = rows.flatten(0, 1).index_copy(0, self.places.flatten(), frames.reshape(self.places.numel(), -1))
        tokens = flat.reshape(rows.shape)
        tokens = tokens.transpose(0, 1) if self.turned else tokens
        args = [tokens if each is self.tokens else each for each in self.args]
        kwargs = {name: tokens if each is self.tokens else each for name, each in self.kwargs.items()}
        # The plain form: fused kernels have no rule for many gradients at once.
        with sdpa_kernel(SDPBackend.MATH):
            output = self.module(*args, **kwargs)
        return self.by_frame(output[0] if isinstance(output, tuple) else output).flatten(1)


def call_module(module: nn.Module, inputs: Inputs) -> Any:
    """The module's output for a tensor, a tuple of arguments, or arguments by name."""
    args, named = _arguments(inputs)
    return module(*args, **named)


def check_arguments(module: nn.Module, inputs: Inputs) -> None:
    """Refuse inputs that a module's `forward` has no parameters for, or too few.

    Raises:
        RecordError: says what it takes.
    """
    args, named = _arguments(inputs)
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


def _arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}


def find_sites(module: nn.Module, inputs: Inputs, calls: Sequence[AttentionCall]) -> dict[str, ModuleSite]:
    """The modules that made some calls.

    Args:
        module: the outermost.
        inputs: of the pass.
        calls: all that its modules made in such a pass, in their order.

    Returns:
        Name of a call -> its site, of those whose input and output are tokens.
    """
    modules = dict(module.named_modules())
    numbers = Counter(call.module for call in calls)
    passes: dict[str, list[tuple[tuple[Any, ...], dict[str, Any], Any]]] = {path: [] for path in numbers}
    with ExitStack() as stack:
        for path, seen in passes.items():
            hook = modules[path].register_forward_hook(partial(_note, seen), with_kwargs=True)
            stack.callback(hook.remove)
        call_module(module, inputs)
    sites = {}
    for call in calls:
        # A module may attend several times in one pass of its own.
        number = call.index * len(passes[call.module]) // numbers[call.module]
        site = _site(modules[call.module], call, *passes[call.module][number])
        if site is not None:
            sites[call.name] = site
    return sites


def _note(
    seen: list[tuple[Any, ...]], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
) -> None:
    seen.append((args, kwargs, out))


def _site(
    module: nn.Module, call: AttentionCall, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
) -> ModuleSite | None:
    """None where no argument, more than one, or not the output, has the tokens of the call on its first two axes."""
    if call.tables is None:
        return None
    table = call.tables[0]
    rows, turned = (table.fold, table.tokens), isinstance(module, nn.MultiheadAttention) and not module.batch_first
    shape = rows[::-1] if turned else rows
    output = output[0] if isinstance(output, tuple) else output
    tokens = next((each for each in (*args, *kwargs.values()) if _has_tokens(each, shape)), None)
    if tokens is None or not _has_tokens(output, shape):
        return None
    if any(each is not tokens and _has_tokens(each, shape) for each in (*args, *kwargs.values())):
        return None  # by which of them G would be is not known, and it would lack what comes through the others
    frame, patch = table.frame[0].flatten(), table.patch[0].flatten()
    real = frame >= 0
    order = (frame * table.patches + patch).masked_fill(~real, table.frames * table.patches).argsort(stable=True)
    used = order[: int(real.sum())]
    count = torch.bincount(frame[real], minlength=table.frames)
    if len(set(count.tolist())) != 1:
        return None
    return ModuleSite(module, args, kwargs, tokens, output, used.reshape(table.frames, -1).to(output.device), turned)


def _has_tokens(values: Any, shape: tuple[int, int]) -> bool:
    return isinstance(values, Tensor) and values.is_floating_point() and values.ndim == 3 and values.shape[:2] == shape


class _Reached(Exception):  # noqa: N818  # no error: a pass that has come far enough
    """What the module that was waited for is given."""


def tokens_given(module: nn.Module, place: tuple[str, ModuleSite], inputs: Inputs) -> Float[Tensor, "frames numbers"]:
    """The tokens of each frame that one of a module's submodules is given first, of any inputs; the pass ends there.

    Args:
        module: the outermost.
        place: path of the submodule, and its site in another pass.
        inputs: of the module.
    """
    path, site = place

    def stop(each: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        named = dict(enumerate(args)) | kwargs
        known = dict(enumerate(site.args)) | site.kwargs
        raise _Reached(next(named[name] for name, value in known.items() if value is site.tokens))

    hook = module.get_submodule(path).register_forward_pre_hook(stop, with_kwargs=True)
    try:
        with torch.no_grad():
            call_module(module, inputs)
    except _Reached as reached:
        return site.by_frame(reached.args[0]).flatten(1)
    finally:
        hook.remove()
    raise RecordError(f"{path} was not called: the module makes other calls of other numbers")


def norms_of(
    site: ModuleSite, frames: Float[Tensor, "frames numbers"], probes: Probes
) -> tuple[Float[Tensor, "query key"], Float[Tensor, "query key"]]:
    """G of one attention module, and its standard error, which is 0 where it is exact."""
    if probes.count is None:
        norms = autograd_norms(site.replaced, frames, probes.max_bytes)
        return norms, torch.zeros_like(norms)
    return sampled_norms(site.replaced, frames, probes.count, probes.seed, probes.max_bytes)
