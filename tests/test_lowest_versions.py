"""The lower bounds of pyproject.toml, which `make test-lowest` installs beside the pinned torch."""

import tomllib
from importlib.metadata import requires
from pathlib import Path

from lowest_versions import lowest_versions
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def test_the_pinned_torch_takes_them():
    """If it does not, pip looks for an older torch, which can be gigabytes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lowest = dict(line.split("==") for line in lowest_versions(project))
    needed = [Requirement(text) for text in requires("torch")]
    beside = [each for each in needed if each.name in lowest and not each.marker]
    assert beside
    assert [str(each) for each in beside if not each.specifier.contains(lowest[each.name])] == []
