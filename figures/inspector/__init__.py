"""The interactive inspector: a widget (`Inspector`) and a self-contained HTML file (`write_html`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from figures.inspector.html import write_html
from gmsa_models.lazy import lazy_names

if TYPE_CHECKING:
    from figures.inspector.explorer import Explorer
    from figures.inspector.progress import Progress
    from figures.inspector.widget import Inspector

__all__ = ["Explorer", "Inspector", "Progress", "write_html"]

_WIDGETS = {
    "Explorer": "figures.inspector.explorer",
    "Inspector": "figures.inspector.widget",
    "Progress": "figures.inspector.progress",
}
_load = lazy_names(__name__, _WIDGETS)
_EXTRA = ("anywidget", "traitlets", "ipywidgets")


def __getattr__(name: str) -> Any:
    # Only the widgets need the notebooks extra; HTML files are written without it.
    try:
        return _load(name)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        message = "the inspector in a notebook needs the notebooks extra: pip install 'gmsa-workbench[notebooks]'"
        raise ModuleNotFoundError(message, name=error.name) from None
