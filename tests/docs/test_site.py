"""The documentation builds without a warning, holds together, and asks no network; `make docs` executes all pages."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("sphinx", reason="Sphinx is not installed: pip install -e '.[docs]'")
pytest.importorskip("furo", reason="furo is not installed: pip install -e '.[docs]'")

from browser import started_browser
from page_links import dead_links

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
EXECUTED = "verticality"  # the concept whose page is executed here
# Packages whose names in `__all__` are the public ones.
PUBLIC = ("gmsa_models", "gmsa_models.data", "analysis", "analysis.capture", "analysis.sweep", "figures.inspector")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages; of the concepts one alone is executed."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-E", "-d", out / "trees"]
    done = subprocess.run(
        [*command, DOCS, out / "html"], capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "GMSA_DOCS_EXECUTE": EXECUTED},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out / "html"


def test_no_link_is_dead(site):
    assert len(list(site.rglob("*.html"))) > 30
    assert dead_links(site) == []


def test_links_of_the_readme_lead_to_files():
    for name in ("README.md", "CONTRIBUTING.md"):
        for link in re.findall(r"\]\(([^)#]+)", (ROOT / name).read_text(encoding="utf-8")):
            assert (ROOT / link).is_file(), f"{name}: {link}"


@pytest.fixture(scope="module")
def browser():
    yield from started_browser()


def watched(browser, **options):
    """A page, and the addresses that it asks for and the errors that it has from now on."""
    page, asked, errors = browser.new_page(**options), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    return page, asked, errors


# Tables of data end where their page does, and what is wider scrolls.
INSIDE = """(() => { const end = document.querySelector('article')?.getBoundingClientRect().right;
    const right = (table) => table.getBoundingClientRect().right;
    return [...document.querySelectorAll('article table.dataframe')].every((table) => right(table) <= end + 1); })()"""


def elsewhere(urls: list[str]) -> list[str]:
    return [url for url in urls if urlsplit(url).scheme not in ("file", "data", "blob", "about")]


@pytest.mark.parametrize(("width", "theme"), [(1440, "light"), (800, "dark"), (390, "light"), (390, "dark")])
def test_pages_open_from_the_disk_ask_no_network_and_fit_the_screen(site, browser, width, theme):
    page, asked, errors = watched(browser, viewport={"width": width, "height": 900}, color_scheme=theme)
    for path in sorted(site.rglob("*.html")):
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path}: wider than {width}"
        assert page.evaluate(INSIDE), f"{path}: a table is cut at {width}"
        assert path.name != "search.html" or page.get_by_text("Type words into the search field").is_visible()
    assert len(asked) > 30
    assert (elsewhere(asked), errors) == ([], [])
    page.close()


def test_the_inspector_of_a_concept_is_alive_and_as_high_as_its_page(site, browser):
    page, asked, errors = watched(browser, viewport={"width": 1280, "height": 900}, color_scheme="light")
    page.goto((site / "concepts" / f"{EXECUTED}.html").as_uri())
    element = page.locator("iframe.inspector")
    element.scroll_into_view_if_needed()
    inside = element.content_frame
    inside.locator("text=/0:47 \\(frame 47\\)/").wait_for()
    inside.locator(".gmsa-inspector").press("ArrowRight")
    inside.locator("text=/0:48 \\(frame 48\\)/").wait_for()
    more = "frame.getBoundingClientRect().height - frame.contentDocument.body.scrollHeight"
    page.wait_for_function(
        f"() => {{ const frame = document.querySelector('iframe'), more = {more}; return 0 <= more && more < 40 }}"
    )
    ground = "root => getComputedStyle(root).backgroundColor"
    light = inside.locator(".gmsa-inspector").evaluate(ground)
    page.evaluate("document.body.dataset.theme = 'dark'")
    changed = (
        f"({ground})(document.querySelector('iframe').contentDocument.querySelector('.gmsa-inspector')) !== '{light}'"
    )
    page.wait_for_function(changed)
    assert (elsewhere(asked), errors) == ([], [])
    page.close()


def test_every_public_name_is_in_the_reference_once():
    text = "\n".join(path.read_text(encoding="utf-8") for path in (DOCS / "api").glob("*.md"))
    described = re.findall(r"^\.\. (?:auto)?(?:function|class|exception|data):: (\w+)$", text, re.MULTILINE)
    assert len(described) == len(set(described))
    for package in PUBLIC:
        tree = ast.parse((ROOT / package.replace(".", "/") / "__init__.py").read_text(encoding="utf-8"))
        (names,) = [ast.literal_eval(node.value) for node in tree.body
                    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"]  # fmt: skip
        assert not set(names) - set(described) - {"metrics"}, package  # a module, under its own heading


def test_every_concept_says_what_it_is_how_to_read_it_and_what_it_does_not_say():
    for path in DOCS.glob("concepts/*.md"):
        # these have no view or number of their own
        if path.stem not in ("index", "frame_sensitivity", "pretraining", "scales", "segments", "sinks", "study"):
            headings = re.findall(r"^## (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert headings[0] == "Definition", path
            assert {"How to read it", "How to read them"} & set(headings), path
            assert {"What it does not say", "What they do not say"} & set(headings), path


def test_a_dark_page_shows_the_dark_picture(site, browser):
    page, _, _ = watched(browser, color_scheme="dark")
    page.goto((site / "what_if.html").as_uri())
    shown = "[...document.images].filter((image) => image.offsetWidth).map((image) => image.src.split('/').pop())"
    assert page.evaluate(shown) == ["what-if-dark.png"]
    page.emulate_media(color_scheme="light")
    assert page.evaluate(shown) == ["what-if.png"]
    page.close()
