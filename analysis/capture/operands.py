"""Which call of torch is a product of a followed map with values, and of what."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from analysis.capture.followed import FollowedMap, TensorTable
from analysis.capture.map_calls import MapCall
from analysis.capture.operations import PRODUCTS
from analysis.capture.products import Product, einsum_operands, einsum_product, matrix_product

__all__ = ["operands_of", "product_of"]


def operands_of(call: MapCall) -> Sequence[Tensor]:
    """Of a product of matrices, or an einsum; none where a call is neither."""
    if call.func in PRODUCTS or call.func is torch.einsum:
        return call.tensors
    if call.func is torch.Tensor.__rmatmul__:
        return call.tensors[::-1]
    if call.func is F.linear and not call.weighted_by_parameters and len(call.tensors) == 2:
        return (call.tensors[0], call.tensors[1].mT)
    return ()


def product_of(call: MapCall, operands: Sequence[Tensor], known: TensorTable[FollowedMap]) -> Product | None:
    """The product of a map with values; None: one that is not understood, or none.

    Args:
        call: it.
        operands: its, in the order in which they are multiplied.
        known: the maps that are followed.
    """
    if len(operands) != 2:
        return None
    maps = known.get(operands[0]), known.get(operands[1])
    if call.func is not torch.einsum:
        return matrix_product(operands[0], operands[1], maps, call.result)
    equation = einsum_operands(call.args)[0]
    for own, each in enumerate(maps):
        if each is not None and each.key is not None and isinstance(equation, str):
            return einsum_product(equation, own, each, (operands[0], operands[1]), call.result)
    return None
