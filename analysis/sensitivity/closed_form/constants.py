"""What the closed forms need of a block and not of a clip: products of its weight matrices, made once a block.

Symbols: docs/concepts/frame_sensitivity.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from analysis.chunking import chunks
from gmsa_models.attention import AttentionBlock, GatedOutputs
from gmsa_models.evaluating import original_of

__all__ = ["GateOpTables", "HeadPairs", "PlainTables", "clear_tables", "gate_op_tables", "plain_tables", "table_bytes"]

Matrix = Float[Tensor, "dim dim"]
HeadPairs = Float[Tensor, "heads head_dim heads head_dim"]
Tables = TypeVar("Tables")


@dataclass(frozen=True)
class PlainTables:
    """Constants of a block with one output matrix (Baseline, ShareAtt, GateAtt); index (m, a, n, b) is [a, b] of mn.

    Attributes:
        output_gram: C_mn.
        path_gram: <P_m, P_n>, Frobenius.
        key_gram: W_K^m (W_K^n)^T / d, so that w_i^m . w_i^n = q_i^m key_gram_mn q_i^n.
        query_gram: W_Q^m (W_Q^n)^T / d, so that kappa_k^m . kappa_l^n = k_k^m query_gram_mn k_l^n.
        key_query: W_K^m (W_Q^n)^T / d, so that w_i^m . kappa_k^n = q_i^m key_query_mn k_k^n.
        path_key: (W_O^m)^T P_n w_i^m = q_i^m path_key_mn.
        path_query: <P_n, W_O^m v (kappa_k^m)^T> = v path_query_mn k_k^m; index (m, a, n, b) with b in head m.
    """

    output_gram: HeadPairs
    path_gram: Float[Tensor, "heads heads"]
    key_gram: HeadPairs
    query_gram: HeadPairs
    key_query: HeadPairs
    path_key: HeadPairs
    path_query: HeadPairs


@dataclass(frozen=True)
class GateOpTables:
    """Constants of GateOp and GateOpScales: of frame i, branch b, the output matrix is diag(R_i) W^o + diag(E_i) W_g.

    The D x D matrices are W^o and W_g of each branch, global first, along an axis "matrix"; s and t count it. What
    a frame changes is only a factor for each output component c, so sums over input components are tables over c.

    Attributes:
        matrices: transposed: (s, m, a, c) is component c of what head m's input a gives under W_s.
        key_gram: as in `PlainTables`.
        key_query: as in `PlainTables`.
        value_key: (m, a, n, b) of W_V^m (W_K^n)^T / sqrt(d), so that W_V^m w_i^n = value_key_mn q_i^n.
        path_rows: (s, t, c, m, n): row c of W_s^m W_V^m times row c of W_t^n W_V^n.
        path_query_rows: (c, x, s m): row c of W_s^m W_V^m (W_Q)^T / sqrt(d), component x.
        query_factor: lower triangular L with L L^T = W_Q W_Q^T / d.
    """

    matrices: Float[Tensor, "matrix heads head_dim dim"]
    key_gram: HeadPairs
    key_query: HeadPairs
    value_key: HeadPairs
    path_rows: Float[Tensor, "matrix matrix dim heads heads"]
    path_query_rows: Float[Tensor, "dim dim matrix_heads"]
    query_factor: Matrix


# Of all tables and the weights that they were made from; beyond it those go that were used longest ago. At the paper's
# size those of one layer of GateOp take 192 MiB, and are made in less than a tenth of the time of its G.
MAX_TABLE_BYTES = 2**28
COMPONENTS_TOGETHER = 64  # output components of which products are made at once: enough for matrix products, in 8 MB

# Block -> the weights that its tables were made from, and the tables, of the kind that its class has; used last, last.
_TABLES: WeakKeyDictionary[nn.Module, tuple[tuple[Tensor, ...], Any]] = WeakKeyDictionary()
_LOCK = Lock()


def plain_tables(block: AttentionBlock) -> PlainTables:
    """Tables of a block whose only output matrix is `block.output`, from the cache if its weights are as they were."""
    return _cached(block, [block.query, block.key, block.value, block.output], _make_plain_tables, 10)


def gate_op_tables(block: GatedOutputs) -> GateOpTables:
    """Tables of a block that blends outputs, from the cache if its weights are as they were."""
    outputs = [linear for pair in block.branch_linears().values() for linear in pair]
    size = (block.heads + 2) * len(outputs) + 7 + (block.heads * len(outputs)) ** 2 // block.query.in_features
    return _cached(block, [block.query, block.key, block.value, *outputs], _make_gate_op_tables, size)


def clear_tables() -> None:
    """Forget every block's tables. They also go when their block goes."""
    _TABLES.clear()


def table_bytes(block: nn.Module) -> int:
    """Bytes that the cache holds for a block: tables and the weights that they were made from; 0 if it has none."""
    if (owner := original_of(block)) not in _TABLES:
        return 0
    weights, tables = _TABLES[owner]
    return sum(each.numel() * each.element_size() for each in (*weights, *vars(tables).values()))


