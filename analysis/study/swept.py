"""SweptStudy: those numbers of a study that the table of a sweep holds, taken from it; no model looks at any video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import pandas as pd
import xarray as xr

from analysis.statistics.intervals import resampled_means
from analysis.statistics.jackknife import jackknife_counts
from analysis.statistics.resampling import resampled_metrics
from analysis.study.results import PERCENT
from analysis.study.selection import Selection, select
from analysis.study.study import Settings
from analysis.sweep.columns import Column
from analysis.sweep.contents import SweepContents
from analysis.sweep.store import read_sweep
from analysis.sweep.summaries import classes_of, dense_scores, sweep_metrics, video_scores
from gmsa_models.checkpoints.files import describe, load
from gmsa_models.checkpoints.model_file import ModelFile
from gmsa_models.classifier import parameter_mib
from gmsa_models.errors import ArgumentError
from gmsa_models.evaluation.metrics import METRICS
from gmsa_models.masks import neighbourhood_text
from gmsa_models.variants import nearest_variant

__all__ = ["SweptStudy"]

SENSITIVITIES = ("sensitivity", "own_sensitivity")
WHOLE = ("perr", "hit_at_1")  # scores that are means over videos


class SweptStudy:
    """The scores, S_i and unevenness of a sweep, as `Study` has them, of whole videos.

    `Study` cuts the videos that it looks at closely to one length before a model sees them; a sweep does not. Where all
    videos are of one length both are the same, but for rounding.

    Attributes:
        sweep: what the folder holds.
        models: name -> checkpoint of those that are drawn, in order; None where no file of that SHA-256 is known.
        settings: how much is taken; its `neighbourhood` is the sweep's, its modality one that the sweep has.
        source: names of the shards.
    """

    def __init__(
        self,
        sweep: SweepContents,
        models: Mapping[str, ModelFile | None],
        settings: Settings,
        chosen: int | None = None,
    ) -> None:
        """Nothing is read yet.

        Args:
            sweep: of `sweep_contents`.
            models: some of the sweep's.
            settings: `limit`: the first so many videos; `frames`: as many first frames of S_i, of fewer where fewer
                than `videos` videos are that long. `seed` and `resamples` of the intervals.
            chosen: S_i and unevenness of the first so many videos that are as long; None: of all videos, S_i frame by
                frame of all that are as long.
        """
        self.sweep, self.models, self.settings, self.chosen = sweep, dict(models), settings, chosen
        if self.modalities:
            self.settings = replace(settings, modality=self.modalities[0])
        self.source = [str(shard["name"]) for shard in sweep.shards]

    @property
    def unknown(self) -> list[str]:
        """Models whose files are not known, so neither their kind nor their size."""
        return [name for name, file in self.models.items() if file is None]

    def kind(self, name: str) -> str:
        """Attention block of a model: "baseline", "gate-op" and so on.

        Raises:
            ArgumentError: its file is not known.
        """
        return describe(self._file(name).path).config.attention

    @property
    def variants(self) -> dict[str, str]:
        """Model -> the column of the paper that it is most like, of those whose files are known."""
        known = [name for name in self.models if name not in self.unknown]
        return {name: nearest_variant(describe(self._file(name).path).config) for name in known}

    def mebibytes(self, name: str) -> float:
        """Size of a model's parameters in MiB. Raises as `kind`."""
        return parameter_mib(load(self._file(name).path))

    def _file(self, name: str) -> ModelFile:
        if (file := self.models[name]) is None:
            raise ArgumentError(f"no file of model {name!r} with SHA-256 {self.sweep.models[name][:12]}... is known")
        return file

    @cached_property
    def _scored(self) -> dict[str, pd.DataFrame]:
        """Model -> its rows with all that scores are made of."""
        rows = self._rows("known_labels", "top_classes", "top_scores", *WHOLE)
        common_labels(rows)
        return rows

    @property
    def videos(self) -> int:
        """How many have a known label: those that the scores are of."""
        return self._labelled[0]

    @property
    def unlabelled(self) -> int:
        """How many have no known label, and count in no score."""
        return self._labelled[1]

    @cached_property
    def _labelled(self) -> tuple[int, int]:
        first = next(iter(self._rows("known_labels").values()))
        labelled = int((first["known_labels"].map(len) > 0).sum())
        return labelled, len(first) - labelled

    @cached_property
    def metrics(self) -> dict[str, xr.Dataset]:
        """Model -> its four scores, and those without each video or group of videos."""
        return {name: swept_samples(rows) for name, rows in self._scored.items()}

    @cached_property
    def steps(self) -> xr.Dataset:
        """No times: a sweep trains nothing."""
        return xr.Dataset({"seconds": ("family", np.zeros(0))}, {"family": np.zeros(0, "U1")})

    @cached_property
    def selection(self) -> Selection:
        """Which videos S_i is shown of frame by frame, and over how many first frames."""
        lengths = next(iter(self._rows("frames").values()))["frames"].to_numpy()
        common = select(lengths, self.chosen or self.settings.videos, self.settings.frames)
        if self.chosen is not None:
            return common
        return Selection(tuple(int(place) for place in np.flatnonzero(lengths >= common.frames)), common.frames)

    @cached_property
    def statistics(self) -> dict[str, xr.Dataset]:
        """Model with attention -> `sensitivity` and, where it has one, `own_sensitivity` (video, frame); seconds."""
        names = [column.name for column in self._columns(*(f"frames_{name}" for name in SENSITIVITIES))]
        statistics = {}
        for model, rows in self._rows("frame_seconds", *names).items():
            curves = {name: self._stream(rows, f"frames_{name}") for name in SENSITIVITIES}
            selected = {name: [values.iloc[place] for place in self.selection.places] for name, values in curves.items()
                     if values is not None}  # fmt: skip
            if "sensitivity" in selected:
                statistics[model] = self._curves(selected, float(rows["frame_seconds"].iloc[0]))
        return self._some(statistics)

    def _curves(self, curves: Mapping[str, Sequence[np.ndarray]], seconds: float) -> xr.Dataset:
        """Curves cut to the selection's frames, or to the longest that the model takes."""
        frames = min([self.selection.frames, *(len(one) for each in curves.values() for one in each)])
        values = {
            name: (("video", "frame"), np.stack([one[:frames] for one in each]).astype(np.float64))
            for name, each in curves.items()
        }
        return xr.Dataset(values, {"frame": np.arange(frames) * seconds})

    @cached_property
    def mean_sensitivity(self) -> dict[str, xr.Dataset]:
        """Model with attention -> `sensitivity` and, where it has one, `own_sensitivity` (video), over all frames."""
        sensitivities = {}
        for model, rows in self._chosen_rows(*(each.name for each in self._columns(*SENSITIVITIES))).items():
            streams = {name: self._stream(rows, name) for name in SENSITIVITIES}
            variables = {name: ("video", values.to_numpy()) for name, values in streams.items() if values is not None}
            if variables:
                sensitivities[model] = xr.Dataset(variables)
        return self._some(sensitivities)

    def _some(self, tables: dict[str, xr.Dataset]) -> dict[str, xr.Dataset]:
        """The same, of which one at least has S_i by the shared neighbourhood, and says so where none has."""
        if not any("sensitivity" in table and int(table["sensitivity"].count()) for table in tables.values()):
            shared = neighbourhood_text(self.settings.neighbourhood)
            raise ArgumentError(
                f"no video has an S_i by {shared}: no model attends, or N_i holds every frame; "
                "sweep with a smaller --neighbourhood"
            )
        return tables

    @cached_property
    def unevenness(self) -> dict[str, xr.Dataset]:
        """Model with attention -> `gini` (video, modality, branch) of the profiles, NaN where there is none."""
        return self._by_branch("gini")

    @cached_property
    def vertical(self) -> dict[str, xr.Dataset]:
        """Model with attention -> `verticality_adjusted` (video, modality, branch), mean over heads."""
        return self._by_branch("verticality_adjusted")

    def _by_branch(self, name: str) -> dict[str, xr.Dataset]:
        columns = self._columns(name)
        tables = {}
        for model, rows in self._chosen_rows(*(each.name for each in columns)).items():
            filled = [each for each in columns if rows[each.name].notna().any()]
            if not filled:
                continue
            modalities = list(dict.fromkeys(each.modality for each in filled))
            branches = list(dict.fromkeys(each.branch for each in filled))
            values = np.full((len(rows), len(modalities), len(branches)), np.nan)
            for each in filled:
                values[:, modalities.index(each.modality), branches.index(each.branch)] = rows[each.name].to_numpy()
            coords = {"modality": np.array(modalities), "branch": np.array(branches)}
            tables[model] = xr.Dataset({name: (("video", "modality", "branch"), values)}, coords)
        return tables

    def _columns(self, *statistics: str) -> list[Column]:
        """Columns of these statistics, in the table's order."""
        return [column for column in self.sweep.columns if column.statistic in statistics]

    @property
    def modalities(self) -> list[str]:
        """Of all models of the sweep, that of the settings first."""
        columns = self._columns("frames_sensitivity", "sensitivity", "gini")
        names = dict.fromkeys(column.modality for column in columns)
        return sorted(names, key=lambda name: name != self.settings.modality)

    def _stream(self, rows: pd.DataFrame, statistic: str) -> pd.Series | None:
        """Values of the first modality that the model has; None where it has none."""
        columns = sorted(self._columns(statistic), key=lambda each: self.modalities.index(each.modality))
        return next((rows[each.name] for each in columns if rows[each.name].notna().any()), None)

    def _chosen_rows(self, *columns: str) -> dict[str, pd.DataFrame]:
        rows = self._rows(*columns)
        return (
            rows if self.chosen is None else {name: each.iloc[[*self.selection.places]] for name, each in rows.items()}
        )

    def _rows(self, *columns: str) -> dict[str, pd.DataFrame]:
        """Model -> its rows of the first `limit` videos."""
        table = read_sweep(self.sweep.folder, columns, list(self.models), self.settings.limit)
        return {name: table[table["model"] == name] for name in self.models}


