"""Forward hooks, and `forward` methods put on single modules: whether they change what an analysis goes around."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from gmsa_models.errors import ArgumentError
from gmsa_models.evaluating import evaluating

__all__ = ["check_hooks", "is_plain_linear", "plain_weight"]

Model = TypeVar("Model", bound=nn.Module)

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def check_hooks(model: Model, passed_by: Collection[nn.Module], run: Callable[[Model], Tensor]) -> None:
    """Refuse a model whose hooks change what it gives, where an analysis goes around them.

    Hooks that only read are let through: with and without them the numbers are the same to the bit.

    Args:
        model: what is analysed.
        passed_by: modules in it whose hooks and `forward` the analysis does not call.
        run: a pass of the model, which is given as a replica in evaluation mode.

    Raises:
        ArgumentError: hooks or methods that change the numbers; the message names their modules.
    """
    changed = {id(module) for module in passed_by if _is_changed(module)}
    if not changed:
        return
    names = [name for name, module in model.named_modules(remove_duplicate=False) if id(module) in changed]
    with evaluating(model) as replica, torch.no_grad():
        given, plain = run(replica), run(_without_hooks(replica, names))
    if given.shape == plain.shape and torch.allclose(given, plain, rtol=0.0, atol=0.0, equal_nan=True):
        return
    where = ", ".join(name or f"the whole {type(model).__name__}" for name in names)
    raise ArgumentError(
        f"a forward hook, or a forward method of its own, changes what the model gives: at {where}. This analysis does "
        "not pass through it; remove it, and make the change with edits"
    )


def is_plain_linear(module: nn.Module) -> bool:
    """Whether a layer computes what its weights say, with a parametrisation or without: no wrapper, no hooks."""
    return type(module).forward is nn.Linear.forward and not _is_changed(module)


def plain_weight(linear: nn.Module, name: str) -> Tensor:
    """The weights of a layer, for what is computed of them without the layer.

    Raises:
        ArgumentError: the layer computes something else, see `is_plain_linear`.
    """
    if not is_plain_linear(linear):
        raise ArgumentError(
            f"{name} of an attention block is a {type(linear).__name__} that computes something else than its weights "
            "say (a wrapper, a forward hook or a forward method of its own); this analysis takes the weights alone"
        )
    return cast(nn.Linear, linear).weight


def _is_changed(module: nn.Module) -> bool:
    own = vars(module)
    return "forward" in own or any(own[name] for name in _HOOKS)


def _without_hooks(module: Model, names: Collection[str], place: str = "") -> Model:
    """A module over the same parameters; those of these names without hooks, with the `forward` of their class."""
    inner = {
        name: each and _without_hooks(each, names, f"{place}.{name}".lstrip("."))
        for name, each in module._modules.items()
    }
    result = module.__new__(type(module))
    result.__dict__ = {**module.__dict__, "_modules": inner}
    if place in names:
        result.__dict__ |= {name: OrderedDict() for name in _HOOKS}
        result.__dict__.pop("forward", None)
    return result
