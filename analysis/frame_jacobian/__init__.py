"""Frobenius norms of frame Jacobians dY_i / dX_j in closed form, for the four attention blocks."""
