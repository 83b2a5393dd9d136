"""Errors of importing weights that another program wrote."""

from gmsa_models.checkpoints.header import CheckpointError

__all__ = ["StateFileError", "StateImportError"]


class StateImportError(CheckpointError):
    """Weights that cannot be taken for those of a model of the package; the message names tensors and the remedy."""


class StateFileError(StateImportError):
    """A file that holds no plain tensors by name."""
