"""Numbers for the figures from the table of a sweep; what the sweep lacks is computed as usual, or skipped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import xarray as xr

from analysis.errors import SweepError
from figures.files import code_digest, digest
from figures.pipeline.catalogue import Item
from figures.pipeline.provenance import Checkpoint, data_digest, find_checkpoints, versions, zoo
from figures.pipeline.request import Request
from gmsa_models.errors import ArgumentError

if TYPE_CHECKING:
    from analysis.study.swept import SweptStudy
    from analysis.sweep import SweepContents

__all__ = ["MissingAnalysisError", "NumberSource", "Swept"]


class MissingAnalysisError(SweepError):
    """A figure whose numbers a sweep lacks; the message says which analysis would give them."""


class NumberSource(Protocol):
    """Where numbers come from."""

    def key(self, item: Item) -> str:
        """What tells an item's numbers from others."""

    def tables(self, item: Item) -> dict[str, xr.Dataset]:
        """The numbers."""

    def about(self, item: Item) -> dict[str, Any]:
        """Their provenance."""

    def finish(self) -> None:
        """Called when every item is made."""

    def close(self) -> None:
        """Called last, after an error too: ends the processes that computed."""


class Swept:
    """Numbers of a sweep.

    Attributes:
        sweep: what its folder holds.
        models: name -> file of the models that are drawn, None where it is not known.
    """

    def __init__(
        self,
        request: Request,
        folder: Path,
        computed: Callable[[Sequence[str]], NumberSource],
        report: Callable[[str, str, str], None],
    ) -> None:
        """Reads what the files of the sweep say of themselves.

        Args:
            request: what to draw.
            folder: of the sweep.
            computed: names or paths of models -> the usual source, for what the sweep does not hold.
            report: told what of the sweep is not there or not drawn.

        Raises:
            SweepError: the folder holds no sweep.
            ArgumentError: a model that was not swept; with data, one whose file is not known.
            ArgumentError, ValueError: a neighbourhood that is not the sweep's.
        """
        from analysis.sweep import sweep_contents

        self.request, self.folder = request, folder
        self.sweep = sweep_contents(folder)
        self.models = swept_models(self.sweep, request.models)
        _check_neighbourhood(self.sweep, request.neighbourhood)
        known = [str(model.path) for model in self.models.values() if model is not None]
        if request.data and len(known) < len(self.models):
            unknown = [name for name, model in self.models.items() if model is None]
            raise ArgumentError(
                f"models {', '.join(unknown)} of the sweep are neither in the zoo nor among --models, by SHA-256; "
                "to compute what the sweep lacks give their files"
            )
        self._computed = computed(known) if known else computed(list(zoo()))
        self.content = data_digest([_escaped(folder)])
        self.code = code_digest(("gmsa_models", "analysis"))
        if self.notice:
            report("sweep", "not all of it", self.notice)

    @property
    def notice(self) -> str:
        """A sentence on what is not there, or not drawn; empty when everything is."""
        parts = [self.sweep.shortfall] if self.sweep.shortfall else []
        drawn = self.study.videos + self.study.unlabelled
        if drawn < self.sweep.videos:
            parts.append(f"the first {drawn} of {self.sweep.videos} videos are drawn, see --limit")
        return "; ".join(parts)

    def key(self, item: Item) -> str:
        """Told by the sweep's files, models and settings.

        Raises:
            MissingAnalysisError: the sweep lacks the numbers, and there are no data to compute them from.
        """
        if self._is_computed(item):
            return self._computed.key(item)
        models = [[name, self.sweep.models[name], model is not None] for name, model in self.models.items()]
        described = {"item": item.key, "sweep": self.content, "models": models, "settings": self._settings()}
        return digest(described | {"code": self.code, "versions": versions()})

    def tables(self, item: Item) -> dict[str, xr.Dataset]:
        """The numbers of an item. Raises as `key`."""
        from analysis.study.swept_tables import swept_tables

        return self._computed.tables(item) if self._is_computed(item) else swept_tables(item.key, self.study)

    def about(self, item: Item) -> dict[str, Any]:
        """What the sweep says that it was made from."""
        if self._is_computed(item):
            return self._computed.about(item)
        shards = self.sweep.shards
        made = {
            "folder": str(self.folder),
            "settings": dict(self.sweep.settings),
            "versions": dict(self.sweep.versions),
            "videos": self.sweep.videos,
            "records_left_out": self.sweep.left_out,
            "shards_missing": len(self.sweep.missing),
            "shards_failed": self.sweep.failed,
        }
        data = {
            "shards": len(shards),
            "first": shards[0]["name"],
            "last": shards[-1]["name"],
            "bytes": sum(shard["bytes"] for shard in shards),
            "sha256": digest([dict(shard) for shard in shards]),
        }
        models = {name: self.sweep.models[name] for name in self.models}
        return {
            "computed_with": versions(),
            "settings": self._settings(),
            "models": models,
            "data": data,
            "sweep": made,
        }

    def finish(self) -> None:
        """Nothing to clear up: the cache is of computed numbers, which a later run may want."""

    def close(self) -> None:
        """Of what the sweep lacks."""
        self._computed.close()

    def _is_computed(self, item: Item) -> bool:
        from analysis.study.swept_tables import missing_part

        lack = missing_part(item.key, self.study) if item.needs_study else ""
        if lack and not self.request.data:
            raise MissingAnalysisError(lack)
        return bool(lack) or not item.needs_study

    def _settings(self) -> dict[str, Any]:
        settings = self.request.settings
        return {"limit": settings["limit"], "videos": self.request.videos or "all", "seed": settings["seed"]}

    @cached_property
    def study(self) -> SweptStudy:
        """The numbers."""
        from analysis.study.study import Settings
        from analysis.study.swept import SweptStudy
        from gmsa_models.checkpoints.model_file import ModelFile
        from gmsa_models.masks import neighbourhood_from_dict

        requested = self.request.settings
        neighbourhood = neighbourhood_from_dict(self.sweep.settings["neighbourhood"])
        settings = Settings(
            limit=requested["limit"], videos=requested["videos"], seed=requested["seed"], neighbourhood=neighbourhood
        )
        files = {
            name: None if model is None else ModelFile(name, model.path, model.sha256)
            for name, model in self.models.items()
        }
        return SweptStudy(self.sweep, files, settings, self.request.videos)


