"""Errors of capturing; each message says which call, what was received, what was expected, and the remedy."""

from gmsa_models.errors import GMSAError

__all__ = ["CaptureError", "CaptureWarning", "LayoutError", "module_place"]


class CaptureError(GMSAError, ValueError):
    """Attention that cannot be recorded, or a recorded map that does not explain what the module computed."""


class CaptureWarning(UserWarning):
    """What may be attention, and was not recorded."""


class LayoutError(CaptureError):
    """A token layout that cannot be, or that does not fit a call."""


def module_place(path: str) -> str:
    """How messages name a module by its path; the captured module itself has none."""
    return repr(path) if path else "the captured module itself"
