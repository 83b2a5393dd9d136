"""Print the lowest versions that pyproject.toml allows, as constraints for pip: python tests/lowest_versions.py.

torch is left out: `make test-lowest` takes the build of constraints.txt, as old builds cannot be had everywhere.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path


def lowest_versions(project: dict) -> list[str]:
    """`name==version` of each requirement with a lower bound, of the package and of its extras."""
    extras = project["optional-dependencies"].values()
    requirements = {one for each in (project["dependencies"], *extras) for one in each}
    bounds = (re.match(r"([\w-]+)>=([\d.]+)", one) for one in sorted(requirements))
    return [f"{bound[1]}=={bound[2]}" for bound in bounds if bound and bound[1] != "torch"]


if __name__ == "__main__":
    project_file = Path(__file__).resolve().parent.parent / "pyproject.toml"
    print("\n".join(lowest_versions(tomllib.loads(project_file.read_text(encoding="utf-8"))["project"])))
