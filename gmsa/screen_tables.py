"""Tables for the terminal: one clip's predictions and profiles, the models there are, the scores of one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.record.edits import record_edits
from analysis.record.layers import of_layer, record_layers
from figures.panels.predictions import CHECK, Prediction, foreign_labels, labels_text, top_predictions
from figures.style import model_style
from figures.texts import short_number
from gmsa.terminal import visible
from gmsa_models.data.vocabulary import unnamed_note

__all__ = [
    "certificates_text",
    "clip_summary",
    "explanations_table",
    "import_tables",
    "models_tables",
    "predictions_table",
    "profiles_table",
    "scores_table",
]

SCORES = {"gap": "GAP", "map": "MAP", "perr": "PERR", "hit_at_1": "Hit@1"}
BAR_WIDTH = 12  # characters of a probability of 1
_PLACE = re.compile(r"encoders\..+?\.(?:layers\.\d+\.)?(?=attention|norm|feed_forward|project)")  # in a model's names
# Variables of a record, averaged over heads or frames.
MAP_COLUMNS = {
    "profile_gini": "Gini (0 even)",
    "verticality_adjusted": "lines (0 chance)",
    "sensitivity": "S",
}

# Measures of an explanation: what stands above the column, and 1 where more is better, -1 where less is.
MEASURE_COLUMNS = {
    "deletion": ("deletion ↓", -1),
    "insertion": ("insertion ↑", 1),
    "comprehensiveness": ("compreh. ↑", 1),
    "sufficiency": ("suffic. ↓", -1),
    "evidence_auc": ("AUC ↑", 1),
}


def clip_summary(records: Sequence[xr.Dataset], top: int) -> Group:
    """One screen: the clip, its labels, the most probable classes of each model, how uneven its profiles are.

    What a record was made without (see `parts` of `analysis.inspect_clip`) is left out.

    Args:
        records: of one clip, by one model or more.
        top: how many classes to list; the clip's labels that are not among them follow with their rank.
    """
    first = records[0]
    labels = visible(labels_text(next((record for record in records if not foreign_labels(record)), first)))
    frames = f"{first.sizes['frame']} frames of {first.attrs['frame_seconds']:.4g} s"
    if first.attrs["clip_frames"] > first.sizes["frame"]:
        frames += f" (the first of {first.attrs['clip_frames']})"
    head = Text.assemble(
        ("clip ", "dim"), (visible(first.attrs["clip"]), "bold"), f"  {frames}\n", ("labels ", "dim"), labels
    )
    for record in records:
        for text in record_edits(record.attrs):
            head.append_text(Text.assemble("\n", (f"{_label(record)} ", "dim"), visible(text)))
    tables: list[RenderableType] = [predictions_table(record, top) for record in records if "score" in record]
    tables += _unnamed(records, top)
    if any("profile_gini" in record or record.attrs.get("attention_kind") == "none" for record in records):
        tables.append(profiles_table(records))
    return Group(head, *tables, *(explanations_table(record) for record in records if "faithfulness" in record))


def predictions_table(record: xr.Dataset, top: int) -> Table:
    """The most probable classes, those of the clip marked."""
    table = Table(title=f"predictions of {_label(record)}", title_justify="left", box=None)
    table.add_column("rank", justify="right")
    table.add_column("class", overflow="ellipsis", no_wrap=True)
    table.add_column("probability", justify="right")
    table.add_column("")
    table.add_column("not compared" if foreign_labels(record) else "label of the clip")
    for each in top_predictions(record, top):
        table.add_row(*_prediction_row(each), style="green" if each.true else None)
    return table


def _unnamed(records: Sequence[xr.Dataset], top: int) -> list[RenderableType]:
    """What `label N` is, where a label of the clip or a class that is listed has no other name."""
    names = [name for record in records for name in map(str, json.loads(record.attrs["label_names"]))]
    names += [each.name for record in records if "score" in record for each in top_predictions(record, top)]
    note = unnamed_note(names)
    return [Text(note, "dim")] if note else []


def _prediction_row(each: Prediction) -> tuple[str, ...]:
    bar = "█" * round(min(max(each.score, 0.0), 1.0) * BAR_WIDTH) if each.score == each.score else ""
    score, mark = short_number(each.score, 3), CHECK if each.true else ""
    return str(each.rank), visible(each.name), score, bar.ljust(BAR_WIDTH), mark


def profiles_table(records: Sequence[xr.Dataset]) -> Table | Text:
    """What each branch's maps do, in a line: unevenness, vertical lines, locality; checks where they were made.

    S is of the frames that have it, and stands with the global branch when the block has no other, else with the
    local one. A line of text where no model has attention.
    """
    with_value = [record for record in records if "profile_gini" in record]
    if not with_value:
        return Text("no attention: this model averages its frames")
    table = Table(title="attention received, and what its maps do", title_justify="left", box=None)
    several = any("layer" in record.dims for record in with_value)
    for name in ("model", *(["layer"] if several else []), "modality", "branch"):
        table.add_column(name, no_wrap=True, min_width=len(name))
    columns = {name: column for name, column in MAP_COLUMNS.items() if any(name in record for record in with_value)}
    for column in columns.values():
        table.add_column(column, justify="right")
    certified = any("certificate" in record for record in with_value)
    if certified:
        table.add_column("checks")
    for record, layer in [(of_layer(each, number), number) for each in with_value for number in record_layers(each)]:
        for modality in record["modality"].values:
            for branch in record["branch"].values:
                one = record.sel(modality=modality, branch=branch)
                values = (_mean(one, name) if _shown(record, name, branch) else "" for name in columns)
                verdict = certificates_text(one)
                place = [str(layer)] if several else []
                names = (_label(record), *place, visible(modality), visible(branch))
                verdicts = [verdict] if certified else []
                table.add_row(*names, *values, *verdicts, style="red" if "failed" in verdict else None)
    return table


def explanations_table(record: xr.Dataset) -> Table:
    """How faithful each explanation of a record is; the best of each column in bold.

    Args:
        record: with the part "explanation".
    """
    about = {name: visible(value) for name, value in record["explanation"].attrs.items()}
    title = (
        f"explanations of {about['class_name']} by {_label(record)}; "
        f"replaced frames become the {about['baseline']} frame"
    )
    steps = record["faithfulness"].attrs.get("curve_steps")  # absent in records of before
    if steps is not None and steps <= record.sizes["frame"]:
        title += f"; curves of {steps} of {record.sizes['frame'] + 1} steps"
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("explanation", no_wrap=True)
    known = record["faithfulness"].notnull().any("explainer").to_series()
    columns = {name: column for name, column in MEASURE_COLUMNS.items() if known[name]}
    for heading, _ in columns.values():
        table.add_column(heading, justify="right")
    values = record["faithfulness"].transpose("explainer", "measure")
    best = {name: sign * (sign * values.sel(measure=name)).max().item() for name, (_, sign) in columns.items()}
    for method in values["explainer"].values:
        cells = []
        for name in columns:
            value = values.sel(explainer=method, measure=name).item()
            shown = "" if value != value else short_number(value)
            cells.append(Text(shown, style="bold green" if value == best[name] else ""))
        table.add_row(visible(method), *cells)
    return table


def certificates_text(record: xr.Dataset) -> str:
    """The certificates of one branch's maps: how many passed, or which failed; empty in a record without them."""
    if "certificate" not in record:
        return ""
    verdicts = dict(zip(record["check"].values, record["certificate"].values, strict=True))
    if failed := [check for check, verdict in verdicts.items() if verdict == 0]:
        return visible(f"failed: {', '.join(map(str, failed))}")
    return f"{sum(verdict == 1 for verdict in verdicts.values())} passed"


