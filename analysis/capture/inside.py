"""What `F.multi_head_attention_forward` computed inside: Q, K, V, weights and contexts of its heads, as they were made.

The call is one to whoever watches functions of torch. Below it, where kernels are called, the attention of its heads is
seen, so that neither projection is computed again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from analysis.capture.maps import GivenMaps, ScoredMaps, TokenMaps

__all__ = ["InsideAttention"]

_SOFTMAXES = ("aten::_softmax", "aten::_safe_softmax", "aten::softmax")
_PRODUCTS = ("aten::bmm", "aten::matmul")
_SAME = ("aten::_to_copy", "aten::to", "aten::view", "aten::_unsafe_view", "aten::expand", "aten::clone")


class InsideAttention(TorchDispatchMode):
    """Sees the kernels of one call of `F.multi_head_attention_forward`.

    Args:
        batch: of the call.
    """

    def __init__(self, batch: int) -> None:
        super().__init__()
        self._batch = batch
        self._weights = WeakIdKeyDictionary()
        self._attentions: list[Callable[[], TokenMaps]] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Where torch would mark each call as none to compile, which loads its compiler: a second, for nothing here."""
        return False

    def maps(self) -> TokenMaps | None:
        """The map of its heads, (batch, heads, ...); None: not one attention that is known."""
        return self._attentions[0]() if len(self._attentions) == 1 else None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name
        if "scaled_dot_product" in name:
            output = result[0] if isinstance(result, tuple) else result
            self._attentions.append(partial(_fused, func, args, kwargs or {}, output))
        elif name in _SOFTMAXES:
            self._weights[result] = result
        elif name in _SAME and args[0] in self._weights:
            self._weights[result] = self._weights[args[0]]
        elif name in _PRODUCTS and args[0] in self._weights:
            self._attentions.append(partial(self._written_out, self._weights[args[0]], args[0], args[1], result))
        return result

    def _written_out(self, weights: Tensor, operand: Tensor, value: Tensor, output: Tensor) -> TokenMaps:
        """The map of a softmax and a product of matrices, whose first axis is batch x heads."""
        weights = operand if weights is operand else weights.reshape(operand.shape)
        by_head = {each: each.unflatten(0, (self._batch, -1)) for each in (weights, operand, value, output)}
        return GivenMaps(by_head[weights], by_head[operand], by_head[value], by_head[output])


def _fused(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> TokenMaps:
    """The map of any of torch's fused kernels, by the names of its arguments."""
    values = dict(zip((each.name for each in func._schema.arguments), args, strict=False)) | kwargs
    query, scale = values["query"], values.get("scale")
    mask = values.get("attn_mask", values.get("attn_bias"))
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    return ScoredMaps(query, values["key"], values["value"], output, factor, mask, bool(values.get("is_causal", False)))
