"""`gmsa lab`: open the notebooks in JupyterLab."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["lab"]


def lab(folder: Annotated[Path, typer.Option(help="The notebooks.")] = Path("notebooks")) -> None:
    """Open the notebooks in JupyterLab."""
    import subprocess
    from importlib.util import find_spec

    if find_spec("jupyterlab") is None:
        raise ImportError("JupyterLab is not installed; install the notebooks extra: pip install -e '.[notebooks]'")
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no folder {str(folder)!r} here; run this from the root of a checkout, or give --folder"
        )
    raise typer.Exit(subprocess.run([sys.executable, "-m", "jupyterlab", str(folder)], check=False).returncode)
