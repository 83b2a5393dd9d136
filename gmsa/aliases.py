"""Two names for one package: `gmsa.analysis` and `gmsa.figures` wherever this runs, `analysis` and `figures` as before.

In a checkout the folders `analysis` and `figures` stand beside `gmsa`. A wheel has them inside (`setup.py`), because
their names are what users call their own folders, which Python would find first.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["Aliases", "add_alias"]


class _AliasLoader(Loader):
    """Gives the module of another name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(self._name)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # the import system wrote the alias's there


class Aliases(MetaPathFinder):
    """Finds modules of one package under another package's name.

    Args:
        alias: the other name; its modules too.
        name: the package.
    """

    def __init__(self, alias: str, name: str) -> None:
        self.alias, self.name = alias, name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module by its alias; None for every other name."""
        if fullname != self.alias and not fullname.startswith(f"{self.alias}."):
            return None
        return ModuleSpec(fullname, _AliasLoader(self.name + fullname[len(self.alias) :]))


def add_alias(alias: str, name: str) -> None:
    """From now on a package and its modules are imported by another name too, as the same modules."""
    if not any(isinstance(each, Aliases) and each.alias == alias for each in sys.meta_path):
        sys.meta_path.insert(0, Aliases(alias, name))
