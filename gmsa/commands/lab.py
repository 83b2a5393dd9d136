"""`gmsa lab`: copy the notebooks to a folder, and open it in JupyterLab."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gmsa.terminal import visible

__all__ = ["lab"]


def lab(
    jupyter: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- JUPYTER OPTIONS]", help="Behind --, for JupyterLab: -- --no-browser --port 8899."),
    ] = None,
    folder: Annotated[
        Path, typer.Option(help="Your notebooks; those of this package that it lacks are copied to it.")
    ] = Path("notebooks"),
    copy_only: Annotated[bool, typer.Option("--copy-only", help="Copy the notebooks, and do not open them.")] = False,
) -> None:
    """Copy the notebooks to a folder, and open it in JupyterLab. What is there already is left as it is."""
    import subprocess
    from importlib.util import find_spec

    from gmsa_models.data.atomic import check_folder

    if not copy_only and find_spec("jupyterlab") is None:
        raise ImportError(
            "JupyterLab is not installed; install the notebooks extra: pip install 'gmsa-workbench[notebooks]'"
        )
    check_folder(folder)
    copied = copy_notebooks(folder)
    print(f"{copied} notebooks copied to {visible(folder)}")
    if not copy_only:
        command = [sys.executable, "-m", "jupyterlab", str(folder), *(jupyter or ())]
        raise typer.Exit(subprocess.run(command, check=False).returncode)


def copy_notebooks(folder: Path) -> int:
    """Copy the notebooks that a folder lacks, and return how many these were."""
    from shutil import copyfile

    folder.mkdir(parents=True, exist_ok=True)
    missing = [path for path in shipped_notebooks() if not (folder / path.name).exists()]
    for path in missing:
        copyfile(path, folder / path.name)
    return len(missing)


def shipped_notebooks() -> list[Path]:
    """The notebooks: inside the package where it is installed, beside it in a checkout.

    Raises:
        FileNotFoundError: none are there.
    """
    package = Path(__file__).parents[1]
    for place in (package / "notebooks", package.parent / "notebooks"):
        if paths := sorted(place.glob("*.ipynb")):
            return paths
    raise FileNotFoundError(f"the notebooks are missing from {package / 'notebooks'}; install the package again")
