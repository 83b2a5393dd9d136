"""Frame Jacobian norms of the attention blocks in closed form."""
