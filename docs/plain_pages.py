"""The pages of the documentation as plain HTML, which a wheel carries: no Sphinx, no script, no network.

`setup.py` writes them when it builds a wheel; `make docs` builds the whole site, with the reference of the API and with
what the pages of `docs/concepts` show when their code is run. Needs markdown-it-py, mdit-py-plugins and docutils.
"""

from __future__ import annotations

import html
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from docutils.utils.math.latex2mathml import tex2mathml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.anchors import anchors_plugin
from mdit_py_plugins.deflist import deflist_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.front_matter import front_matter_plugin

__all__ = ["write_pages"]

DOCS = Path(__file__).parent
ROOT = DOCS.parent
LARGEST_PICTURE = 150_000  # bytes; screenshots of the inspector are more, and a wheel is downloaded
_FENCE = re.compile(r"^```\{(\w[\w-]*)\} ?(.*?)\n(.*?)^```$\n?", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")
_EXECUTED = (
    "*Code of the concepts stands here without what it shows: `make docs` in a checkout runs it. In a notebook, "
    "`Inspector` of `gmsa.figures.inspector` takes the place of `inspector_frame`.*"
)
_FIRST = (
    "*These pages come with the package, as text. The whole site, with the reference of the API, live inspectors and "
    "all pictures, is built in a checkout by `make docs`. Commands describe themselves with `--help`, and what Python "
    "can import with `help()`.*"
)
_STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --ink: #1d2129; --muted: #5d6573; --line: #d5d9e0; --faint: #f2f4f7;
  --link: #0a5ec2; }
@media (prefers-color-scheme: dark) { :root { --page: #15171c; --ink: #e8eaee; --muted: #a0a8b5; --line: #3a3f4a;
  --faint: #22252c; --link: #6cb2ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
a { color: var(--link); overflow-wrap: anywhere; }
.page { display: grid; grid-template-columns: 15rem minmax(0, 48rem); gap: 2.5rem; max-width: 68rem; margin: 0 auto;
  padding: 1.5rem; }
nav { font-size: 0.9rem; }
nav p { margin: 1rem 0 0.25rem; color: var(--muted); }
nav ul { margin: 0; padding: 0; list-style: none; }
nav ul ul { padding-left: 1rem; }
nav a { text-decoration: none; }
nav a[aria-current] { font-weight: 600; color: var(--ink); }
.to-pages { display: none; }
@media (max-width: 799px) {
  .page { display: flex; flex-direction: column-reverse; gap: 0; padding: 1rem; }
  .to-pages { display: block; }
  nav { border-top: 1px solid var(--line); margin-top: 1rem; }
}
h1 { line-height: 1.2; }
pre, code { font: 0.86rem/1.5 ui-monospace, monospace; }
code { background: var(--faint); padding: 0.1em 0.3em; border-radius: 3px; overflow-wrap: anywhere; }
pre { background: var(--faint); padding: 0.75rem 1rem; border-radius: 5px; overflow-x: auto; }
pre code { padding: 0; overflow-wrap: normal; }
table { display: block; overflow-x: auto; width: fit-content; max-width: 100%; border-collapse: collapse;
  font-size: 0.92rem; }
th, td { padding: 0.3rem 0.75rem 0.3rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
td code { overflow-wrap: normal; }
.math { overflow-x: auto; overflow-y: hidden; padding: 0.25rem 0; }
img { max-width: 100%; height: auto; background: #ffffff; }
.left-out { color: var(--muted); font-style: italic; }
"""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} - GMSA workbench</title>
<style>{style}</style>
</head>
<body>
<div class="page">
<nav id="pages" aria-label="Pages">
{navigation}
</nav>
<main>
<a class="to-pages" href="#pages">Pages</a>
{body}</main>
</div>
</body>
</html>
"""


@dataclass(frozen=True)
class _Entry:
    """A page as the tables of contents name it: its name below `docs`, without `.md`, and those below it."""

    name: str
    caption: str
    below: tuple[_Entry, ...] = ()


def write_pages(out: Path) -> int:
    """Write every page of the guides, the concepts and the results, and the small pictures that they show.

    Args:
        out: a folder; made if it is absent.

    Returns:
        How many pages were written.

    Raises:
        ValueError: a link of a page leads to nothing.
    """
    contents = _contents("index")
    names = ["index", *_names(contents)]
    for name in names:
        _write_page(name, names, contents, out)
    return len(names)


def _write_page(name: str, names: list[str], contents: tuple[_Entry, ...], out: Path) -> None:
    path = out / f"{name}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    parser, environment = _parser(), {}
    tokens = parser.parse(_markdown(name), environment)
    for token in tokens:
        for each in token.children or ():
            if each.type == "link_open":
                each.attrs["href"] = _target(str(each.attrs["href"]), name, names)
            elif each.type == "image":
                _show(each, name, path.parent, out)
    body = parser.renderer.render(tokens, parser.options, environment)
    navigation = _navigation(name, contents)
    page = _PAGE.format(title=html.escape(_title(name)), style=_STYLE, navigation=navigation, body=body)
    path.write_text(page, encoding="utf-8")


def _contents(name: str) -> tuple[_Entry, ...]:
    """What the tables of contents of a page name; the reference of the API needs Sphinx and is left out."""
    entries = []
    for kind, _, text in _FENCE.findall(_source(name)):
        if kind != "toctree":
            continue
        caption = next(iter(re.findall(r"^:caption: (.*)$", text, re.MULTILINE)), "")
        for line in text.splitlines():
            below = _beside(name, line.strip()) if line.strip() and not line.startswith(":") else ""
            if below and not below.startswith("api/"):
                entries.append(_Entry(below, caption, _contents(below)))
    return tuple(entries)


def _names(entries: tuple[_Entry, ...]) -> list[str]:
    return [name for entry in entries for name in (entry.name, *_names(entry.below))]


def _navigation(here: str, contents: tuple[_Entry, ...]) -> str:
    def item(entry: _Entry) -> str:
        current = ' aria-current="page"' if entry.name == here else ""
        below = f"<ul>{''.join(map(item, entry.below))}</ul>" if entry.below else ""
        title = html.escape(_title(entry.name))
        return f'<li><a href="{_from(here, f"{entry.name}.html")}"{current}>{title}</a>{below}</li>\n'

    parts = [f"<ul>{item(_Entry('index', ''))}</ul>"]
    for caption in dict.fromkeys(entry.caption for entry in contents):
        listed = "".join(item(entry) for entry in contents if entry.caption == caption)
        parts.append(f"<p>{html.escape(caption)}</p>\n<ul>{listed}</ul>")
    return "\n".join(parts)


def _markdown(name: str) -> str:
    """A page with its directives resolved, and a note beneath its heading on what it shows less than the site's."""
    text = _resolved(name)
    executed = name == "concepts/index" or "{code-cell}" in _source(name)
    note = _FIRST if name == "index" else _EXECUTED if executed else ""
    return re.sub(r"^# .*$", lambda heading: f"{heading[0]}\n\n{note}", text, count=1, flags=re.MULTILINE)


def _resolved(name: str) -> str:
    return _FENCE.sub(lambda match: _directive(name, *match.groups()), _source(name))


def _directive(name: str, kind: str, argument: str, text: str) -> str:
    if kind == "code-cell":
        return f"```python\n{text}```\n"
    if kind == "include":
        return _included(DOCS / PurePosixPath(name).parent / argument, text)
    if kind == "toctree":
        return ""
    raise ValueError(f"docs/{name}.md: the directive {{{kind}}} is none of code-cell, include, toctree")


def _included(path: Path, options: str) -> str:
    """A file that a page includes: from which line on, and its headings so many levels lower."""
    given = dict(re.findall(r"^:([\w-]+): (\d+)$", options, re.MULTILINE))
    text = "".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[int(given.get("start-line", 0)) :])
    return re.sub(r"^(#+ )", "#" * int(given.get("heading-offset", 0)) + r"\1", text, flags=re.MULTILINE)


def _source(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def _title(name: str) -> str:
    """The first heading of a page."""
    match = re.search(r"^# (.*)$", _resolved(name), re.MULTILINE)
    if match is None:
        raise ValueError(f"docs/{name}.md has no heading")
    return match[1]


def _target(link: str, name: str, names: list[str]) -> str:
    """Where a link of a page leads to here."""
    if link.startswith(("https://", "http://", "mailto:", "#")):
        return link
    path, _, anchor = link.partition("#")
    there = _beside(name, path)
    if re.fullmatch(r"\.\./benchmarks/results/\w+\.md", there):
        there, anchor = "benchmarks.md", ""  # which holds them all
    if there.removesuffix(".md") in names:
        return _from(name, there.removesuffix(".md") + ".html") + (f"#{anchor}" if anchor else "")
    if there == "api/index.md":
        return _from(name, "index.html")  # whose first lines say where the reference is
    raise ValueError(f"docs/{name}.md: the link {link} leads to nothing that is carried")


def _show(image: Token, name: str, folder: Path, out: Path) -> None:
    """A picture beside the page, or its description where it is large."""
    source = DOCS / PurePosixPath(name).parent / str(image.attrs["src"])
    if source.stat().st_size > LARGEST_PICTURE:
        where = os.path.relpath(source.resolve(), ROOT)
        image.type = "html_inline"
        image.content = f'<span class="left-out">Picture, in a checkout {where}: {html.escape(image.content)}.</span>'
        return
    (out / "pictures").mkdir(exist_ok=True)
    shutil.copyfile(source, out / "pictures" / source.name)
    image.attrs["src"] = os.path.relpath(out / "pictures" / source.name, folder)


def _beside(name: str, path: str) -> str:
    """A path that a page writes, as seen from `docs`."""
    return os.path.normpath(PurePosixPath(name).parent / path).replace(os.sep, "/")


def _from(name: str, target: str) -> str:
    return os.path.relpath(target, PurePosixPath(name).parent).replace(os.sep, "/")


def _parser() -> MarkdownIt:
    def formula(text: str, options: dict[str, Any]) -> str:
        return tex2mathml(text, bool(options["display_mode"]))

    parser = MarkdownIt("commonmark").enable("table")
    for plugin in (front_matter_plugin, deflist_plugin):
        parser.use(plugin)
    return parser.use(anchors_plugin, max_level=3).use(dollarmath_plugin, renderer=formula)
