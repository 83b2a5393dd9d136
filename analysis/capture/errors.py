"""Errors of capturing; each message says which call, what was received, what was expected, and the remedy."""

from gmsa_models.errors import GMSAError

__all__ = ["CaptureError", "CaptureWarning", "LayoutError"]


class CaptureError(GMSAError, ValueError):
    """Attention that cannot be recorded, or a recorded map that does not explain what the module computed."""


class CaptureWarning(UserWarning):
    """What may be attention, and was not recorded."""


class LayoutError(CaptureError):
    """A token layout that cannot be, or that does not fit a call."""
