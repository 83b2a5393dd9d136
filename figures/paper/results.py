"""Table 1: scores, training time and size of every model, ours beside the published; CSV, Markdown, LaTeX."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import xarray as xr

from figures.panels.common import videos
from figures.style import model_style
from figures.texts import latex_text, markdown_text, short_number

__all__ = ["draw"]

METRICS = {"gap": "GAP", "map": "MAP", "perr": "PERR", "hit_at_1": "Hit@1"}
ABSENT = "–"
CAPTION = (
    "Scores in percent with 95 % jackknife intervals over {videos}, the published ones (YouTube-8M, full size) "
    "beside them. Time: one training step relative to Baseline, measured in one run (published: an epoch, by family). "
    "Size: weights in MiB. Ours are small models on other data: compare rows, not columns. MAP falls "
    "as videos are added: it is compared at an equal number of them only."
)


def draw(table: xr.Dataset, width: float = 0.0) -> dict[str, str]:
    """The table as texts.

    Args:
        table: of `analysis.study.results.results_table`.
        width: not used; a table is as wide as its text.

    Returns:
        Suffix -> text: "csv" (every number), "md", "tex" (booktabs, its own caption).
    """
    return {"csv": csv_text(table), "md": markdown(table), "tex": latex(table)}


def csv_text(table: xr.Dataset) -> str:
    """Every number, a row a model; empty where there is none."""
    parts = {"": "score", "_low": "low", "_high": "high", "_published": "published"}
    scores = {f"{metric}{end}": table[part].sel(metric=metric) for metric in METRICS for end, part in parts.items()}
    others = {name: table[name] for name in ("time", "published_time", "size", "published_size")}
    columns = {name: values.reset_coords(drop=True) for name, values in (scores | others).items()}
    return xr.Dataset(columns).to_dataframe().to_csv(lineterminator="\n")


def markdown(table: xr.Dataset) -> str:
    """A Markdown table; the best score of each column is bold."""
    rows = _rows(table, markdown_text, lambda text: f"**{text}**")
    lines = [_line(_header()), _line(["---"] + ["---:"] * (len(rows[0]) - 1)), *(_line(row) for row in rows)]
    return "\n".join([*lines, "", caption(table)]) + "\n"


def latex(table: xr.Dataset) -> str:
    """A LaTeX table for booktabs; the best score of each column is bold."""
    rows, header = _rows(table, latex_text, lambda text: rf"\textbf{{{text}}}"), _header()
    frame = pd.DataFrame(rows, columns=[latex_text(cell) for cell in header]).replace(ABSENT, "--")
    tabular = frame.to_latex(index=False, column_format="l" + "r" * (len(header) - 1))
    place = "\\begin{table*}\n\\centering\\footnotesize\n"
    return f"{place}{tabular}\\caption{{{latex_text(caption(table))}}}\n\\end{{table*}}\n"


def caption(table: xr.Dataset) -> str:
    """What the table is of; how many videos have no known label, where some have none."""
    count, unlabelled = videos(table.attrs["videos"], table), table.attrs.get("unlabelled", 0)
    return CAPTION.format(videos=f"{count} ({unlabelled} more without a known label)" if unlabelled else count)


def _header() -> list[str]:
    scores = [cell for name in METRICS.values() for cell in (name, "publ.")]
    return ["Model", *scores, "Time", "publ.", "MiB", "publ."]


def _rows(table: xr.Dataset, written: Callable[[str], str], bold: Callable[[str], str]) -> list[list[str]]:
    best = {metric: float(table["score"].sel(metric=metric).max()) for metric in METRICS}
    rows = []
    for name in table["model"].to_numpy():
        one = table.sel(model=name)
        row = [written(model_style(str(name)).label)]
        for metric in METRICS:
            at = one.sel(metric=metric)
            score = _number(float(at["score"]), 2)
            row.append((bold(score) if float(at["score"]) == best[metric] else score) + _ends(at))
            row.append(_number(float(at["published"]), 2))
        row += [_number(float(one[what]), 2) for what in ("time", "published_time", "size")]
        rows.append([*row, _number(float(one["published_size"]), 1)])
    return rows


def _ends(one: xr.Dataset) -> str:
    low, high = float(one["low"]), float(one["high"])
    return "" if np.isnan(low) else f" [{short_number(low, 1)}, {short_number(high, 1)}]"


def _number(value: float, digits: int) -> str:
    return ABSENT if np.isnan(value) else short_number(value, digits)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
