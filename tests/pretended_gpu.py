"""A pretended GPU: tensors that say they are on a device of their own and are computed on the CPU.

As on a GPU, an operation on tensors of two devices is an error (numbers of no dimension, and places to look up, may be
on the CPU), and so are numpy's view of a tensor and a random generator of the CPU. Where a pass goes through here, it
makes no tensor on the wrong device; what kernels of a GPU compute is not tested. The device's name is torch's "meta",
the only one beside "cpu" that every build of torch knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

__all__ = ["GPU", "move", "pretended_gpu"]

GPU = torch.device("meta")
aten = torch.ops.aten
# They take tensors of both devices, as on a GPU.
BOTH = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default,
        aten.copy_.default, aten._to_copy.default}  # fmt: skip
ATTENTION_FORM = aten._fused_sdp_choice.default


class OnGPU(Tensor):
    """A tensor that says it is on the GPU; `held` is on the CPU."""

    @staticmethod
    def __new__(cls, held: Tensor) -> OnGPU:
        return Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=GPU, requires_grad=held.requires_grad,
        )  # fmt: skip

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def tolist(self):
        """Numbers come to the CPU by themselves, as from a GPU."""
        return self.held.tolist()

    def __format__(self, spec):
        """Likewise where they are written."""
        return format(self.held, spec)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _computed(func, args, kwargs or {})


class _Factories(TorchDispatchMode):
    """New tensors, and copies, that are asked for on the GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _computed(func, args, kwargs or {})


def _is_gpu(device) -> bool:
    return device is not None and torch.device(device) == GPU


def _computed(func, args, kwargs):
    tensors = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, Tensor)]
    here, there = ([each for each in tensors if isinstance(each, OnGPU) is on] for on in (False, True))
    if there and func not in BOTH and any(each.dim() for each in here):
        raise RuntimeError(f"{func}: tensors on the GPU and on the CPU")
    asked = kwargs.get("device")
    on_gpu = bool(there) if asked is None else _is_gpu(asked)
    if on_gpu and getattr(kwargs.get("generator"), "device", GPU).type == "cpu":
        raise RuntimeError(f"{func}: a generator of the CPU for a tensor on the GPU")
    if func is ATTENTION_FORM:
        return 0  # of plain operations
    positional, named = tree_map(lambda each: each.held if isinstance(each, OnGPU) else each, (args, kwargs))
    result = func(*positional, **named | ({} if asked is None else {"device": torch.device("cpu")}))
    if not on_gpu:
        return result
    wrapped = tree_map(lambda each: OnGPU(each) if isinstance(each, Tensor) else each, result)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if there and asked is None else wrapped


def move(module: nn.Module) -> nn.Module:
    """The module with its weights on the GPU."""
    for each in module.modules():
        for name, weight in each._parameters.items():
            each._parameters[name] = None if weight is None else nn.Parameter(OnGPU(weight.data))
        for name, weight in each._buffers.items():
            each._buffers[name] = None if weight is None else OnGPU(weight)
    return module


@contextmanager
def pretended_gpu() -> Iterator[torch.device]:
    """The device, in the thread that enters it; what torch does not send to `__torch_dispatch__` is replaced."""
    tensor, one_hot, autocast, autocast_type = (
        torch.tensor, nn.functional.one_hot, torch.autocast, torch.get_autocast_dtype,
    )  # fmt: skip

    def new_tensor(data, *, device=None, **options):
        made = tensor(data, device=None if _is_gpu(device) else device, **options)
        return OnGPU(made) if _is_gpu(device) else made

    replaced = {
        "torch.tensor": new_tensor,
        "torch.nn.functional.one_hot": lambda t, n: (
            OnGPU(one_hot(t.held, n)) if isinstance(t, OnGPU) else one_hot(t, n)
        ),
        "torch.autocast": lambda kind, **options: nullcontext() if _is_gpu(kind) else autocast(kind, **options),
        "torch.get_autocast_dtype": lambda kind: autocast_type("cpu" if _is_gpu(kind) else kind),
        # Only this thread is of the pretended device.
        "analysis.explanations.registry.map_in_threads": lambda function, items: [function(each) for each in items],
        "analysis.explanations.faithfulness.map_in_threads": lambda function, items: [function(each) for each in items],
    }
    with _Factories():
        for name, other in replaced.items():
            mock.patch(name, other).start()
        try:
            yield GPU
        finally:
            mock.patch.stopall()
