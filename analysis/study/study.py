"""Study: everything that the paper's figures need of some models and videos, computed when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import count, islice
from threading import Lock
from typing import Protocol, runtime_checkable

import numpy as np
import xarray as xr

from analysis.study.contrast import Contrast, clearest, contrast
from analysis.study.effects import branch_effects
from analysis.study.explained import ablation_table, evidence_found, explained_clips
from analysis.study.lines import line_statistics
from analysis.study.model_workers import Compute, ModelWorkers
from analysis.study.passes import clip_statistics, model_statistics
from analysis.study.results import metric_samples
from analysis.study.scores import score_models
from analysis.study.selection import Selection, clips_at, select
from analysis.study.steps import step_seconds
from analysis.workers import map_in_threads
from gmsa_models.checkpoints.files import load
from gmsa_models.checkpoints.model_file import ModelFile
from gmsa_models.classifier import GMSAClassifier, parameter_mib
from gmsa_models.data.clip import Clip
from gmsa_models.data.sources import read_clips
from gmsa_models.errors import ArgumentError
from gmsa_models.masks import Neighbourhood, Toeplitz, neighbourhood_to_dict
from gmsa_models.variants import nearest_variant

__all__ = ["Cache", "NoCache", "Settings", "Study"]

Progress = Callable[[str, int, int | None], None]
SHARED = Toeplitz(30)


@runtime_checkable
class Cache(Protocol):
    """Where computed tables are kept, by what they were computed from."""

    def get(self, key: Mapping[str, object]) -> xr.Dataset | None:
        """The table of a key, or None."""

    def put(self, key: Mapping[str, object], table: xr.Dataset) -> None:
        """Keep a table."""


class NoCache:
    """Keeps nothing, so everything is computed anew."""

    def get(self, key: Mapping[str, object]) -> None:
        """None."""

    def put(self, key: Mapping[str, object], table: xr.Dataset) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Settings:
    """How much is looked at.

    Attributes:
        limit: scores are of the first so many videos.
        videos: how many of them are looked at closely (maps, gradients).
        frames: how many first frames of those.
        neighbourhood: the N_i by which every model's sensitivity is measured alike. TP_30: about half a minute.
        modality: whose gradients are taken.
        seed: of resampling and permutations.
        resamples: bootstrap samples.
        explained: how many videos are explained by every method; the first with known segments.
        explained_frames: how many first frames of those.
        ablated: on how many videos, the first, branches and heads are ablated; and on how many, the first with known
            segments and of `explained_frames`, branches are knocked out.
    """

    limit: int = 2000
    videos: int = 32
    frames: int = 150
    neighbourhood: Neighbourhood = SHARED
    modality: str = "visual"
    seed: int = 0
    resamples: int = 2000
    explained: int = 16
    explained_frames: int = 60
    ablated: int = 32

    def to_dict(self) -> dict[str, object]:
        """Plain values, for keys and provenance."""
        return {**asdict(self), "neighbourhood": neighbourhood_to_dict(self.neighbourhood)}


class Study:
    """Some models on some videos. Each table is computed once, and not at all where the cache has it.

    Attributes:
        models: name -> checkpoint, in the order of the figures.
        source: what `read_clips` takes, a list.
        settings: how much is looked at.
    """

    def __init__(
        self,
        models: Sequence[ModelFile],
        source: Sequence[str],
        data_key: str,
        settings: Settings,
        cache: Cache,
        progress: Progress = lambda stage, done, total: None,
        workers: ModelWorkers | None = None,
    ) -> None:
        """Nothing is read yet.

        Args:
            models: at least one, of different names.
            source: paths, globs, `path#id`, `demo:0-512`.
            data_key: what tells these data from others, say a digest.
            settings: how much is looked at.
            cache: where tables are kept.
            progress: called with the stage, how much of it is done, and of how much (None: not known).
            workers: processes that compute several models at once; None: threads of this process do.
        """
        self.models = {model.name: model for model in models}
        self.source, self.settings = list(source), settings
        self._data_key, self._cache, self._progress = data_key, cache, progress
        self._workers = workers
        self._loaded: dict[str, GMSAClassifier] = {}

    def model(self, name: str) -> GMSAClassifier:
        """A loaded model.

        Raises:
            ArgumentError: not in the study.
        """
        if name not in self.models:
            raise ArgumentError(f"model {name!r} is not in this study; it has {', '.join(self.models) or 'none'}")
        if name not in self._loaded:
            self._loaded[name] = load(self.models[name].path)
        return self._loaded[name]

    def kind(self, name: str) -> str:
        """Attention block of a model: "baseline", "gate-op" and so on."""
        return self.model(name).config.attention

    @property
    def variants(self) -> dict[str, str]:
        """Model -> the column of the paper that it is most like."""
        return {name: nearest_variant(self.model(name).config) for name in self.models}

    def mebibytes(self, name: str) -> float:
        """Size of a model's parameters in MiB."""
        return parameter_mib(self.model(name))

    def of_kind(self, *kinds: str) -> list[str]:
        """Names of the models with one of these blocks, in order."""
        return [name for name in self.models if self.kind(name) in kinds]

    @property
    def attending(self) -> list[str]:
        """Names of the models that have attention: all but the control."""
        return [name for name in self.models if self.kind(name) != "none"]

    @cached_property
    def baseline(self) -> str:
        """Name of the first Baseline.

        Raises:
            ArgumentError: there is none.
        """
        if not (names := self.of_kind("baseline")):
            raise ArgumentError(f"no Baseline among the models {', '.join(self.models)}; this figure needs one")
        return names[0]

    @cached_property
    def scores(self) -> dict[str, xr.Dataset]:
        """Model -> `score`, `label` (video, class) and `frames` (video) of the first `limit` videos."""
        keys = {name: self._key("scores", name, limit=self.settings.limit) for name in self.models}
        cached = {name: self._cache.get(key) for name, key in keys.items()}
        missing = [name for name, table in cached.items() if table is None]
        if missing:
            stage, done = f"scores of {len(missing)} models", 0

            def advance(videos: int) -> None:
                nonlocal done
                done += videos
                self._progress(stage, done, None)

            clips = islice(read_clips(self.source), self.settings.limit)
            for name, table in score_models({name: self.model(name) for name in missing}, clips, advance).items():
                self._cache.put(keys[name], table)
                cached[name] = table
        return {name: table for name, table in cached.items() if table is not None}

    @property
    def videos(self) -> int:
        """How many have a label that the models know: those that the scores are of."""
        return int(next(iter(self.scores.values()))["label"].any("class").sum())

    @property
    def unlabelled(self) -> int:
        """How many have none, and count in no score."""
        return next(iter(self.scores.values())).sizes["video"] - self.videos

    @cached_property
    def metrics(self) -> dict[str, xr.Dataset]:
        """Model -> its four scores, and those without each video, kept model by model."""
        common_classes(self.scores)
        done, total = count(1), len(self.scores)

        def compute(name: str) -> xr.Dataset:
            key = self._key("metric samples", name, limit=self.settings.limit)
            table = self._kept(key, lambda: metric_samples(self.scores[name]))
            self._progress("intervals of the scores", next(done), total)
            return table

        return dict(zip(self.scores, map_in_threads(compute, self.scores), strict=True))

    @cached_property
    def selection(self) -> Selection:
        """The videos that are looked at closely."""
        lengths = next(iter(self.scores.values()))["frames"].values
        return select(lengths, self.settings.videos, self.settings.frames)

    @cached_property
    def clips(self) -> list[Clip]:
        """Those videos, cut to one length."""
        return [clip.cut(self.selection.frames) for clip in clips_at(self.source, self.selection.places)]

    @cached_property
    def statistics(self) -> dict[str, xr.Dataset]:
        """Model with attention -> what `model_statistics` gives of the chosen videos; kept model by model."""
        keys = {name: self._close_key("statistics", name) for name in self.attending}
        settings, clips = self.settings, self.clips
        compute = partial(
            model_statistics, clips=clips, neighbourhood=settings.neighbourhood, modality=settings.modality
        )
        return self._of_models("maps and gradients", keys, compute, len(clips))

    @cached_property
    def lines(self) -> dict[str, xr.Dataset]:
        """Model with attention -> what `line_statistics` gives of the chosen videos; kept model by model."""
        more = {"places": list(self.selection.places), "frames": self.selection.frames}
        keys = {name: self._key("vertical lines", name, **more) for name in self.attending}
        return self._of_models("vertical lines", keys, partial(line_statistics, clips=self.clips), len(self.clips))

    @cached_property
    def mean_sensitivity(self) -> dict[str, xr.Dataset]:
        """Model with attention -> `sensitivity` and perhaps `own_sensitivity` (video): means over frames."""
        kept = lambda table: [name for name in ("sensitivity", "own_sensitivity") if name in table]  # noqa: E731
        return {name: table[kept(table)].mean("frame") for name, table in self.statistics.items()}

    @cached_property
    def evidence(self) -> dict[str, xr.Dataset]:
        """Model -> what `evidence_found` gives of the explained videos; kept model by model.

        Raises:
            ArgumentError: there is no video whose segments are known.
        """
        settings = self.settings
        clips = self._explained(settings.explained)
        more = {"explained": len(clips), "frames": settings.explained_frames, "shapley": "exact"}
        keys = {name: self._key("evidence", name, **more) for name in self.models}
        return self._of_models("explanations by every method", keys, partial(evidence_found, clips=clips), len(clips))

    @cached_property
    def ablations(self) -> dict[str, xr.Dataset]:
        """Model with attention -> what `ablation_table` gives of the first videos; kept model by model."""
        settings = self.settings
        clips = list(islice(read_clips(self.source), settings.ablated))
        # Kept tables of earlier versions have other intervals, and explanations Shapley values by sampling.
        more = {"videos": len(clips), "intervals": "jackknife", "seed": settings.seed}
        keys = {name: self._key("ablation", name, **more) for name in self.attending}
        compute = partial(ablation_table, clips=clips, resamples=settings.resamples, seed=settings.seed)
        return self._of_models("ablation of branches and heads", keys, compute, len(clips))

    @cached_property
    def effects(self) -> dict[str, xr.Dataset]:
        """Model with attention -> what `branch_effects` gives of the videos with known segments; kept model by model.

        Raises:
            ArgumentError: there is no video whose segments are known.
        """
        settings = self.settings
        clips = self._explained(settings.ablated)
        more = {"videos": len(clips), "frames": settings.explained_frames}
        keys = {name: self._key("effects", name, **more) for name in self.attending}
        return self._of_models("knocking out branches", keys, partial(branch_effects, clips=clips), len(clips))

    @cached_property
    def clip_table(self) -> xr.Dataset:
        """What the chosen videos alone decide."""
        modalities = list(self.model(next(iter(self.models))).config.modalities)
        return self._kept(self._close_key("clips", ""), lambda: clip_statistics(self.clips, modalities))

    @cached_property
    def contrasts(self) -> dict[str, Contrast]:
        """GateOp model -> Baseline against it on all scored videos."""
        return {name: contrast(name, self.scores[self.baseline], self.scores[name]) for name in self.of_kind("gate-op")}

    @cached_property
    def clearest_contrast(self) -> tuple[Contrast, Clip]:
        """The clearest contrast, and its video; the first video where no video is a contrast."""
        chosen = clearest(self.contrasts)
        return chosen, next(clips_at(self.source, [chosen.video or 0]))

    @cached_property
    def steps(self) -> xr.Dataset:
        """Seconds of a training step, a family; measured now, so no two measurements are alike."""
        first = {self.kind(name): name for name in reversed(list(self.models)) if self.kind(name) != "none"}
        hashes = {kind: self.models[name].sha256 for kind, name in first.items()}
        key = {"stage": "steps", "models": hashes}
        return self._kept(key, lambda: step_seconds({kind: self.model(name) for kind, name in first.items()}))

    def _explained(self, videos: int) -> list[Clip]:
        """The first videos with known segments."""
        vocabulary = self.model(next(iter(self.models))).vocabulary
        if vocabulary is None:
            raise ArgumentError("the models have no vocabulary, so labels of segments cannot be matched to outputs")
        clips = explained_clips(self.source, vocabulary, videos, self.settings.explained_frames)
        if not clips:
            raise ArgumentError("no video of these data has known segments; this figure needs some")
        return clips

    def _of_models(
        self, title: str, keys: Mapping[str, Mapping[str, object]], compute: Compute, videos: int
    ) -> dict[str, xr.Dataset]:
        """Model -> its table, from the cache or computed, several models at once; kept as soon as it is there."""
        tables = {name: self._cache.get(key) for name, key in keys.items()}
        missing = [name for name, table in tables.items() if table is None]
        done, lock = 0, Lock()

        def advance(clips: int) -> None:
            nonlocal done
            with lock:
                done += clips
                self._progress(title, done, videos * len(missing))

        def keep(name: str, table: xr.Dataset) -> None:
            self._cache.put(keys[name], table)
            tables[name] = table

        if missing:
            advance(0)
        if self._workers is None or len(missing) < 2:
            models = {name: self.model(name) for name in missing}
            map_in_threads(lambda name: keep(name, compute(models[name], progress=advance)), missing)
        else:
            for name, table in self._workers.tables(compute, {name: self.models[name] for name in missing}):
                keep(name, table)
                advance(videos)
        return {name: table for name, table in tables.items() if table is not None}

    def _kept(self, key: Mapping[str, object], compute: Callable[[], xr.Dataset]) -> xr.Dataset:
        table = self._cache.get(key)
        if table is None:
            table = compute()
            self._cache.put(key, table)
        return table

    def _close_key(self, stage: str, name: str) -> dict[str, object]:
        places = self.selection
        settings = {key: self.settings.to_dict()[key] for key in ("neighbourhood", "modality")}
        return self._key(stage, name, places=list(places.places), frames=places.frames, **settings)

    def _key(self, stage: str, name: str, **more: object) -> dict[str, object]:
        model = self.models[name].sha256 if name else ""
        return {"stage": stage, "model": model, "data": self._data_key, **more}


def common_classes(tables: Mapping[str, xr.Dataset]) -> None:
    """Check that scores are of the same videos and classes, so that they can be compared.

    Raises:
        ArgumentError: they are not; names the two models.
    """
    names = list(tables)
    for name in names[1:]:
        for axis in ("video", "class"):
            if not np.array_equal(tables[names[0]][axis].values, tables[name][axis].values):
                raise ArgumentError(f"models {names[0]!r} and {name!r} were not scored on the same {axis} coordinates")
