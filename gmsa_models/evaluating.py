"""A model as it is evaluated: its weights without dropout and gradients, whatever the caller's settings of torch."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

__all__ = ["evaluating", "evaluation_replica", "float32_by_default", "original_of", "standard_contexts"]

Model = TypeVar("Model", bound=nn.Module)

_ORIGINAL = "_evaluated_original"  # attribute of a replica's modules: a weak reference
_BLOCK = "_evaluated_block"  # attribute of a replica inside its block: the thread, and whether it is widened


@contextmanager
def evaluating(model: Model, *, widen: bool = False) -> Iterator[Model]:
    """`evaluation_replica` of a model, inside `standard_contexts`.

    Blocks may be nested: given the replica of a block around it, in the same thread, a block takes that one.

    Args:
        model: is not touched: see `evaluation_replica`.
        widen: see `evaluation_replica`.
    """
    thread = threading.get_ident()
    with standard_contexts():
        if model.__dict__.get(_BLOCK) in ((thread, True), (thread, widen)):
            yield model
            return
        replica = evaluation_replica(model, widen=widen)
        replica.__dict__[_BLOCK] = (thread, widen)
        try:
            yield replica
        finally:
            replica.__dict__[_BLOCK] = None


def evaluation_replica(model: Model, *, widen: bool = False) -> Model:
    """Another model over the same weights, in evaluation mode, whose parameters take no gradient.

    The model itself is not touched, on no account: every module keeps its mode and every parameter its `requires_grad`
    and gradient. So any number of threads may evaluate one model, and train it meanwhile. The weights are shared, so a
    replica computes with what they are at the moment: where another thread's optimiser steps during a pass, the pass
    may take some parameters from before the step and some from after it. Evaluate a deep copy where that matters.

    Args:
        model: hooks stay on the replica. A parameter that is replaced (by `to`, not by an optimiser or
            `load_state_dict`, which write into it) is replaced in the model alone.
        widen: in float32 where the model is in half precision (bfloat16 or float16): each weight is the same number, in
            its own memory, and whatever is computed from it is rounded as in float32.

    Returns:
        Of the model's class. Parameters that were made in inference mode are copied, so that gradients can pass.
    """
    tensors: dict[int, Tensor] = {}
    modules: dict[int, nn.Module] = {}

    def weight(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        if id(tensor) not in tensors:
            tensors[id(tensor)] = _weight(tensor, widen)
        return tensors[id(tensor)]

    def replica(module: nn.Module | None) -> nn.Module | None:
        if module is None:
            return None
        if id(module) not in modules:
            result = modules[id(module)] = module.__new__(type(module))
            # captum adds hooks of its own
            hooks = {name: each.copy() for name, each in module.__dict__.items() if "_hooks" in name}
            result.__dict__ = {
                **module.__dict__,
                **hooks,
                "training": False,
                _ORIGINAL: weakref.ref(original_of(module)),
                _BLOCK: None,
                "_parameters": {name: weight(each) for name, each in module._parameters.items()},
                "_buffers": {name: weight(each) for name, each in module._buffers.items()},
                "_modules": {name: replica(each) for name, each in module._modules.items()},
            }
        return modules[id(module)]

    with torch.inference_mode(False), torch.no_grad():
        return cast(Model, replica(model))  # a replica has the class of its original


def original_of(module: nn.Module) -> nn.Module:
    """The module that a replica was made of, for what is kept from one evaluation to the next; else the module."""
    reference = module.__dict__.get(_ORIGINAL)
    return (reference and reference()) or module


@contextmanager
def standard_contexts() -> Iterator[None]:
    """Contexts of torch as in a new thread, but for gradients, which are off until `torch.enable_grad`.

    Inside, no `torch.autocast`, `torch.inference_mode`, `torch.no_grad` or default device of the caller's holds; after
    it they hold again. They are settings of a thread, so no other thread is affected.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        if torch.get_default_device().type != "cpu":  # entered only where needed: it slows every operation
            stack.enter_context(torch.device("cpu"))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def float32_by_default() -> Iterator[None]:
    """New floating-point tensors are of float32 inside, whatever the caller's default type.

    It is a setting of the process, not of a thread; it is touched only where it is another one.
    """
    before = torch.get_default_dtype()
    if before == torch.float32:
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _weight(tensor: Tensor, widen: bool) -> Tensor:
    """Another tensor over the same memory; to be called outside inference mode."""
    alias = tensor.clone() if tensor.is_inference() else tensor.detach()
    if widen and tensor.is_floating_point():
        alias = alias.to(torch.promote_types(tensor.dtype, torch.float32))
    return nn.Parameter(alias, requires_grad=False) if isinstance(tensor, nn.Parameter) else alias
