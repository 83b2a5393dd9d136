"""Operators of torch by their names below: those that are attention, and those inside which no call is seen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from analysis.capture.intercept import scaled_dot_product
from analysis.capture.maps import TokenMaps
from analysis.capture.operations import function_name

__all__ = ["KERNELS", "NATIVE", "PLAIN", "is_operator", "may_attend"]

_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
_NAMES = (
    "scaled_dot_product_attention",
    "_scaled_dot_product_attention_math",
    "_scaled_dot_product_attention_math_for_mps",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_fused_attention_overrideable",
)
_WORDS = ("attention", "attn", "sdpa")
_OWN = ("aten", "prim", "prims", "quantized")  # of torch, each of which is one known step
_DATA: Any = torch.Tensor.data  # an attribute
# Of functions and methods of torch; an operator has another.
PLAIN = frozenset(
    type(each) for each in (torch.matmul, torch.Tensor.matmul, torch.Tensor.__getitem__, _DATA.__get__, function_name)
)
_OPERATORS = (torch._ops.OpOverload, torch._ops.OpOverloadPacket, torch._ops.HigherOrderOperator)
# Whole modules of torch as one function, which nn.MultiheadAttention and nn.TransformerEncoderLayer do not call here.
NATIVE = {
    getattr(torch, name)
    for name in ("_native_multi_head_attention", "_transformer_encoder_layer_fwd", "_triton_multi_head_attention")
    if hasattr(torch, name)
}


def _kernel(names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
    """The map of a kernel, and the dropout that was on in it, by the names of its arguments."""
    values = dict(zip(names, args, strict=False)) | kwargs
    if "attn_bias" in values:
        values["attn_mask"] = values.pop("attn_bias")
    named = {name: values[name] for name in _ARGUMENTS if name in values}
    return scaled_dot_product((), named, result[0] if isinstance(result, tuple) else result)


def _kernels() -> dict[Any, Callable[..., tuple[TokenMaps, float]]]:
    readers: dict[Any, Callable[..., tuple[TokenMaps, float]]] = {}
    for name in _NAMES:
        packet = getattr(torch.ops.aten, name, None)
        if packet is None:
            continue
        overloads = [getattr(packet, each) for each in packet.overloads()]
        read = partial(_kernel, tuple(each.name for each in overloads[0]._schema.arguments))
        own = [getattr(torch, name)] if hasattr(torch, name) else []
        readers |= dict.fromkeys((packet, *overloads, *own), read)
    return readers


# Kernel of fused attention -> what reads its map.
KERNELS = _kernels()


def is_operator(func: Any) -> bool:
    """Whether a function is an operator of torch's registry, of torch or of another library."""
    return type(func) not in PLAIN and isinstance(func, _OPERATORS)


def may_attend(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> bool:
    """Whether an operator may be attention, or run some, that is not seen: by its name, its functions, its sizes.

    Args:
        func: that is no kernel which is known.
        args, kwargs, result: of its call.
    """
    name = function_name(func).lower()
    if func in NATIVE or any(word in name for word in _WORDS):
        return True
    if isinstance(func, torch._ops.HigherOrderOperator):
        return any(callable(each) and not isinstance(each, Tensor) and _has_softmax(each) for each in args)
    if str(func).partition(".")[0] in _OWN:
        return False
    inputs = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor) and each.is_floating_point()]
    output = result[0] if isinstance(result, tuple | list) and result else result
    if len(inputs) < 3 or not isinstance(output, Tensor):
        return False
    query, key, value = inputs[:3]
    return (
        min(each.ndim for each in (query, key, value, output)) > 1
        and query.shape[-1] == key.shape[-1]
        and key.shape[:-1] == value.shape[:-1]
        and output.shape == (*query.shape[:-1], value.shape[-1])
    )


def _has_softmax(function: Any) -> bool:
    """Whether a branch of an operator has a softmax; one that is no graph may have."""
    if not isinstance(function, torch.fx.GraphModule):
        return True
    names = [str(node.target).lower() for each in function.modules() if isinstance(each, torch.fx.GraphModule)
             for node in each.graph.nodes]  # fmt: skip
    return any(word in name for name in names for word in ("softmax", *_WORDS))