def _label(record: xr.Dataset) -> str:
    """What the model of a record is called."""
    return visible(model_style(str(record["model"].item())).label)


def _shown(record: xr.Dataset, name: str, branch: str) -> bool:
    """Whether the row of this branch is where a value stands; a value without branches stands in one row only."""
    if name not in record or "branch" in record[name].dims:
        return name in record
    branches = [str(each) for each in record["branch"].values]
    return branch == next((each for each in branches if each not in ("global", "combined")), branches[0])


def _mean(record: xr.Dataset, name: str) -> str:
    value = float(record[name].mean())
    return "" if value != value else short_number(value)


def models_tables(descriptions: Sequence[Any]) -> Group:
    """The zoo, a table for each set of data that models were scored on: what each model is and how well it does.

    Args:
        descriptions: of `gmsa_models.describe`.
    """
    from gmsa_models.zoo.card import predictions_used  # which needs torch

    tables: dict[str, Table] = {}
    for each in descriptions:
        test, scores = headline_scores(each.card)
        if test not in tables:
            used = predictions_text(predictions_used(test, scores))
            title = f"scores in percent on {visible(test)}, {used}" if test else "not scored"
            tables[test] = _models_table(f"{title} ({each.config.classes} classes)")
        tables[test].add_row(
            visible(each.name),
            "" if each.config.neighbourhood is None else neighbourhood_text(each.config.neighbourhood),
            visible(", ".join(each.config.modalities)),
            f"{each.bytes / 2**20:.2f}",
            *(percent(scores[key]) if key in scores else "" for key in SCORES),
        )
    return Group(*tables.values())


