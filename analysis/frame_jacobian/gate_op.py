"""Frame Jacobians of GateOp: two maps a head, and output matrices that change from frame to frame.

With the gates R_g, R_l of frame i and E = (Y_g - Y_l) R_g R_l, all vectors over output components,

    dY_i = B_i^g dO_i^g + B_i^l dO_i^l,   B_i^g = diag(R_g) W^og + diag(E) W_g^g,  B_i^l = diag(R_l) W^ol - diag(E) W_g^l,

so the block is the plain one with 2 M heads, (branch, m), whose W_O^m is the d columns of B_i of that branch:

    J_ij = sum_bm A_ij^bm B_i^bm [W_V^m + (v_j^m - o_i^bm) (w_i^m)^T]
           + [i = j] sum_bm sum_k A_ik^bm B_i^bm (v_k^m - o_i^bm) (kappa_k^m)^T.

B_i is a sum of two constant matrices with rows scaled, diag(f_s) W_s; the factors f_s of the four matrices are
(R_g, E, R_l, -E). Sums over output components c then are products over c of f_s f_t with what no frame changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.frame_jacobian.chunking import chunks
from analysis.frame_jacobian.gate_op_query import as_query
from analysis.frame_jacobian.tables import GateOpTables
