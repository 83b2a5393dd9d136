"""The tables of those figures that a sweep has the numbers of, and what it lacks for the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from analysis.study import claims, tables
from analysis.study.claims import Claim
from analysis.study.results import scored_text
from analysis.study.swept import SweptStudy
from analysis.sweep.analyses import ANALYSES
from gmsa_models.data.demo_videos import is_demo
from gmsa_models.errors import ArgumentError

__all__ = ["Drawn", "missing_part", "swept_tables"]

Made = TypeVar("Made")


@dataclass(frozen=True)
class Drawn(Generic[Made]):
    """What can be made of a sweep.

    Attributes:
        make: of the study.
        needs: analyses, all of them.
        kinds: True where it matters of which kind each model is, so that the models' files must be known.
    """

    make: Callable[[SweptStudy], Made]
    needs: tuple[str, ...]
    kinds: bool = False

    def lacks(self, study: SweptStudy) -> str:
        """What is missing and how to get it; empty when nothing is."""
        if missing := [name for name in self.needs if name not in study.sweep.analyses]:
            every = [name for name in ANALYSES if name in (*study.sweep.analyses, *missing)]
            return f"the sweep lacks {' and '.join(missing)}; sweep with --again --analyses {','.join(every)}"
        if self.kinds and study.unknown:
            return f"the sweep names {', '.join(study.unknown)} but no file of that SHA-256 is known; give --models"
        return ""


def _order(study: SweptStudy) -> Claim:
    return claims.order_of_scores(study.metrics, _kinds(study), study.videos)


def _locality(study: SweptStudy) -> Claim:
    gap = {name: float(table["estimate"].sel(metric="gap")) for name, table in study.metrics.items()}
    return claims.locality_and_score(study.mean_sensitivity, gap, _kinds(study), study.settings.seed)


def _uneven(study: SweptStudy) -> Claim:
    return claims.uneven_global_profile(study.unevenness, study.settings.seed, study.settings.resamples)


def _lines(study: SweptStudy) -> Claim:
    """By the mean over heads, which the sweep holds in their place."""
    baselines = [name for name, kind in _kinds(study).items() if kind == "baseline"]
    if not baselines:
        raise ArgumentError(f"no Baseline among the models {', '.join(study.models)}; C4 needs one")
    heads = study.vertical[baselines[0]].sel(branch="global", drop=True).expand_dims("head")
    return claims.vertical_lines(heads, study.settings.seed, study.settings.resamples)


CLAIMS: dict[str, Drawn[Claim]] = {
    "C1": Drawn(_order, ("scores",), kinds=True),
    "C2": Drawn(_locality, ("scores", "sensitivity"), kinds=True),
    "C3": Drawn(_uneven, ("unevenness",)),
    "C4": Drawn(_lines, ("patterns",), kinds=True),
}
MADE = "The demo videos are montages made from statistics of YouTube-8M: what they show is about the demo."
NO_C5 = "C5 (frames against frames): no analysis of a sweep holds it"
NO_KINDS = "of C4 whether lines are salient frames or sinks: a sweep does not hold the values that stand there"


def claim_rows(study: SweptStudy) -> tables.Tables:
    """Those of C1 to C4 whose numbers are there; the attribute `about` says which are not."""
    lacks = {name: each.lacks(study) for name, each in CLAIMS.items()}
    results = [CLAIMS[name].make(study) for name, lack in lacks.items() if not lack]
    left = [*(f"{name}: {lack}" for name, lack in lacks.items() if lack), NO_C5, NO_KINDS]
    count = f"{len(study.models)} model{'' if len(study.models) == 1 else 's'}"
    scored = scored_text(study.videos, study.unlabelled, "whole")
    about = f"{count} on {scored} of the sweep of {len(study.source)} shards. Left out: {'. '.join(left)}."
    made = f" {MADE}" if any(is_demo(one) for one in study.source) else ""
    return {"claims": claims.claims_table(results).assign_attrs(about=about + made)}


FROM_SWEEP: dict[str, Drawn[tables.Tables]] = {
    "sensitivity": Drawn(tables.sensitivity, ("frame-sensitivity",), kinds=True),
    "score_and_sensitivity": Drawn(tables.score_and_sensitivity, ("scores", "sensitivity")),
    "results": Drawn(tables.results, ("scores",), kinds=True),
    "claims": Drawn(claim_rows, ()),
}


def missing_part(key: str, study: SweptStudy) -> str:
    """Why a figure cannot be drawn from a sweep, and what to do; empty when it can.

    Args:
        key: of `tables.TABLES`.
        study: of the sweep.
    """
    if key not in FROM_SWEEP:
        return "no analysis of a sweep holds what it shows; give --data to compute it"
    if key == "claims":
        lacks = [each.lacks(study) for each in CLAIMS.values()]
        return "" if "" in lacks else lacks[0]
    return FROM_SWEEP[key].lacks(study)


def swept_tables(key: str, study: SweptStudy) -> tables.Tables:
    """The tables of one figure, as `tables_of` gives them.

    Raises:
        ArgumentError: the sweep lacks something; see `missing_part`.
    """
    if lack := missing_part(key, study):
        raise ArgumentError(lack)
    return tables.with_origin(FROM_SWEEP[key].make(study), study)


def _kinds(study: SweptStudy) -> dict[str, str]:
    return {name: study.kind(name) for name in study.models}
