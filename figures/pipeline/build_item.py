"""Making one item: numbers, then pictures, then the JSON that names both; each only if something has changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures.files import code_digest, digest, sha256
from figures.pipeline.catalogue import Item
from figures.pipeline.drawing import Drawing, drawn, numbers_file
from figures.pipeline.from_sweep import NumberSource
from figures.pipeline.request import Request
from figures.pipeline.table_files import save_tables
from figures.style import software
from gmsa_models.data.atomic import write_text

__all__ = ["CACHE", "Made", "finish", "make", "read_json"]

CACHE = ".cache"


@dataclass(frozen=True)
class Made:
    """An item whose numbers are there.

    Attributes:
        item: which.
        keys: what its numbers and pictures depend on.
        drawing: how it is drawn.
        files: what comes of that; None: nothing has changed.
    """

    item: Item
    keys: Mapping[str, str]
    drawing: Drawing
    files: Future[list[str]] | None

    @property
    def ready(self) -> bool:
        """Whether `finish` would not wait; False for a drawing that was called off."""
        return self.files is None or (self.files.done() and not self.files.cancelled())


def make(item: Item, request: Request, source: NumberSource, executor: Executor) -> Made:
    """Compute an item's numbers and have it drawn, as far as this folder's cache does not know both as done.

    Files that came with a checkout are made anew: the cache, which does not travel, says what was made here.
    """
    path, note = request.out / item.name, _note(request, item)
    done = {} if request.force else read_json(note)
    numbers, key, fresh = numbers_file(request.out, item), source.key(item), False
    if done.get("numbers_key") != key or not _is_file(numbers, done.get("numbers_sha256")):
        save_tables(numbers, source.tables(item))
        fresh = True
    keys = {"numbers_sha256": sha256(numbers), "numbers_key": key}
    keys["drawing_key"] = _drawing_key(item, request, keys["numbers_sha256"])
    drawing = Drawing(item, request.out, request.formats, request.width, request.style)
    if not fresh and done.get("drawing_key") == keys["drawing_key"] and _all_there(path, done):
        return Made(item, keys, drawing, None)
    return Made(item, keys, drawing, _submit(executor, drawing))


def finish(made: Made, request: Request, source: NumberSource) -> bool:
    """Wait for the pictures and write the JSON; True if there was anything to draw.

    Raises:
        Exception: what the drawing raised.
    """
    if made.files is None:
        return False
    item, files = made.item, drawn(made.drawing, made.files)
    about = {"command": request.command, "seed": request.seed} | source.about(item) | {"software": software()}
    about |= {"reads": item.signs} if item.signs else {}
    about |= {"numbers": numbers_file(request.out, item).name, "files": files} | dict(made.keys)
    _write_json(request.out / f"{item.name}.json", about)
    _write_json(_note(request, item), dict(made.keys) | {"files": files})
    return True


def read_json(path: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing where there is none or it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return {}


def _submit(executor: Executor, drawing: Drawing) -> Future[list[str]]:
    try:
        return executor.submit(drawing)
    except BrokenProcessPool as error:  # the other process was killed: `drawn` draws here
        broken: Future[list[str]] = Future()
        broken.set_exception(error)
        return broken


def _note(request: Request, item: Item) -> Path:
    return request.out / CACHE / f"{item.name}.json"


def _drawing_key(item: Item, request: Request, numbers: str) -> str:
    style = None if request.style is None else sha256(request.style)
    code = code_digest(("figures",))
    return digest([item.key, numbers, request.width, style, sorted(request.formats), code, software()])


def _all_there(path: Path, about: Mapping[str, Any]) -> bool:
    return all(path.with_name(name).is_file() for name in about.get("files", []))


def _is_file(path: Path, expected: str | None) -> bool:
    return path.is_file() and sha256(path) == expected


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