def swept_models(sweep: SweepContents, names: Sequence[str]) -> dict[str, Checkpoint | None]:
    """Models to draw, by their names in the sweep: those named, else all, whose files are looked for in the zoo.

    Raises:
        ArgumentError: one of `names` is not there, or was not swept, by its SHA-256.
    """
    checkpoints = find_checkpoints(list(names) or list(zoo()))
    by_hash = {each.sha256: each for each in checkpoints}
    if not names:
        return {name: by_hash.get(sha256) for name, sha256 in sweep.models.items()}
    swept = {sha256: name for name, sha256 in sweep.models.items()}
    for each in checkpoints:
        if each.sha256 not in swept:
            other = ", under that name with other weights" if each.name in sweep.models else ""
            raise ArgumentError(f"model {each.name!r} was not swept{other}; the sweep has {', '.join(sweep.models)}")
    return {swept[each.sha256]: each for each in checkpoints}


def _check_neighbourhood(sweep: SweepContents, text: str | None) -> None:
    from gmsa_models.masks import neighbourhood_from_dict, neighbourhood_from_text, neighbourhood_text

    swept = neighbourhood_from_dict(sweep.settings["neighbourhood"])
    if text is not None and neighbourhood_from_text(text) != swept:
        name = neighbourhood_text(swept)
        raise ValueError(f"neighbourhood {text!r}, but the sweep measured by {name}; sweep with --neighbourhood {text}")


def _escaped(folder: Path) -> str:
    """A glob of the sweep's files."""
    import glob

    return f"{glob.escape(str(folder))}/*.parquet"
