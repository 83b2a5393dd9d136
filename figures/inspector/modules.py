"""The page's modules, joined into one text: a widget takes one text, and a page opened as a file may load no other.

A module is a file in `js/`. Lines that begin with `import` or `export` have one of these forms, and no other:

    import { name, other } from "./module.js";   or from "../module.js", of the folder above
    export class Name ...   export function name ...   export async function name ...   export const name ...

and in the last module also `export { name, other };` and `export default ...`, which stay. All else is kept as it is.
All modules share one scope then, so no two may declare the same name at their top.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from gmsa_models.errors import ArgumentError

__all__ = ["FOLDER", "LIVE_MODULES", "MODULES", "join", "live_module_text", "module_text"]

FOLDER = Path(__file__).parent / "js"
# In the order in which they are joined: each after those that it imports from.
MODULES = (
    "payload", "words", "colours", "vertical_lines", "state", "drawing", "edits", "edit_list", "edited_pass",
    "unedited", "selection", "panel", "maps", "predictions", "media", "lanes", "legend", "pictures", "tip", "playback",
    "save", "class_search", "controls", "keyboard", "python", "measure", "share", "what_if_bar", "what_if",
    "page_engine", "tables", "address", "explained", "inspector", "kernel_engine", "entry",
)  # fmt: skip
# Those of a live page's thread, which makes a model's passes.
LIVE_MODULES = (
    "payload", "live/texts", "live/masks", "live/blocks", "live/sites", "live/edits", "live/orders", "live/changes",
    "live/plan", "live/reuse", "live/assembler", "live/products", "live/functions", "live/stages", "live/model",
    "live/variables", "live/worker",
)  # fmt: skip

_IMPORT = re.compile(r'import \{ (\w+(?:, \w+)*) \} from "\.\.?/(\w+)\.js";')
_DECLARATION = re.compile(r"(?P<export>export )?(?:async )?(?:class|function|const|let) (?P<name>\w+)\b.*")
_LAST = re.compile(r"export \{ \w+(?:, \w+)* \};|export default .*")


@cache
def module_text() -> str:
    """The modules in `js/` as one module, whose exports are those of the last."""
    return _joined(MODULES)


@cache
def live_module_text() -> str:
    """The modules of a live page's thread as one text."""
    return _joined(LIVE_MODULES)


def _joined(modules: Sequence[str]) -> str:
    return join({Path(name).name: (FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in modules})


def join(sources: Mapping[str, str]) -> str:
    """Join modules into one.

    Args:
        sources: texts by name, each after those that it imports from.

    Returns:
        One text that needs no other module.

    Raises:
        ArgumentError: an `import` or `export` of another form, a name that no earlier module exports, a name that two
            modules declare.
    """
    exported: dict[str, set[str]] = {}
    declared: dict[str, str] = {}
    joined = []
    for name, source in sources.items():
        last = len(exported) == len(sources) - 1
        kept, exports = [], set()
        for number, line in enumerate(source.splitlines(), 1):
            where = f"{name}.js, line {number}"
            if line.startswith("import"):
                _check_import(line, exported, where)
                continue
            if match := _DECLARATION.fullmatch(line):
                other = declared.setdefault(match["name"], name)
                if other != name:
                    raise ArgumentError(f"{where}: {match['name']!r} is declared in {other}.js too")
                exports |= {match["name"]} if match["export"] else set()
                line = line if last else line.removeprefix("export ")
            elif line.startswith("export") and not (last and _LAST.fullmatch(line)):
                raise ArgumentError(f"{where}: {line!r}; expected `export` before class, function or const")
            kept.append(line)
        exported[name] = exports
        joined.append("\n".join(kept).strip("\n"))
    return "\n\n".join(joined) + "\n"


def _check_import(line: str, exported: Mapping[str, set[str]], where: str) -> None:
    match = _IMPORT.fullmatch(line)
    if match is None:
        raise ArgumentError(f'{where}: {line!r}; expected `import {{ name, other }} from "./module.js";`')
    if match[2] not in exported:
        raise ArgumentError(f"{where}: {match[2]}.js does not stand before it; before it stand {', '.join(exported)}")
    if missing := sorted(set(match[1].split(", ")) - exported[match[2]]):
        raise ArgumentError(
            f"{where}: {match[2]}.js exports no {missing[0]!r}; it exports {sorted(exported[match[2]])}"
        )
