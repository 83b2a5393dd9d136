"""The interactive inspector: a widget (`Inspector`) and a self-contained HTML file (`write_html`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from figures.inspector.html import write_html
from figures.inspector.records import InspectorError

if TYPE_CHECKING:
    from figures.inspector.widget import Inspector

__all__ = ["Inspector", "InspectorError", "write_html"]


def __getattr__(name: str) -> Any:
    # Only the widget needs the notebooks extra; HTML files are written without it.
    if name != "Inspector":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from figures.inspector.widget import Inspector
    except ModuleNotFoundError as error:
        if error.name not in ("anywidget", "traitlets"):
            raise
        message = "the inspector in a notebook needs the notebooks extra: pip install -e '.[notebooks]'"
        raise ModuleNotFoundError(message, name=error.name) from None
    return Inspector
