"""The page's modules: joined by strict rules, and the same page as a browser makes of them by its own `import`."""

from __future__ import annotations

import base64
import re
import tomllib
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from figures.inspector.modules import FOLDER, LIVE_MODULES, MODULES, join, module_text
from figures.inspector.payload import pack
from gmsa_models.errors import ArgumentError
from tests.browser import SCREEN, settle, started_browser
from tests.inspector_records import explained_record, made_record

ADDRESS = "http://inspector.test/"
PAGE = """<!doctype html><style>{style}</style><div id="place"></div><script type="module">
{module}
window.opened = mountPage(document.getElementById("place"), "{payload}", {{"against": "baseline", "frame": 3}});
</script>"""
IN_TEXTS = {("python", "Inspector")}  # the name of a Python class, in a template
PIXELS = """async () => {
  const inspector = await window.opened;
  const settled = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const found = [], inner = inspector.root;
  const pictures = () => inspector.panels.filter(({ width }) => width).flatMap(({ base, overlay }) =>
    [base, overlay].map((canvas) => canvas.toDataURL()));
  await settled();
  for (const key of ["", "Enter", "ArrowDown", "b", "s", "a", "d", "m", "+", "End"]) {
    if (key) inner.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    inspector.set({ hover: { panel: "first", map: 0, query: 4, key: 5 } });
    await settled();
    found.push(pictures(), inspector.controls.readout.textContent);
  }
  inspector.set({ class_: 3, theme: "dark", playing: false });
  inspector.savePng();
  inspector.saveSvg();
  await inspector.measure(["ArrowLeft"], 2);
  found.push(pictures(), inspector.python(), inner.innerText);
  return JSON.stringify(found);
}"""


def sources(modules: Sequence[str] = MODULES) -> dict[str, str]:
    return {name: (FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in modules}


def test_imports_go_and_the_exports_of_the_last_module_stay():
    one = '/** One. */\n\nexport const SIZE = 3;\nexport async function wait() {\n  return "export this";\n}\n'
    other = (
        'import { SIZE, wait } from "./one.js";\n\nexport class Box {}\nexport { SIZE };\nexport default { wait };\n'
    )
    assert join({"one": one, "other": other}) == (
        '/** One. */\n\nconst SIZE = 3;\nasync function wait() {\n  return "export this";\n}\n\n'
        "export class Box {}\nexport { SIZE };\nexport default { wait };\n"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('import * as one from "./one.js";', r"other.js, line 1: .*expected `import \{ name, other \}"),
        ('import { SIZE as size } from "./one.js";', "line 1: .*expected `import"),
        ("import { SIZE } from './one.js';", "line 1: .*expected `import"),
        ('import { SIZE } from "https://a.org/one.js";', "line 1: .*expected `import"),
        ('import { SIZE, weight } from "./one.js";', r"one.js exports no 'weight'; it exports \['SIZE'\]"),
        ('import { SIZE } from "./last.js";', "last.js does not stand before it; before it stand one"),
        ("export { SIZE };", "expected `export` before class, function or const"),
        ("export default SIZE;", "expected `export` before"),
        ("export * from './one.js';", "expected `export` before"),
        ("const hidden = 1;", "'hidden' is declared in one.js too"),
    ],
)
def test_other_forms_are_refused(line, message):
    with pytest.raises(ArgumentError, match=message):
        join({"one": "export const SIZE = 3;\nlet hidden = 2;\n", "other": f"{line}\n", "last": "export default {};\n"})


@pytest.mark.parametrize("modules", [MODULES, LIVE_MODULES])
def test_each_module_imports_what_it_uses_and_nothing_else(modules):
    found = sources(modules)
    exported = {
        name: module
        for module, source in found.items()
        for name in re.findall(r"^export (?:async )?(?:class|function|const|let) (\w+)", source, re.M)
    }
    for module, source in found.items():
        imports = re.findall(r'^import \{ (.*) \} from "\.\.?/\w+\.js";$', source, re.M)
        imported = sorted(name for names in imports for name in names.split(", "))
        code = re.sub(r"^import [^\n]*|/\*.*?\*/|(?<=\s)//[^\n]*|\"(?:\\.|[^\"\n])*\"", "", source, flags=re.M | re.S)
        used = [
            name
            for name, home in exported.items()
            if home != module
            and (module, name) not in IN_TEXTS
            and re.search(rf"(?:\.\.\.|(?<![\w.$'</])){name}\b(?![:-])", code)
        ]
        assert imported == sorted(used), module


def test_every_module_is_joined_and_goes_with_the_package():
    files = [path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.js")]
    assert sorted(files) == sorted({*MODULES, *LIVE_MODULES})
    package = FOLDER.parents[1]
    patterns = tomllib.loads((package.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    given = {path for pattern in patterns["figures"] for path in package.glob(pattern)}
    assert {path for path in Path(package).rglob("*") if path.suffix in (".js", ".css")} <= given


def test_a_browser_makes_the_same_page_of_the_modules_themselves():
    payload = pack([explained_record(), made_record(name="baseline", branches=("global",), seed=1)])
    encoded = base64.b64encode(zlib.compress(payload)).decode()
    style = (FOLDER.parent / "inspector.css").read_text(encoding="utf-8")
    modules = {"joined": module_text(), "themselves": 'import { mountPage } from "./js/entry.js";'}
    pages = {
        f"{ADDRESS}{name}": PAGE.format(style=style, module=text, payload=encoded) for name, text in modules.items()
    }
    scripts = {f"{ADDRESS}js/{name}.js": source for name, source in sources().items()}

    def answer(route) -> None:
        script = scripts.get(route.request.url)
        kind = "text/html" if script is None else "text/javascript"
        route.fulfill(body=script or pages.get(route.request.url, ""), content_type=f"{kind}; charset=utf-8")

    browsers, problems, found = started_browser(), [], []
    context = next(browsers).new_context(viewport=SCREEN)
    for address in pages:
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.route("**/*", answer)
        page.goto(address)
        page.wait_for_selector(".gmsa-inspector footer")
        settle(page)
        found.append(page.evaluate(PIXELS))
        page.close()
    next(browsers, None)
    assert problems == []
    assert len(found[0]) > 100_000
    assert found[0] == found[1]
