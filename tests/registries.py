"""Registries that hold less for the time of a test."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from unittest.mock import patch

__all__ = ["only"]


def only(registry: dict, names: Iterable[str]) -> AbstractContextManager:
    """A context in which a registry holds some of its entries; afterwards all, in their first order.

    pytest's `monkeypatch.delitem` puts what it deleted back at the end, so that later tests see another order.
    """
    kept = set(names)
    return patch.dict(registry, {name: entry for name, entry in registry.items() if name in kept}, clear=True)