def _models_table(title: str) -> Table:
    table = Table(title=title, title_justify="left", box=None)
    for name in ("name", "local", "inputs"):
        table.add_column(name, no_wrap=True)
    for name in ("MiB", *SCORES.values()):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def headline_scores(card: Mapping[str, Any]) -> tuple[str, Mapping[str, float]]:
    """The test that stands first in a card, and its scores; empty where the card has none."""
    tests = card.get("scores") or {}
    return next(iter(tests.items()), ("", {}))


def neighbourhood_text(neighbourhood: Any) -> str:
    """The paper's short form: `BD 20`, `TP 30`, `TD 60×4`; `CP 4` of change points, `SP 0-12-40` of given segments."""
    from gmsa_models import masks

    short = masks.neighbourhood_text(neighbourhood)
    return f"{short[:2]} {short[2:]}"


def import_tables(imported: Any) -> Group:
    """What went where: a row a tensor of the model; beneath, what was left out, the model's sizes, and the proof.

    Args:
        imported: of `gmsa_models.checkpoints.importing.import_state`.
    """
    table = Table(title="what went where", title_justify="left", box=None)
    for heading in ("in the model", "shape", "in the file", "known"):
        table.add_column(heading, overflow="fold")
    place = ""
    for each in imported.assignments:
        match = _PLACE.match(each.name)
        if match and match[0] != place:
            place = match[0]
            table.add_row(Text(visible(place), "bold"))
        name = f"  {each.name.removeprefix(place)}" if match else each.name
        table.add_row(visible(name), " x ".join(map(str, each.value.shape)), visible(each.source) or "–", each.how)
    config, about = imported.model.config, imported.model.card["imported"]
    widths = ", ".join(f"{name} {width} wide" for name, width in config.modalities.items())
    neighbourhood = "" if config.neighbourhood is None else f" {neighbourhood_text(config.neighbourhood)}"
    sizes = (
        f"{config.attention}{neighbourhood}; {widths}; {config.layers} layers, {config.heads} heads (in no shape: see "
        f"--heads), {config.norm}-norm, clips of up to {config.max_frames} frames, {config.classes} classes"
    )
    proof = (
        ""
        if imported.difference is None
        else f"\nproof {visible(about['proof'])}: max |difference| " + (f"{imported.difference:.2g}")
    )
    notes = "".join(f"\n{visible(note)}" for note in imported.notes)
    origin = f"\nfrom {visible(about['file'])}, SHA-256 {about['sha256']}"
    return Group(table, Text(f"{visible(sizes)}{notes}{origin}{proof}"))


def scores_table(name: str, scores: Mapping[str, float], top_k: int | None = 20) -> Group:
    """Scores of one model, in percent; beneath, how many videos have no known label, where some have none.

    Args:
        name: of the model.
        scores: of `gmsa_models.evaluation.scoring.evaluate`.
        top_k: predictions a video that GAP and MAP used; None: all.
    """
    table = Table(box=None)
    for key in ("videos", *SCORES.values()):
        table.add_column(key, justify="right")
    table.add_row(str(scores["videos"]), *(percent(scores[key]) for key in SCORES))
    title = Text(f"{visible(name)}: scores in percent, GAP and MAP of {predictions_text(top_k)}", "italic")
    if not (unlabelled := scores["unlabelled"]):
        return Group(title, table)
    count = f"{unlabelled} video{' has' if unlabelled == 1 else 's have'}"
    return Group(title, table, Text(f"{count} no label that the model knows: left out of the scores"))


def percent(score: float) -> str:
    """A score in percent, a dash where there is none."""
    return "–" if score != score else f"{100 * score:.2f}"


def predictions_text(top_k: int | None) -> str:
    """How many predictions of a video GAP and MAP use, in words."""
    return "all predictions" if top_k is None else f"{top_k} predictions a video"
