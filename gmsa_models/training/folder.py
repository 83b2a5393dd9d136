"""The folder of a run: one run at a time works in it, and nothing finished in it is written over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_fabric import Fabric

from gmsa_models.data.lock import locked
from gmsa_models.errors import OutputError, TrainingError

__all__ = ["alone_in", "check_kept"]


@contextmanager
def alone_in(fabric: Fabric, directory: Path) -> Iterator[None]:
    """Keep other runs out of a folder; the first process locks it, and all of them raise if it could not.

    Raises:
        OutputError: another process holds it.
        OSError: it cannot be written.
    """
    refusal, lock = None, locked(directory, "training")
    if fabric.is_global_zero:
        try:
            lock.__enter__()
        except OSError as error:
            refusal = error
    if fabric.world_size > 1:
        refused = fabric.broadcast(None if refusal is None else str(refusal))
        refusal = refusal or (OutputError(refused) if refused else None)
    if refusal is not None:
        raise refusal
    try:
        yield
    finally:
        if fabric.is_global_zero:
            lock.__exit__(None, None, None)


def check_kept(directory: Path, file: str, has_best: bool) -> None:
    """Check that the folder of an unfinished run has what the run needs, and no finished model that it would replace.

    Args:
        directory: of the run.
        file: name of the finished model.
        has_best: the run has had a validation, so that its best weights are to be there.

    Raises:
        TrainingError: it does not; the message says what to do.
    """
    model, best = directory / file, directory / "best.safetensors"
    if model.exists():
        raise TrainingError(
            f"{model}: a finished model, and no finished state.pt of its run; it is not written over: choose another "
            "folder (--out), or move it away"
        )
    if has_best and not best.exists():
        raise TrainingError(
            f"{best}: gone, and the run's best weights so far with it; put it back, or remove {directory} to start "
            "again"
        )
