"""The claims C1 to C5 on every task of the study over seeds, as a page of Markdown and a CSV of its numbers."""

from __future__ import annotations

import numpy as np
import xarray as xr

from figures.paper.claims import verdict_lines
from figures.style import model_style
from figures.texts import short_number, table_text

__all__ = ["draw"]

LEVEL = 0.05

HEAD = """# When local attention helps

Made by `gmsa figures` from the table of `gmsa study` that is shipped. {about}

GAP in percent (Baseline), and points of GAP less Baseline's, means over seeds. In brackets 95 % intervals over seeds
and videos (Obuchowski and Rockette); **bold**: beyond chance, Holm's correction over all of them. gate-op-whole is
GateOp whose local branch may attend to the whole video; "locality alone" is GateOp TP30 less it.
"""
MIDDLE = """
## The paper's claims, task by task

**Confirmed**: every interval lies on the claimed side of 0 (a "≥ 0" may hold 0 if its estimate is not below). **Not
confirmed**: an interval lies wholly on the other side. **Undecided**: anything else. C2's unit is the family: four
families have 24 orders, so no rank correlation of theirs has a p below 0.08, and none is beyond chance.
"""


def draw(claims: xr.Dataset, differences: xr.Dataset, width: float = 0.0) -> dict[str, str]:
    """The page and its numbers.

    Args:
        claims: of `analysis.study.seeds.figure_tables.claims_by_task`.
        differences: likewise.
        width: not used.

    Returns:
        Suffix -> text: "md", "csv".
    """
    lines = [HEAD.format(about=table_text(claims.attrs.get("about", ""))), *_difference_lines(differences), MIDDLE]
    for task in dict.fromkeys(claims["task"].to_numpy().tolist()):
        rows = claims.isel(part=claims["task"].to_numpy() == task)
        meaning = table_text(rows["meaning"].values[0])
        lines += [f"### {table_text(task)}", "", f"{meaning} ({table_text(rows['sample'].values[0])})", ""]
        lines += [*verdict_lines(rows), ""]
    columns = ["task", "claim", "verdict", "what", "sign", "estimate", "low", "high", "p_value", "sample"]
    numbers = claims[columns].to_dataframe()[columns].to_csv(index=False, lineterminator="\n")
    return {"md": "\n".join(lines), "csv": numbers}


def _difference_lines(differences: xr.Dataset) -> list[str]:
    names = [str(name) for name in differences["variant"].values]
    labels = [model_style(name).label for name in names]
    heads = ["task", "seeds", "Baseline", *labels, "control", "locality alone"]
    lines = [f"| {' | '.join(map(table_text, heads))} |", "|---" * len(heads) + "|"]
    for task in differences["task"].values:
        one = differences.sel(task=task)
        cells = [_difference(one.sel(variant=name)) for name in names]
        about = [table_text(task), str(int(one["seeds"])), short_number(float(one["baseline"]), 1)]
        alone = _value(*(float(one[f"locality{end}"]) for end in ("", "_low", "_high")))
        lines.append(f"| {' | '.join([*about, *cells, _signed(float(one['control'])), alone])} |")
    return lines


def _difference(one: xr.Dataset) -> str:
    text = _value(*(float(one[name]) for name in ("difference", "low", "high")))
    return f"**{text}**" if float(one["p_adjusted"]) < LEVEL else text


def _value(estimate: float, low: float, high: float) -> str:
    ends = "" if np.isnan(low) else f" [{_signed(low)}, {_signed(high)}]"
    return f"{_signed(estimate)}{ends}"


def _signed(value: float) -> str:
    return "" if np.isnan(value) else f"{round(value, 2) + 0.0:+.2f}".replace("-", "−")  # 0 is no minus 0
