"""Forward hooks, wrapped layers and methods put on single modules: whether they change what an analysis goes around."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules import module as torch_module

from gmsa_models.errors import ArgumentError
from gmsa_models.evaluating import evaluating

__all__ = ["check_hooks", "is_changed", "is_plain_linear", "is_unchanged_linear", "plain_weight"]

Model = TypeVar("Model", bound=nn.Module)

# Of the type's precision: two ways through a model differ by its rounding, a hook that changes it by more.
_ROUNDING = 300.0


def check_hooks(
    model: Model,
    passed_by: Iterable[nn.Module],
    run: Callable[[Model], object],
    analysed: Callable[[Model], Tensor],
) -> None:
    """Refuse a model that computes something else than an analysis of it, which goes around some modules' `forward`.

    Only where one of these modules has hooks or methods of its own, or all modules have hooks, the two are compared:
    those that only read are let through. What they would do in other passes than this one is not known.

    Args:
        model: what is analysed.
        passed_by: modules in it whose `forward` and hooks the analysis does not call.
        run: a pass of the model, which is given as a replica in evaluation mode.
        analysed: the same numbers, as the analysis comes to them.

    Raises:
        ArgumentError: the numbers differ by more than rounding, or the pass fails; the message names the modules.
    """
    changed = {id(module) for module in passed_by if is_changed(module)}
    if not changed:
        return
    names = [name for name, module in model.named_modules(remove_duplicate=False) if id(module) in changed]
    where = ", ".join(name or f"the whole {type(model).__name__}" for name in names)
    with evaluating(model) as replica, torch.no_grad():
        expected = analysed(replica)
        try:
            output, plain = run(replica), run(_without_hooks(replica, names))
        except Exception as error:
            raise ArgumentError(
                f"a forward hook or method of its own fails in evaluation mode: at {where}: {type(error).__name__}: "
                f"{error}"
            ) from error
    # A hook may change what a norm after it takes away again: then the numbers are the same but for their last bits.
    if not _differ(output, expected, _ROUNDING) and not _differ(output, plain, 0.0):
        return
    raise ArgumentError(
        f"a forward hook, or a method of its own, changes what the model gives: at {where}. This analysis does not "
        "pass through it; remove it, and make the change with edits"
    )


def _differ(left: object, right: object, rounding: float) -> bool:
    """Whether two are not the same numbers, up to so many times the precision of their type."""
    if not isinstance(left, Tensor) or not isinstance(right, Tensor) or left.shape != right.shape:
        return True
    scale = float(right.abs().nan_to_num(0.0).max().clamp(min=1.0)) if right.numel() else 1.0
    tolerance = rounding * torch.finfo(right.dtype).eps * scale
    return not torch.allclose(left.double(), right.double(), rtol=0.0, atol=tolerance, equal_nan=True)


def _without_hooks(module: Model, names: Collection[str], place: str = "") -> Model:
    """A module over the same parameters; those of these names without hooks."""
    inner = {
        name: each and _without_hooks(each, names, f"{place}.{name}".lstrip("."))
        for name, each in module._modules.items()
    }
    result = module.__new__(type(module))
    result.__dict__ = {**module.__dict__, "_modules": inner}
    if place in names:
        result.__dict__ |= {"_forward_hooks": OrderedDict(), "_forward_pre_hooks": OrderedDict()}
    return result


def is_changed(module: nn.Module) -> bool:
    """Whether a module has forward hooks, its own or those of all modules, or a method in place of its class's."""
    own = vars(module)
    hooks = own["_forward_hooks"] or own["_forward_pre_hooks"] or torch_module._global_forward_hooks
    if hooks or torch_module._global_forward_pre_hooks:
        return True
    return any(callable(value) and hasattr(type(module), name) for name, value in own.items())


def is_unchanged_linear(module: nn.Module) -> bool:
    """Whether a layer is a `Linear`, with a parametrisation or without, that has no hooks and no methods of its own."""
    return type(module).forward is nn.Linear.forward and not is_changed(module)


def is_plain_linear(module: nn.Module) -> bool:
    """Whether a layer computes what its weights say; of one with hooks, or of another class, some numbers are tried."""
    if is_unchanged_linear(module):
        return True
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        return False
    with torch.no_grad():
        tried = torch.linspace(-1.0, 1.0, 2 * weight.shape[1]).to(weight).reshape(1, 2, -1)
        try:
            output = module(tried)
        except Exception:  # a hook that cannot take these numbers: what it does to others is not known
            return False
        # The weights once more: a hook may set them, as the older normalisations of weights do.
        weight = cast(nn.Linear, module).weight
        return isinstance(output, Tensor) and torch.equal(output, functional.linear(tried, weight, bias))


def plain_weight(linear: nn.Module, name: str) -> Tensor:
    """The weights of a layer, for what is computed of them without the layer.

    Raises:
        ArgumentError: the layer computes something else, see `is_plain_linear`.
    """
    if not is_plain_linear(linear):
        raise ArgumentError(
            f"{name} is a {type(linear).__name__} that computes something else than its weights say (a wrapper, a "
            "forward hook or a forward method of its own); this analysis takes the weights alone"
        )
    return cast(nn.Linear, linear).weight
