"""The map of `--rename`: names of the file -> names that are known, what to leave out, and what is zeros."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from gmsa_models.checkpoints.header import CheckpointError
from gmsa_models.data.errors import brief

__all__ = ["Renaming", "read_renaming"]


@dataclass(frozen=True)
class Renaming:
    """What a person says of the names of a file.

    Attributes:
        names: pattern of names in the file -> what they are here, "" to leave them out. Each `*` stands for any
            letters, and the same `*` of the other name for the same letters.
        zeros: patterns of the model's tensors that are 0, which the file does not have.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    zeros: tuple[str, ...] = ()

    def apply(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
        """Tensors under their other names; other name -> name in the file; names that are left out.

        Raises:
            CheckpointError: a pattern that no name has, two tensors of one name, or more `*` on the right.
        """
        renamed: dict[str, Tensor] = {}
        origin: dict[str, str] = {}
        left_out, used = [], set()
        for name, value in tensors.items():
            other = name
            for pattern, target in self.names.items():
                if match := _compiled(pattern).fullmatch(name):
                    used.add(pattern)
                    other = _filled(pattern, target, match)
                    break
            if not other:
                left_out.append(name)
                continue
            if other in renamed:
                raise CheckpointError(f"--rename: {origin[other]} and {name} are both called {other!r:.200}")
            renamed[other], origin[other] = value, name
        if unused := [pattern for pattern in self.names if pattern not in used]:
            raise CheckpointError(f"--rename: no tensor is called {unused[0]!r:.200}; there are {brief(list(tensors))}")
        return renamed, origin, left_out


def read_renaming(path: str | Path) -> Renaming:
    """A TOML file of `"name in the file" = "name here"`, and `zeros = ["pattern of names here"]`.

    Raises:
        CheckpointError: it cannot be read, or holds anything else.
    """
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}; expected a TOML file") from None
    except ValueError as error:  # of TOML, or of UTF-8
        raise CheckpointError(f'{path}: is no TOML: {error!s:.200}; write lines "theirs" = "ours"') from None
    zeros = values.pop("zeros", [])
    if not isinstance(zeros, list) or not all(isinstance(each, str) for each in zeros):
        raise CheckpointError(f"{path}: zeros is {brief(zeros)}; expected a list of names")
    if unexpected := [name for name, target in values.items() if not isinstance(target, str)]:
        raise CheckpointError(
            f"{path}: {unexpected[0]!r:.100} is {brief(values[unexpected[0]])}; "
            "expected a name in quotes on both sides of ="
        )
    return Renaming(values, tuple(zeros))


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile("(.*)".join(map(re.escape, pattern.split("*"))))


def _filled(pattern: str, target: str, match: re.Match[str]) -> str:
    first, *rest = target.split("*")
    if len(rest) > len(match.groups()):
        raise CheckpointError(f"--rename: {target!r:.200} has more * than {pattern!r:.200}")
    return first + "".join(match[number] + text for number, text in enumerate(rest, start=1))
