"""The paper's figures, one a file, and those beside them."""