def _cached(block: AttentionBlock, linears: list[nn.Linear], make: Callable[..., Tables], size: int) -> Tables:
    """Tables from the cache, made anew when a weight differs in any value, in type or in device.

    Values are compared, since neither versions nor addresses of parameters notice every way to change them.

    Args:
        size: of the tables and weights, in D x D matrices.
    """
    weights = tuple(linear.weight.detach() for linear in linears)
    known = _TABLES.get(owner := original_of(block))
    if known is None or not all(map(_same, known[0], weights)):
        # bfloat16 and float16 are widened: a sum of D squares needs more than 8 bits.
        wide = torch.promote_types(weights[0].dtype, torch.float32)
        with _LOCK:
            _TABLES.pop(owner, None)
            _make_room(size * weights[0].numel() * wide.itemsize)
        copies = tuple(weight.clone() for weight in weights)
        known = copies, make(block.heads, *(weight.to(wide) for weight in copies))
    with _LOCK:
        _TABLES.pop(owner, None)
        _make_room(sum(each.numel() * each.element_size() for each in (*known[0], *vars(known[1]).values())))
        _TABLES[owner] = known
    return known[1]


def _make_room(expected: int) -> None:
    """Forget the tables that were used longest ago, until so many bytes have room."""
    blocks = list(_TABLES)
    while blocks and expected + sum(map(table_bytes, blocks)) > MAX_TABLE_BYTES:
        _TABLES.pop(blocks.pop(0), None)


def _same(left: Tensor, right: Tensor) -> bool:
    return left.dtype == right.dtype and left.device == right.device and torch.equal(left, right)


def _make_plain_tables(heads: int, query: Matrix, key: Matrix, value: Matrix, output: Matrix) -> PlainTables:
    def pairs(matrix: Matrix) -> HeadPairs:
        return matrix.unflatten(1, (heads, -1)).unflatten(0, (heads, -1))

    head_dim = query.shape[0] // heads
    output_gram = pairs(output.T @ output)
    value_key, value_query = pairs(value @ key.T / head_dim**0.5), pairs(value @ query.T / head_dim**0.5)
    return PlainTables(
        output_gram=output_gram,
        path_gram=(output_gram * pairs(value @ value.T)).sum((1, 3)),
        key_gram=pairs(key @ key.T / head_dim),
        query_gram=pairs(query @ query.T / head_dim),
        key_query=pairs(key @ query.T / head_dim),
        path_key=torch.einsum("manb,nbmc->mcna", output_gram, value_key).contiguous(),
        path_query=torch.einsum("manb,nbmc->manc", output_gram, value_query).contiguous(),
    )


def _make_gate_op_tables(
    heads: int, query: Matrix, key: Matrix, value: Matrix, *outputs: Float[Tensor, "dim dim"]
) -> GateOpTables:
    def pairs(matrix: Matrix) -> HeadPairs:
        return matrix.unflatten(1, (heads, -1)).unflatten(0, (heads, -1))

    dim = query.shape[0]
    head_dim = dim // heads
    matrices = torch.stack([output.T for output in outputs]).unflatten(1, (heads, head_dim))
    return GateOpTables(
        matrices=matrices,
        key_gram=pairs(key @ key.T / head_dim),
        key_query=pairs(key @ query.T / head_dim),
        value_key=pairs(value @ key.T / head_dim**0.5),
        path_rows=_path_rows(matrices, pairs(value @ value.T)),
        path_query_rows=_path_query_rows(matrices, (value @ query.T / head_dim**0.5).unflatten(0, (heads, head_dim))),
        # Q from the right: W_Q / sqrt(d) = L Q with Q orthogonal, so that |Y W_Q| = sqrt(d) |Y L|.
        query_factor=torch.linalg.qr(query.T / head_dim**0.5, mode="r").R.T.contiguous(),
    )


def _path_rows(
    matrices: Float[Tensor, "matrix heads head_dim dim"], value_gram: HeadPairs
) -> Float[Tensor, "matrix matrix dim heads heads"]:
    """Row c of W_s^m W_V^m times row c of W_t^n W_V^n, one head m at a time."""
    count, heads, head_dim, dim = matrices.shape
    rows = matrices.new_empty(count, count, dim, heads, heads)
    others = matrices.permute(3, 1, 2, 0).contiguous()  # (c, n, b, t)
    for head, each in enumerate(value_gram):
        own = matrices[:, head].permute(2, 0, 1).flatten(0, 1) @ each.flatten(1)
        moved = own.unflatten(0, (dim, count)).unflatten(2, (heads, head_dim)).transpose(1, 2)  # (c, n, s, b)
        rows[:, :, :, head] = (moved @ others).permute(2, 3, 0, 1)
    return rows


def _path_query_rows(
    matrices: Float[Tensor, "matrix heads head_dim dim"], value_query: Float[Tensor, "heads head_dim dim"]
) -> Float[Tensor, "dim dim matrix_heads"]:
    count, heads, _, dim = matrices.shape
    rows = matrices.new_empty(dim, dim, count * heads)
    for part in chunks(dim, COMPONENTS_TOGETHER, 1):
        products = matrices[..., part].transpose(2, 3) @ value_query  # (s, m, c, x)
        rows[part] = products.flatten(0, 1).permute(1, 2, 0)
    return rows