def swept_samples(rows: pd.DataFrame) -> xr.Dataset:
    """What `results.metric_samples` gives, of one model's rows.

    GAP and MAP use a video's 20 highest predictions, which are all here; PERR and Hit@1 are means over videos.

    Args:
        rows: with `known_labels`, `top_classes`, `top_scores`, `perr` and `hit_at_1`.

    Returns:
        `estimate` (metric) and `without` (metric, group), in percent.
    """
    whole, known = sweep_metrics(rows).iloc[0], rows[rows["known_labels"].map(len) > 0]
    counts = jackknife_counts(max(1, len(known)))[:, : len(known)]
    without = resampled_metrics(*dense_scores(known, classes_of(rows)), counts, metrics=("gap", "map"))
    of_videos = video_scores(known)
    without |= {name: resampled_means(of_videos[name].to_numpy(), counts) for name in WHOLE}
    return xr.Dataset(
        {
            "estimate": ("metric", PERCENT * np.array([float(whole[name]) for name in METRICS])),
            "without": (("metric", "group"), PERCENT * np.stack([without[name] for name in METRICS])),
        },
        {"metric": np.array(METRICS)},
    )


def common_labels(rows: Mapping[str, pd.DataFrame]) -> None:
    """Check that all models know the same labels of the same videos, so that their scores can be compared.

    Raises:
        ArgumentError: they do not; names the two models.
    """
    labels = {name: [tuple(known) for known in each["known_labels"]] for name, each in rows.items()}
    first = next(iter(labels))
    for name, each in labels.items():
        if each != labels[first]:
            raise ArgumentError(
                f"models {first!r} and {name!r} know different labels of the same videos; choose models of one "
                "vocabulary"
            )
