"""What a wheel has otherwise than the checkout: `analysis` and `figures` inside `gmsa`, notebooks, and pages of `docs`.

`analysis` and `figures` are what users call their own folders and modules, which Python finds first. So in a wheel they
are `gmsa.analysis` and `gmsa.figures`, with all imports written so; the old names lead there with a warning. The pages
are those that `docs/plain_pages.py` makes, which `gmsa docs` opens.
"""

from __future__ import annotations

import ast
import re
import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
MOVED = ("analysis", "figures")
_MODULE = re.compile(rf"(?:{'|'.join(MOVED)})(?:\.\w+)+")
_OLD_NAME = '''"""The old name of `gmsa.{name}`."""

import sys
import warnings

import gmsa.{name}
from gmsa.aliases import add_alias

warnings.warn(
    "{name} is called gmsa.{name} now: a folder or module of your own may have the old name",
    DeprecationWarning,
    stacklevel=2,
)
add_alias("{name}", "gmsa.{name}")
sys.modules[__name__] = gmsa.{name}
'''


class BuildPy(build_py):
    """Builds as usual, then moves and renames in what was built; an editable install is the checkout itself."""

    def run(self) -> None:
        """Build."""
        library = Path(self.build_lib)
        if not self.editable_mode:
            shutil.rmtree(library, ignore_errors=True)
        super().run()
        if not self.editable_mode:
            move(library)


def move(library: Path) -> None:
    """Move the packages below `gmsa`, write their names so, put shims in their place, add notebooks and pages."""
    for name in MOVED:
        shutil.move(library / name, library / "gmsa" / name)
        (library / name).mkdir()
        (library / name / "__init__.py").write_text(_OLD_NAME.format(name=name), encoding="utf-8")
    for path in [*library.glob("gmsa/**/*.py"), *library.glob("gmsa_models/**/*.py")]:
        text = path.read_text(encoding="utf-8")
        if (renamed := rename(text, library / "gmsa")) != text:
            path.write_text(renamed, encoding="utf-8")
    (library / "gmsa" / "notebooks").mkdir()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        shutil.copyfile(path, library / "gmsa" / "notebooks" / path.name)
    sys.path.insert(0, str(ROOT / "docs"))
    from plain_pages import write_pages  # only a wheel needs what it imports

    write_pages(library / "gmsa" / "docs")


def rename(text: str, package: Path) -> str:
    """Python with imports of the moved packages, and texts that are names of their modules, under the new names.

    Args:
        text: of a module.
        package: the folder that they were moved to, by which names of modules are told from other texts.
    """
    lines = text.splitlines(keepends=True)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] in MOVED:
            lines[node.lineno - 1] = _renamed_once(lines[node.lineno - 1], f"from {node.module}", "from ")
        elif isinstance(node, ast.Import):
            for each in node.names:
                if each.name.split(".")[0] in MOVED:
                    if each.asname is None:
                        raise ValueError(f"import {each.name}: write from {each.name} import ... or import ... as ...")
                    lines[node.lineno - 1] = _renamed_once(lines[node.lineno - 1], f"import {each.name}", "import ")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _MODULE.fullmatch(node.value):
            place = package.joinpath(*node.value.split("."))
            if place.is_dir() or place.with_suffix(".py").is_file():
                lines[node.lineno - 1] = _renamed_once(lines[node.lineno - 1], node.value, "")
    return "".join(lines)


def _renamed_once(line: str, old: str, start: str) -> str:
    if old not in line:
        raise ValueError(f"{old!r} is not in {line!r}")
    return line.replace(old, f"{start}gmsa.{old[len(start) :]}", 1)


if __name__ == "__main__":
    setup(cmdclass={"build_py": BuildPy})
