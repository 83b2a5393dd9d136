"""`gmsa docs`: the documentation that was built, or where the source of it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gmsa.terminal import ClickError

__all__ = ["docs"]


def docs(
    print_only: Annotated[bool, typer.Option("--print", help="Print the address, and open no browser.")] = False,
) -> None:
    """Open the documentation in the browser: pages on this machine, which `make docs` builds in a checkout."""
    index = built_docs(Path(__file__).parents[2])
    print(index.as_uri())
    if not print_only:
        import webbrowser

        if not webbrowser.open(index.as_uri()):
            raise ClickError("no browser could be opened; open the address above in one")


def built_docs(checkout: Path) -> Path:
    """The first page of the documentation.

    Args:
        checkout: folder with `docs` and `build`.

    Raises:
        ClickError: nothing was built, or the package is installed without its checkout; says what to do.
    """
    index = checkout / "build" / "docs" / "index.html"
    if index.is_file():
        return index
    if (checkout / "docs" / "conf.py").is_file():
        raise ClickError(f"{index} is not there: build the documentation with `make docs` in {checkout}")
    raise ClickError(
        "an installed package has no documentation: `make docs` in a checkout of the project builds it. Commands "
        "describe themselves with --help, and everything that Python can import with help()"
    )
