"""Sweeps: analyses of every video of a data set, one Parquet file a shard, on one process, many, or a Ray cluster."""

from analysis.errors import SweepError
from analysis.sweep.analyses import ANALYSES, DEFAULT_ANALYSES
from analysis.sweep.contents import SweepContents, sweep_contents
from analysis.sweep.engines import ENGINES
from analysis.sweep.notes import failed_shards
from analysis.sweep.plan import Shard, SweepSettings, find_shards
from analysis.sweep.run import SweepResult, run_sweep
from analysis.sweep.store import read_sweep
from analysis.sweep.summaries import sweep_metrics

__all__ = [
    "ANALYSES",
    "DEFAULT_ANALYSES",
    "ENGINES",
    "Shard",
    "SweepContents",
    "SweepError",
    "SweepResult",
    "SweepSettings",
    "failed_shards",
    "find_shards",
    "read_sweep",
    "run_sweep",
    "sweep_contents",
    "sweep_metrics",
]
