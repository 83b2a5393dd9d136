"""`gmsa evaluate`: gAP, MAP, PERR and Hit@1 of a model over any amount of data."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from gmsa.common import device_of, show, use_threads
from gmsa.options import AsJson, DataSet, Device, Model, OnError, Threads
from gmsa.terminal import left_out

__all__ = ["evaluate"]


def evaluate(
    data: Annotated[list[str], typer.Option(help="Files of clips, globs, catalogues or demo:A-B; may be repeated.")],
    model: Model = "gate-op-bd20",
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    top_k: Annotated[int, typer.Option(min=0, help="Predictions a video that GAP and MAP use; 0: all.")] = 20,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many videos.")] = None,
    dataset: DataSet = None,
    on_error: OnError = "fail",
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """GAP, MAP, PERR and Hit@1 of a model over any amount of data."""
    from gmsa.screen_tables import scores_table
    from gmsa_models import load
    from gmsa_models.evaluation.scoring import evaluate as score

    use_threads(threads)
    loaded = load(model, device_of(device))
    with left_out() as skipped:
        scores = score(loaded, data, batch_size=batch_size, top_k=top_k or None, limit=limit, dataset=dataset,
                       on_error=on_error, on_skip=skipped)  # fmt: skip
    if as_json:
        print(json.dumps({name: None if value != value else value for name, value in scores.items()}))
    else:
        show(scores_table(loaded.origin["name"], scores, top_k or None))
