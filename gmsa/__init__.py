"""Command line of the workbench: parses, calls one function of the right room, prints.

Heavy libraries are imported inside the commands, so that `gmsa --help` answers at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from gmsa.commands.catalog import catalog
from gmsa.commands.evaluate import evaluate
from gmsa.commands.features import features
from gmsa.commands.figures import figures
from gmsa.commands.import_weights import import_weights
from gmsa.commands.inspect import inspect
from gmsa.commands.lab import lab
from gmsa.commands.models import models
from gmsa.commands.montage import montage
from gmsa.commands.study import study
from gmsa.commands.sweep import sweep
from gmsa.commands.train import train
from gmsa.commands.whatif import whatif
from gmsa.terminal import ClickError, OneLineErrors

__all__ = ["ClickError", "app", "main"]

app = typer.Typer(
    cls=OneLineErrors,
    add_completion=False,
    invoke_without_command=True,
    help="See what a gated multi-headed self-attention model attends to in a video.",
)


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of

        print(version_of("gmsa-workbench"))
    elif context.invoked_subcommand is None:
        print(context.get_help())


for command in (models, inspect, whatif, features, evaluate, train, catalog, montage, figures, sweep, study, lab):
    app.command()(command)
app.command("import")(import_weights)


def main() -> None:
    """Entry point of the `gmsa` command."""
    app()
