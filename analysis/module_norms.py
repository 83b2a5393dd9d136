"""G of one module that attends, by every way of the frames into it: by its tokens alone, or it is not known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from analysis.capture.adapter import Inputs
from analysis.capture.state import copied, kept_random_numbers, kept_state
from analysis.errors import RecordError
from analysis.module_inputs import other_inputs
from analysis.module_runs import Change, end_of_run, evaluating_module, is_same
from analysis.module_sites import ModuleSite, Probes, arguments_of
from analysis.sensitivity.autograd import autograd_norms, sampled_norms
from analysis.sensitivity.differences import derivative_gap

__all__ = ["site_norms"]

ALONE = 8.0  # units of rounding, of the same: another run of the same numbers
MOVED = 2.0  # the same: what is computed of the same numbers is the same


def site_norms(
    module: nn.Module, inputs: Inputs, name: str, site: ModuleSite | None, probes: Probes
) -> tuple[Float[Tensor, "query key"], Float[Tensor, "query key"]]:
    """G over all numbers of a frame's tokens, and its standard error, which is 0 where it is exact.

    Args:
        module, inputs: see `analysis.inspect_module`.
        name: of the call.
        site: of it, in a pass of these inputs; None: not known.
        probes: how it is computed.

    Raises:
        RecordError: no site, several outputs, a module that by itself does not return what it did in the pass, tokens
            of another order than the call's, frames that reach the module in another way, or derivatives that cannot be
            had or are not those of what the module computes.
    """
    if site is None:
        raise RecordError(
            f"{name} is not given tokens, or queries, keys and values as tensors of their own, or on which axes they "
            "are is not told by other numbers, so that its gradient norms are not known: leave out the part "
            "'sensitivity'"
        )
    if site.several:
        raise RecordError(
            f"{name}: its module returns several tensors that are made of its attention, so that of which its gradient "
            "norms are is not known: leave out the part 'sensitivity', or let it return one"
        )
    with evaluating_module(module):
        _check_alone(site)
        site = _by_tokens_alone(module, inputs, site)
        site.check_tokens(name)
        frames = site.input_frames(site.tokens).flatten(1)
        try:
            _check_derivatives(site, frames, name)
            if probes.count is None:
                norms = autograd_norms(site.replaced, frames, probes.max_bytes)
                return norms, torch.zeros_like(norms)
            return sampled_norms(site.replaced, frames, probes.count, probes.seed, probes.max_bytes)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # of autograd, whose words are of its own inside
            raise RecordError(
                f"{name}: {type(site.known.module).__name__} cannot be differentiated by its tokens "
                f"({str(error).splitlines()[0]:.150}), as where it runs under no_grad or inference_mode, by numpy, or "
                "in a reentrant checkpoint; its gradient norms are not known: leave out the part 'sensitivity'"
            ) from error


def _check_alone(site: ModuleSite) -> None:
    """Refuse a module that, run by itself with what it was given in the pass, returns something else.

    Raises:
        RecordError: it does, or it cannot be run so.
    """
    name = site.run[0] or type(site.known.module).__name__
    try:
        with torch.no_grad():
            output = site.again(site.tokens)
            if not isinstance(output, Tensor):
                raise TypeError(f"it returns {type(output).__name__}")
    except Exception as error:  # whatever it lacks outside the pass
        raise RecordError(
            f"{name} cannot be run by itself ({type(error).__name__}: {str(error)[:120]}), so that its gradient norms "
            "are not known: leave out the part 'sensitivity'"
        ) from error
    if not is_same(site.output, output, ALONE):
        moved = "" if output.shape != site.output.shape else f" by {float((output - site.output).abs().max()):.2g}"
        raise RecordError(
            f"{name}: run by itself, with the same arguments and attributes, it returns other numbers{moved} than in "
            "the pass: forward pre-hooks change what it is given (they come twice then), it draws random numbers, it "
            "runs under autocast there, or what it does depends on something outside it. Its gradient norms cannot be "
            "had: leave out the part 'sensitivity', or put that into the module that attends"
        )


def _check_derivatives(site: ModuleSite, frames: Float[Tensor, "frames numbers"], name: str) -> None:
    """Refuse a module whose gradients are not the derivatives of what it returns, by finite differences.

    Raises:
        RecordError: they are not.
    """
    gap = derivative_gap(site.replaced, frames)
    if gap > 0:
        raise RecordError(
            f"{name}: the gradients of {type(site.known.module).__name__} are not the derivatives of what it returns: "
            f"along a random direction they differ from finite differences by {gap:.2g} of what moves, as where a part "
            "is detached or runs under no_grad, a hook changes gradients, or a function has a backward of its own. Its "
            "gradient norms would be of another function: leave out the part 'sensitivity'"
        )


def _by_tokens_alone(module: nn.Module, inputs: Inputs, site: ModuleSite) -> ModuleSite:
    """The site, with every argument that is a copy of its tokens.

    The module runs with other inputs, and the site is given its old tokens: it must return what it did.

    Args:
        module: the outermost, in evaluation mode.
        inputs: of one clip.
        site: in a pass of them.

    Raises:
        RecordError: what the site returns moves all the same, as where its keys are made of the frames elsewhere.
    """
    known, _ = tree_flatten((site.known.args, site.known.kwargs))
    copies, same_tokens = list(site.copies), site.tokens.clone()

    def restore(received: list[Any]) -> list[Any]:
        tokens = received[site.copies[0]]
        for number, each in enumerate(received):
            if number < len(known) and _same(known[number], site.tokens) and _same(each, tokens):
                copies.extend([number] if number not in copies else [])
        return [same_tokens if number in copies else each for number, each in enumerate(received)]

    name, output = site.run[0] or type(module).__name__, None
    for others in other_inputs(arguments_of(inputs)):
        output = _output_for(module, others, site, restore)
        if output is not None:
            break
        copies[:] = site.copies
    if output is None:
        raise RecordError(f"{name} is not run alike for other inputs, so that its gradient norms are not known")
    if not is_same(site.output, output, MOVED):
        moved = float((site.output - output).abs().nan_to_num().max())
        raise RecordError(
            f"{name}: what it returns moves by {moved:.2g} with the input while its tokens stay: the frames reach it "
            "in another way too (keys and values made of them elsewhere, a second argument, an attribute), so that its "
            "gradient norms by its tokens would not be all: leave out the part 'sensitivity', or put what makes its "
            "keys and values into the module that attends"
        )
    return replace(site, copies=tuple(copies))


def _output_for(
    module: nn.Module, arguments: tuple[tuple[Any, ...], dict[str, Any]], site: ModuleSite, restore: Change
) -> Tensor | None:
    """What a site returns in a pass of other arguments, with its tokens put back; None: it is not run alike."""
    args, kwargs = copied(arguments)
    try:
        with kept_state(module), kept_random_numbers():
            reached = end_of_run(module, lambda: module(*args, **kwargs), site.run, restore)
    except Exception:  # whatever a module does that other numbers are no input for
        return None
    output = None if reached is None else site.output_of(reached[1])
    return output if isinstance(output, Tensor) and output.shape == site.output.shape else None


def _same(one: Any, other: Any) -> bool:
    return (
        isinstance(one, Tensor)
        and isinstance(other, Tensor)
        and (one is other or (one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)))
    )
