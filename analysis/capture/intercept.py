"""What a fused attention call was given, as the map that it computed: SDPA, multi-head attention, flex_attention."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from analysis.capture.errors import CaptureError
from analysis.capture.inside import InsideAttention
from analysis.capture.maps import Rows, ScoredMaps

__all__ = ["flex", "inside_multi_head", "multi_head", "refuse_empty", "refuse_unreadable", "scaled_dot_product"]

_MULTI_HEAD = inspect.signature(F.multi_head_attention_forward)
_SDPA = inspect.Signature(
    [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)
        for name, default in (
            ("query", inspect.Parameter.empty),
            ("key", inspect.Parameter.empty),
            ("value", inspect.Parameter.empty),
            ("attn_mask", None),
            ("dropout_p", 0.0),
            ("is_causal", False),
            ("scale", None),
            ("enable_gqa", False),
        )
    ]
)


def scaled_dot_product(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> tuple[ScoredMaps, float]:
    """The map of `F.scaled_dot_product_attention`, and the dropout that was on in it.

    Args:
        args, kwargs: of the call.
        output: what it returned.
    """
    signature = _SDPA.bind(*args, **kwargs)
    signature.apply_defaults()
    bound = signature.arguments
    query, key, value, dropout = bound["query"], bound["key"], bound["value"], bound["dropout_p"]
    if dropout > 0:
        output = F.scaled_dot_product_attention(**{**bound, "dropout_p": 0.0})
    if bound["enable_gqa"]:
        key, value = (each.repeat_interleave(query.shape[-3] // each.shape[-3], -3) for each in (key, value))
    if not query.shape[:-2] == key.shape[:-2] == value.shape[:-2]:
        lead = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
        query, key, value = (each.expand(*lead, *each.shape[-2:]) for each in (query, key, value))
    factor = query.shape[-1] ** -0.5 if bound["scale"] is None else bound["scale"]
    return ScoredMaps(query, key, value, output, factor, bound["attn_mask"], bound["is_causal"]), dropout


def inside_multi_head(args: tuple[Any, ...], kwargs: dict[str, Any]) -> InsideAttention | None:
    """What sees the kernels of a call of `F.multi_head_attention_forward`; None where they are not those of its map.

    Args:
        args, kwargs: of the call.
    """
    bound = _MULTI_HEAD.bind(*args, **kwargs)
    bound.apply_defaults()
    values = bound.arguments
    query = values["query"]
    dropped = values["training"] and values["dropout_p"] > 0
    if dropped or torch._C._functorch.is_functorch_wrapped_tensor(query):  # one has a batch that is not seen
        return None
    return InsideAttention(query.shape[1] if query.ndim == 3 else 1)


def multi_head(args: tuple[Any, ...], kwargs: dict[str, Any], result: tuple[Any, ...]) -> tuple[ScoredMaps, float]:
    """The map of `F.multi_head_attention_forward` (which `nn.MultiheadAttention` calls), and its dropout if it is on.

    Args:
        args, kwargs: of the call.
        result: what it returned: output, and weights or None.
    """
    bound = _MULTI_HEAD.bind(*args, **kwargs)
    bound.apply_defaults()
    values = bound.arguments
    dropout = values["dropout_p"] if values["training"] else 0.0
    output = result[0]
    if dropout > 0:
        output = F.multi_head_attention_forward(**{**values, "training": False})[0]
    if values["query"].ndim == 2:
        output = output.unsqueeze(1)
    query, key, value = _projected(values, output.dtype)
    out_weight, out_bias = values["out_proj_weight"], values["out_proj_bias"]
    bias = _bias(values, len(query), query.shape[-2], key.shape[-2])

    def project(contexts: Float[Tensor, "batch heads rows dim"]) -> Float[Tensor, "batch rows embedding"]:
        weight = out_weight.to(output.dtype).to(contexts)
        added = None if out_bias is None else out_bias.to(output.dtype).to(contexts)
        return F.linear(contexts.transpose(1, 2).flatten(2), weight, added)

    maps = ScoredMaps(query, key, value, output.transpose(0, 1), query.shape[-1] ** -0.5, bias, project=project)
    maps.scale = max(maps.scale, float(output.abs().nan_to_num().amax()))
    return maps, dropout


def _projected(bound: dict[str, Any], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Q, K and V (batch, heads, tokens, head dim), with the added keys that the module asks for."""
    tokens = [each.unsqueeze(1) if each.ndim == 2 else each for each in (bound["query"], bound["key"], bound["value"])]
    packed = not bound["use_separate_proj_weight"]
    weights = bound["in_proj_weight"].chunk(3) if packed else [bound[f"{name}_proj_weight"] for name in "qkv"]
    biases = [None] * 3 if bound["in_proj_bias"] is None else bound["in_proj_bias"].chunk(3)
    query, key, value = (
        F.linear(each.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype))
        for each, weight, bias in zip(tokens, weights, biases, strict=True)
    )
    if bound["bias_k"] is not None:
        key, value = (
            torch.cat([each, extra.expand(1, each.shape[1], -1)])
            for each, extra in ((key, bound["bias_k"]), (value, bound["bias_v"]))
        )
    heads = bound["num_heads"]

    def split(each: Float[Tensor, "tokens batch embedding"]) -> Float[Tensor, "batch heads tokens dim"]:
        return each.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3)

    query, key, value = split(query), split(key), split(value)
    if bound["static_k"] is not None:
        key = bound["static_k"].unflatten(0, (-1, heads))
    if bound["static_v"] is not None:
        value = bound["static_v"].unflatten(0, (-1, heads))
    if bound["add_zero_attn"]:
        key, value = (F.pad(each, (0, 0, 0, 1)) for each in (key, value))
    return query, key, value


