"""The claims C1 to C5 on the data at hand, as a page of Markdown and a CSV of its numbers."""

from __future__ import annotations

import numpy as np
import xarray as xr

from figures.texts import short_number, table_text

__all__ = ["draw", "verdict_lines"]

SIGNS = {">": "> 0", ">=": "≥ 0", "": "informs only"}
HEAD = """# The paper's claims on these data

Made by `gmsa figures`. **Confirmed**: every interval lies on the claimed side of 0 (a "≥ 0" may hold 0 if its
estimate is not below). **Not confirmed**: an interval lies wholly on the other side. **Undecided**: anything else.
"""
LIMITS = """

## What this does and does not show

{about}
Intervals (95 %) are over these videos, for C2 over families of models; each model was trained once, so what another
training seed would change is in none of them. The published claims are about models of full size on YouTube-8M: a
verdict here neither proves nor refutes them there.
"""


def draw(claims: xr.Dataset, width: float = 0.0) -> dict[str, str]:
    """The page and its numbers.

    Args:
        claims: of `analysis.study.claims.claims_table`; attribute `about`: a sentence on models and data.
        width: not used.

    Returns:
        Suffix -> text: "md", "csv".
    """
    return {"md": markdown(claims), "csv": csv_text(claims)}


def markdown(claims: xr.Dataset) -> str:
    """Verdicts first, then every number behind them."""
    return "\n".join([HEAD, *verdict_lines(claims), "", *_detail_lines(claims)]) + LIMITS.format(
        about=table_text(claims.attrs.get("about", ""))
    )


def verdict_lines(claims: xr.Dataset) -> list[str]:
    """A Markdown table, a row a claim: statement, the numbers that decide, verdict."""
    lines = ["| | claim | verdict | numbers that decide [95 % interval] |", "|---|---|---|---|"]
    for name in dict.fromkeys(claims["claim"].to_numpy().tolist()):
        rows = claims.isel(part=claims["claim"].to_numpy() == name)
        signed = rows.isel(part=rows["sign"].to_numpy() != "")
        each = [signed.isel(part=part) for part in range(signed.sizes["part"])]
        numbers = "; ".join(f"{table_text(one['short'].item())} {_value(one)}" for one in each)
        first = rows.isel(part=0)
        statement = table_text(first["statement"].item())
        lines.append(f"| {table_text(name)} | {statement} | **{first['verdict'].item()}** | {numbers} |")
    return lines


def csv_text(claims: xr.Dataset) -> str:
    """Every number, a row a part."""
    columns = ["claim", "statement", "verdict", "what", "sign", "estimate", "low", "high", "p_value", "sample"]
    return claims[columns].to_dataframe()[columns].to_csv(index=False, lineterminator="\n")


def _detail_lines(claims: xr.Dataset) -> list[str]:
    lines = ["| claim | number | estimate [95 % interval] | claimed | p | of |", "|---|---|---|---|---|---|"]
    for part in range(claims.sizes["part"]):
        one = claims.isel(part=part)
        p_value = float(one["p_value"])
        shown = "" if np.isnan(p_value) else f"{p_value:.2g}"
        claim, what, sample = (table_text(one[key].item()) for key in ("claim", "what", "sample"))
        lines.append(f"| {' | '.join([claim, what, _value(one), SIGNS[one['sign'].item()], shown, sample])} |")
    return lines


def _value(one: xr.Dataset) -> str:
    estimate, low, high = (float(one[name]) for name in ("estimate", "low", "high"))
    if np.isnan(estimate):
        return "not to be had"
    digits = 2 if abs(estimate) >= 0.1 else 3
    ends = "" if np.isnan(low) else f" [{short_number(low, digits)}, {short_number(high, digits)}]"
    return f"{short_number(estimate, digits)}{ends}".replace("-", "−")
