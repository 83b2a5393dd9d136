"""Command line of the workbench: parses, calls one function of the right room, prints.

Heavy libraries are imported inside the commands, so that `gmsa --help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gmsa.aliases import add_alias
from gmsa.commands.catalog import catalog
from gmsa.commands.docs import docs
from gmsa.commands.evaluate import evaluate
from gmsa.commands.explainers import explainers
from gmsa.commands.features import features
from gmsa.commands.figures import figures as figures_command
from gmsa.commands.import_weights import import_weights
from gmsa.commands.inspect import inspect
from gmsa.commands.lab import lab
from gmsa.commands.ls import ls
from gmsa.commands.models import models
from gmsa.commands.montage import montage
from gmsa.commands.pretrain import pretrain
from gmsa.commands.study import study
from gmsa.commands.sweep import sweep
from gmsa.commands.train import train
from gmsa.commands.whatif import whatif
from gmsa.terminal import ClickError, OneLineErrors

__all__ = ["ClickError", "app", "main"]

app = typer.Typer(
    cls=OneLineErrors,
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


# In a checkout the two stand beside this package, and in a wheel inside it; their names are the same.
for room in ("analysis", "figures"):
    if not Path(__file__).with_name(room).is_dir():
        add_alias(f"gmsa.{room}", room)

COMMANDS = (
    models, ls, inspect, whatif, features, evaluate, pretrain, train, catalog, montage, figures_command, sweep, study,
    explainers, lab, docs,
)  # fmt: skip
for command in COMMANDS:
    app.command()(command)
app.command("import")(import_weights)


def main() -> None:
    """Entry point of the `gmsa` command."""
    app()