def _bias(bound: dict[str, Any], batch: int, queries: int, keys: int) -> Float[Tensor, ...] | None:
    """Both masks of the module as one that is added; there, a boolean True is a key that is left out."""
    total = None
    for name, mask in (("attn_mask", bound["attn_mask"]), ("key_padding_mask", bound["key_padding_mask"])):
        if mask is None:
            continue
        if mask.dtype == torch.bool:
            mask = torch.zeros(mask.shape, device=mask.device).masked_fill_(mask, -torch.inf)
        mask = F.pad(mask, (0, keys - mask.shape[-1]))
        if name == "key_padding_mask":
            mask = mask.reshape(-1, 1, 1, keys)
        elif mask.ndim == 3:
            mask = mask.reshape(batch, -1, queries, keys)
        total = mask if total is None else total + mask
    if total is None and bound["is_causal"]:
        total = torch.full((queries, keys), -torch.inf, device=bound["query"].device).triu_(1)
    return total


def flex(args: tuple[Any, ...], kwargs: dict[str, Any], result: tuple[Any, ...]) -> tuple[ScoredMaps, float]:
    """The map of an eager `flex_attention`: scores changed by its functions, then a softmax. It has no dropout.

    Args:
        args, kwargs: of the higher-order operator that it calls.
        result: what that returned: output first.
    """
    query, key, value, score_mod, block_mask, factor = args[:6]
    captured = args[7] if len(args) > 7 else kwargs.get("score_mod_other_buffers", ())
    masked = args[8] if len(args) > 8 else kwargs.get("mask_mod_other_buffers", ())
    mask_mod = block_mask[-1]
    repeats = query.shape[1] // key.shape[1]
    key, value = (each.repeat_interleave(repeats, 1).expand(len(query), -1, -1, -1) for each in (key, value))

    def modify(scores: Tensor, rows: Rows, heads: list[int] | None) -> Tensor:
        axes = [torch.arange(size, device=scores.device) for size in (*query.shape[:-1], key.shape[-2])]
        axes[1] = axes[1] if heads is None else axes[1][heads]
        axes[2] = axes[2][rows]
        changed = _over_all(score_mod, 5, (*captured,))(scores, *axes)
        allowed = _over_all(mask_mod, 4, (*masked,))(*axes)
        return changed.to(scores.dtype).masked_fill(~allowed, -torch.inf)

    return ScoredMaps(query, key, value, result[0], float(factor), modify=modify), 0.0


def _over_all(function: Callable[..., Tensor], arguments: int, others: tuple[Any, ...]) -> Callable[..., Tensor]:
    """A function of single entries as one of all: of a score, if it takes one, and of batch, head, query and key."""
    scored = [0] if arguments == 5 else []

    def call(*each: Tensor) -> Tensor:
        return function(*each, *others)

    for axis in (3, 2, 1, 0):
        places: list[int | None] = [None] * 4
        places[axis] = 0
        call = torch.vmap(call, in_dims=(*scored, *places))
    return call


def refuse_unreadable(args: tuple[Any, ...], kwargs: dict[str, Any], where: str) -> None:
    """A call on tensors whose numbers cannot be read is an error, before it is made.

    Such are jagged tensors, those of which `torch.vmap` makes several, those without numbers, and empty ones.

    Args:
        args, kwargs: of the call.
        where: which one, for the message.

    Raises:
        CaptureError: it is one.
    """
    tensors = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
    if any(each.is_nested for each in tensors):
        raise CaptureError(
            f"{where} was given jagged (nested) tensors, whose maps cannot be computed; give padded tensors and a mask"
        )
    if any(torch._C._functorch.is_batchedtensor(each) for each in tensors):
        raise CaptureError(
            f"{where} runs under torch.vmap, which hides an axis of its tensors; give the module's attention that axis "
            "as batch or heads, or capture what vmap maps by itself"
        )
    if any(each.is_meta for each in tensors):
        raise CaptureError(
            f"{where} was given tensors on the meta device, which have no numbers; give inputs on another, and load "
            "the module's weights (module.to_empty(device='cpu'), then load_state_dict)"
        )
    refuse_empty(tensors[0].shape if tensors else (), where)


def refuse_empty(shape: Sequence[int], where: str) -> None:
    """A call on nothing is an error.

    Args:
        shape: of what it was given, or of its map.
        where: which one, for the message.

    Raises:
        CaptureError: a size of it is 0.
    """
    if 0 in shape:
        raise CaptureError(
            f"{where} is of an empty batch, or of no tokens: it has the sizes {tuple(shape)}; give at least one clip "
            "of at least one token"
        )
