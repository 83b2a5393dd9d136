"""`gmsa docs`: the pages that came with the package, or in a checkout the site that was built."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gmsa.terminal import ClickError

__all__ = ["docs"]


def docs(
    print_only: Annotated[bool, typer.Option("--print", help="Print the address, and open no browser.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Copy the pages to this folder and open them there, for a browser that reads no other."),
    ] = None,
) -> None:
    """Open the documentation in the browser: pages on this machine, no network is needed."""
    index = documentation(Path(__file__).parents[1])
    if out is not None:
        index = copy_pages(index.parent, out)
    print(index.as_uri())
    if not print_only:
        import webbrowser

        if not webbrowser.open(index.as_uri()):
            raise ClickError("no browser could be opened; open the address above in one")


def copy_pages(pages: Path, out: Path) -> Path:
    """Copy all pages to a folder, over those of an earlier time; returns the first page there."""
    from shutil import copytree

    from gmsa_models.data.atomic import check_folder

    check_folder(out)
    copytree(pages, out, dirs_exist_ok=True)
    return out.resolve() / "index.html"


def documentation(package: Path) -> Path:
    """The first page of the documentation.

    Args:
        package: folder of the package `gmsa`: with the pages where it was installed from a wheel, beside `docs` and
            `build` in a checkout.

    Raises:
        ClickError: nothing was built in the checkout, or the pages are missing from the package; says what to do.
    """
    checkout = package.parent
    for index in (package / "docs" / "index.html", checkout / "build" / "docs" / "index.html"):
        if index.is_file():
            return index
    if (checkout / "docs" / "conf.py").is_file():
        index = checkout / "build" / "docs" / "index.html"
        raise ClickError(f"{index} is not there: build the documentation with `make docs` in {checkout}")
    raise ClickError(f"the pages are missing from {package / 'docs'}; install the package again")
