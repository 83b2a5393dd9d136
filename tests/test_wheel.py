"""A wheel: everything below `gmsa`, so that a user's own `analysis` and `figures` hide nothing; the old names warn."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("setuptools", reason="setuptools, of the extra test, is not installed")

from browser import started_browser
from page_links import dead_links

ROOT = Path(__file__).parents[1]
MOVED = ("analysis", "figures")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """What a wheel would hold."""
    out = tmp_path_factory.mktemp("built")
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", out, "build_py", "--build-lib", out / "lib"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out / "lib"


@pytest.fixture
def hostile(tmp_path):
    """A folder of a user who calls things `analysis` and `figures`."""
    (tmp_path / "analysis.py").write_text("raise RuntimeError('the own analysis')\n")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "__init__.py").write_text("raise RuntimeError('the own figures')\n")
    return tmp_path


def python(library: Path, folder: Path, *words: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(library), "PYTHONWARNINGS": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def test_nothing_imports_the_moved_packages_by_their_old_names(library):
    paths = [*library.glob("gmsa/**/*.py"), *library.glob("gmsa_models/**/*.py")]
    assert len(paths) > 300
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & set(MOVED), path


def test_every_module_loads_beside_a_users_own_analysis_and_figures(library, hostile):
    script = """
import pkgutil, sys
from importlib import import_module
import gmsa.analysis, gmsa.figures, gmsa_models
for package in (gmsa, gmsa_models):
    for each in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not each.name.endswith("__main__"):
            import_module(each.name)
for name in gmsa.analysis.__all__:
    getattr(gmsa.analysis, name)
assert not {"analysis", "figures"} & set(sys.modules)
print(gmsa.__file__)
"""
    done = python(library, hostile, "-c", script)
    assert Path(done.stdout.strip()).is_relative_to(library)


def test_commands_run_there_and_the_notebooks_are_carried(library, hostile):
    python(library, hostile, "-m", "gmsa", "lab", "--copy-only", "--folder", "books")
    names = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert sorted(path.name for path in (hostile / "books").iterdir()) == names
    for path in (hostile / "books").iterdir():
        assert '"from analysis' not in path.read_text(encoding="utf-8"), path
    done = python(library, hostile, "-m", "gmsa", "figures", "--only", "2", "--out", "out", "--formats", "svg")
    assert done.stdout == "1 drawn, in out\n"


def test_the_pages_of_the_documentation_are_carried_and_hold_together(library, hostile):
    """As many as stand in `docs`, but for the reference of the API; pictures that are large are not among them."""
    done = python(library, hostile, "-m", "gmsa", "docs", "--print")
    pages = library / "gmsa" / "docs"
    assert done.stdout.strip() == (pages / "index.html").as_uri()
    names = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")}
    carried = {path.relative_to(pages).with_suffix("") for path in pages.rglob("*.html")}
    assert carried == {name for name in names if name.parts[0] != "api"}
    assert dead_links(pages) == []
    assert sum(path.stat().st_size for path in pages.rglob("*")) < 2_000_000
    start = (pages / "start.html").read_text(encoding="utf-8")
    assert "gmsa inspect demo:3 --model gate-op-tp30" in start
    for path in pages.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not {"```", "{include}", "{code-cell}", "{toctree}"} & set(re.findall(r"```|\{[a-z-]+\}", text)), path
        assert "<script" not in text, path


def test_the_pages_can_be_copied_to_a_folder(library, hostile):
    for _ in range(2):
        done = python(library, hostile, "-m", "gmsa", "docs", "--print", "--out", "pages")
        assert done.stdout.strip() == (hostile / "pages" / "index.html").as_uri()
    copied, carried = (sorted(path.relative_to(top) for path in top.rglob("*"))
                       for top in (hostile / "pages", library / "gmsa" / "docs"))  # fmt: skip
    assert copied == carried


@pytest.fixture(scope="module")
def browser():
    yield from started_browser()


@pytest.mark.parametrize("width", [1440, 800, 390])
def test_the_pages_ask_no_network_and_fit_the_screen(library, browser, width):
    page, requests = browser.new_page(viewport={"width": width, "height": 900}), []
    page.on("request", lambda request: requests.append(request.url))
    for path in sorted((library / "gmsa" / "docs").rglob("*.html")):
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path}: wider than {width}"
        assert page.evaluate("[...document.images].every((image) => image.naturalWidth)"), path
    assert len(requests) > 30
    assert [url for url in requests if not url.startswith("file:")] == []
    page.close()


def test_old_names_are_the_same_modules_and_warn_once_each(library, tmp_path):
    script = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import analysis, figures.inspector
    from analysis.record import lanes
    import figures
import gmsa.analysis.record.lanes, gmsa.figures.inspector
assert analysis is gmsa.analysis and lanes is gmsa.analysis.record.lanes
assert figures.inspector is gmsa.figures.inspector
said = [str(each.message) for each in caught if each.category is DeprecationWarning]
said = [text for text in said if "is called" in text]
assert [text.split()[0] for text in said] == ["analysis", "figures"], said
"""
    python(library, tmp_path, "-c", script)


def test_in_a_checkout_both_names_are_the_same_modules():
    script = """
import gmsa.analysis.record.lanes, analysis.record.lanes
assert gmsa.analysis is analysis and gmsa.analysis.record.lanes is analysis.record.lanes
assert analysis.record.lanes.__spec__.name == "analysis.record.lanes"
from gmsa.figures import style
import figures.style
assert style is figures.style
"""
    python(ROOT, ROOT, "-W", "error", "-c", script)


def test_what_is_renamed(tmp_path):
    spec = importlib.util.spec_from_file_location("setup_of_the_wheel", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "style.py").write_text("")
    before = (
        'from figures.style import a\nimport figures.style as b\nnames = ("figures.style", "figures.none", "figures")\n'
    )
    after = before.replace("figures.style", "gmsa.figures.style")
    assert module.rename(before, tmp_path) == after
    with pytest.raises(ValueError, match=r"import figures\.style: write"):
        module.rename("import figures.style\n", tmp_path)
