"""Write a series of montages as YouTube-8M TFRecord shards, so that training reads them like any other data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from gmsa_models.data.atomic import remove_leftovers, replaced_when_done
from gmsa_models.data.errors import brief
from gmsa_models.data.lock import locked
from gmsa_models.data.montage.class_statistics import shipped_statistics
from gmsa_models.data.montage.make import VectorSource, montage, montages
from gmsa_models.data.montage.recipe import MontageRecipe
from gmsa_models.data.spaces import same_labels
from gmsa_models.errors import ConfigError, WorkerError
from gmsa_models.workers import WorkerContext, leave_if_imported

__all__ = ["unshipped_classes", "write_montages"]

FORMAT_VERSION = 2
RECIPE = "recipe.json"
LONGEST_RECIPE = 1 << 20  # bytes


@dataclass(frozen=True)
class _Shard:
    path: Path
    start: int
    count: int


def write_montages(
    source: VectorSource,
    recipe: MontageRecipe,
    seed: int,
    count: int,
    out_dir: str | Path,
    shards: int = 1,
    processes: int = 1,
    progress: Callable[[int], None] = lambda videos: None,
) -> list[Path]:
    """Write videos 0 to `count` of a series as `montage-00000-of-00040.tfrecord` ... and `recipe.json` beside them.

    A shard appears only when it is complete, and one that is there is not made again, so a run that was killed goes on
    where it stopped. How many processes take part changes nothing in the bytes.

    Args:
        source: where the vectors come from.
        recipe: what the videos are made of.
        seed: of the series.
        count: videos in all, >= 1.
        out_dir: made if it is absent.
        shards: files to spread the videos over, 1 to `count`.
        processes: how many work at once.
        progress: called after each shard with the videos in it, also for a shard that was there already.

    Returns:
        The shards, in order.

    Raises:
        ConfigError: counts out of range, or the directory holds a series made otherwise.
        OutputError: another process is writing to the directory.
        WorkerError: of several processes, one cannot start, or was killed.
    """
    if not 1 <= shards <= count or processes < 1:
        raise ConfigError(
            f"{count} videos, {shards} shards, {processes} processes; expected 1 <= shards <= videos and processes >= 1"
        )
    if processes > 1:
        leave_if_imported()
    out_dir = Path(out_dir)
    plan = _plan(out_dir, count, shards)
    with locked(out_dir, "montages"):
        remove_leftovers(out_dir, "montage-*.tfrecord", RECIPE)
        _write_recipe(out_dir / RECIPE, source, recipe, seed, count, plan)
        work = partial(_write_shard, source, recipe, seed)
        for shard in _run(work, plan, processes):
            progress(shard.count)
    return [shard.path for shard in plan]


def _run(work: Callable[[_Shard], _Shard], plan: list[_Shard], processes: int) -> Iterator[_Shard]:
    if processes == 1:
        yield from map(work, plan)
        return
    workers = WorkerContext()
    try:
        with ProcessPoolExecutor(processes, workers) as pool:
            yield from pool.map(work, plan)
    except BrokenProcessPool as error:
        workers.check_start()
        raise WorkerError("a worker process was lost; it may need more memory: give fewer processes") from error


def _plan(out_dir: Path, count: int, shards: int) -> list[_Shard]:
    bounds = pairwise(count * number // shards for number in range(shards + 1))
    return [
        _Shard(out_dir / f"montage-{number:05d}-of-{shards:05d}.tfrecord", start, end - start)
        for number, (start, end) in enumerate(bounds)
    ]


def _write_shard(source: VectorSource, recipe: MontageRecipe, seed: int, shard: _Shard) -> _Shard:
    from gmsa_models.data.tfrecord.files import write_clips

    if not shard.path.exists():
        write_clips(shard.path, montages(source, recipe, seed, shard.count, start=shard.start))
    return shard


def _write_recipe(
    path: Path, source: VectorSource, recipe: MontageRecipe, seed: int, count: int, plan: list[_Shard]
) -> None:
    """Write what the series is made of, or check that what is there says the same.

    Raises:
        ConfigError: it says otherwise, or is not to be read.
    """
    described = {
        "format_version": FORMAT_VERSION,
        "source": source.name,
        "source_sha256": source.sha256,
        "classes": [int(label) for label in source.kept],
        "not_of_shipped_models": unshipped_classes(source),
        "seed": seed,
        "videos": count,
        "shards": len(plan),
        "recipe": json.loads(json.dumps(recipe.to_dict())),
    }
    if path.exists():
        earlier = _read_recipe(path)
        if earlier == described:
            return
        differing = sorted(key for key in {*described, *earlier} if described.get(key) != earlier.get(key))
        if not _is_earlier_version_of(earlier, described, lambda shard: _has_first(shard, source, recipe, seed), plan):
            raise ConfigError(
                f"{path}: a series made with another {', '.join(map(_key, differing))}; choose another directory"
            )
    with replaced_when_done(path) as temporary:
        temporary.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def _key(name: str) -> str:
    return name if name.isidentifier() and len(name) < 40 else brief(name)


def unshipped_classes(source: VectorSource) -> list[int]:
    """Labels of a source that the shipped models do not know, in its order."""
    shipped = shipped_statistics()
    known = set(shipped.kept) if same_labels(source.dataset, shipped.dataset) else set()
    return [int(label) for label in source.kept if label not in known]


def _read_recipe(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    if size > LONGEST_RECIPE:
        error = f"{size} bytes; at most {LONGEST_RECIPE} are read"
    else:
        try:
            recipe = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(recipe, dict):
                return recipe
            error = f"it holds {type(recipe).__name__}"
        except (ValueError, RecursionError) as caught:
            error = brief(str(caught))
    raise ConfigError(
        f"{path}: not the recipe of a series ({error}); remove it and the shards beside it, or choose another directory"
    )


def _is_earlier_version_of(
    earlier: dict[str, Any], described: dict[str, Any], has_first: Callable[[_Shard], bool], plan: list[_Shard]
) -> bool:
    """Whether an earlier version, which did not note what the vectors are, began the same series; its shards say so."""
    if earlier.get("format_version") != 1 or any(
        earlier[name] != described.get(name) for name in set(earlier) - {"format_version"}
    ):
        return False
    return all(has_first(shard) for shard in plan if shard.path.exists())


def _has_first(shard: _Shard, source: VectorSource, recipe: MontageRecipe, seed: int) -> bool:
    """Whether a shard begins with the video that it should begin with."""
    from gmsa_models.data.formats import read_file

    made, first = montage(source, recipe, seed, shard.start), next(iter(read_file(shard.path)), None)
    return (
        first is not None
        and (first.id, first.labels) == (made.id, made.labels)
        and first.features.keys() == made.features.keys()
        and all(np.array_equal(first.features[name], values) for name, values in made.features.items())
    )
