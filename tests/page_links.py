"""Where the links and pictures of HTML pages lead: those that lead to nothing, and those that leave the disk."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """Where a page's links and pictures point, and what can be pointed at."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.links += [values[name] for name in ("href", "src") if values.get(name)]
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}


def dead_links(site: Path) -> list[str]:
    """`PAGE: LINK` of each link of a page below the folder to a file, or a place in a page, that is not there."""
    pages = {path: Page(path) for path in site.resolve().rglob("*.html")}
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "data", "mailto"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchored = not parts.fragment or target.suffix != ".html" or target not in pages
            if not target.is_file() or not (anchored or unquote(parts.fragment) in pages[target].anchors):
                dead.append(f"{path.name}: {link}")
    return dead
