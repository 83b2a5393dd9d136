"""`gmsa whatif`: the least that must be changed in a video's pass for another class to come first."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from gmsa.common import device_of, show, use_threads
from gmsa.options import AsJson, Device, Model, OnError, Threads
from gmsa.terminal import left_out, progress_of, say, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from analysis.interventions.counterfactuals import Counterfactual

__all__ = ["whatif"]


def whatif(
    clip: Annotated[str, typer.Argument(metavar="CLIP", help="demo:3, a file, file#id or catalog#id.")],
    model: Model = "gate-op-bd20",
    seconds: Annotated[float, typer.Option(min=1e-4, help="Length of the pieces that are taken out.")] = 10.0,
    budget: Annotated[
        int, typer.Option(min=0, help="How many sets of pieces may be tried for a proof that fewer do not do it.")
    ] = 2000,
    as_json: AsJson = False,
    on_error: OnError = "fail",
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Say what must be changed for another class to come first: seconds, edges of the attention, gates."""
    from analysis.inspect.source import first_clip
    from analysis.interventions.counterfactuals import counterfactuals
    from analysis.interventions.edit_texts import edit_text
    from gmsa_models import load
    from gmsa_models.config import check_classifies

    use_threads(threads)
    chosen = load(model, device_of(device))
    check_classifies(chosen.config)
    with left_out() as skipped, progress_of("searching") as progress:
        video = first_clip(clip, [chosen], None, on_error, skipped, say)
        answers = counterfactuals(chosen, video, seconds=seconds, budget=budget, progress=progress)
    if as_json:
        rows = [asdict(each) | {"edits": [edit_text(edit) for edit in each.edits]} for each in answers]
        print(json.dumps({"clip": video.id, "model": model, "answers": rows}, indent=2, ensure_ascii=False))
        return
    show(_table(answers, f"{video.id}: what would make another class than {answers[0].before} come first"))


def _table(answers: Sequence[Counterfactual], title: str) -> Table:
    from rich.table import Table

    table = Table(title=visible(title), title_justify="left", box=None)
    for name, width in (("what is changed", 16), ("the least that does it", 22), ("then first", 10), ("how sure", 18)):
        table.add_column(name, min_width=width, overflow="fold")
    for each in answers:
        count = f"{each.size:g} {each.unit}: " if each.unit == "pieces" and each.answer else ""
        table.add_row(each.question, visible(count + each.answer) or "-", visible(each.after) or "-", each.proof)
    return table
