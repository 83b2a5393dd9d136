"""Names from files, in figures and tables: whatever letters they have, they stand there as they are."""

import csv
import io
import logging
import re
import subprocess

import numpy as np
import pytest
import xarray as xr
from inspector_records import made_record
from legibility import collisions
from matplotlib.font_manager import FontProperties, fontManager
from paper_tables import (
    tiny_claims,
    tiny_contrasts,
    tiny_costs,
    tiny_curves,
    tiny_effects,
    tiny_evidence,
    tiny_lines,
    tiny_masks,
    tiny_masses,
    tiny_record,
    tiny_results,
    tiny_scatter,
)

from figures import glyphs, overview
from figures.inspector.still import draw_view
from figures.paper import (
    ablation,
    attention_profiles,
    claims,
    evidence,
    lag,
    masks,
    results,
    score_and_sensitivity,
    sensitivity,
    similarity_and_attention,
    vertical_lines,
    what_if,
)
from figures.style import save_pictures, use_style
from figures.texts import brief, fit_name, in_formula, latex_text, markdown_text, plain, text_points

NAMES = {
    "dollars": "$5 and $x_1$ ^ $",
    "tex": r"\alpha_{1} & 100 % # ~ {x}",
    "marks": "a|b <b>*c*</b> `d` [e](f)",
    "lines": "one\ntwo\r\n\tthree\0",
    "hebrew": "\u05e9\u05dc\u05d5\u05dd \u202eabc",
    "chinese": "\u732b\u548c\u72d7",
    "broken": "a code \ufffe of no letter",
    "long": "a name without end " * 12,
}


# Drawn together, one text after the other, each with the end of a line and what is no letter: what keeps to the letters
# of one keeps to them in every text (`test_dollars_are_dollars`). A long one changes the layout: it has its own figure.
NO_LETTERS = "\n\0\ufffe"
TOGETHER = {
    "short": tuple(NAMES[each] + NO_LETTERS for each in ("dollars", "tex", "marks", "hebrew", "chinese")),
    "long": (NAMES["long"],),
}


def one_of(names: tuple[str, ...], text: object) -> str:
    """The name that goes with a text."""
    return names[sum(str(text).encode()) % len(names)]


def renamed(table: xr.Dataset, *names: str) -> xr.Dataset:
    """A table whose texts each begin with one of the names, equal texts with the same, but for our own words, as of
    branches and kinds."""
    kept = {"kind", "branch", "segment_kind", "metric", "verdict", "sign", "claim", "panel", "row"}
    texts = {
        key: (array.dims, np.array([one_of(names, value) + str(value) for value in array.values.ravel()], dtype=object))
        for key, array in table.variables.items()
        if key not in kept and array.dtype.kind in "UO" and array.ndim
    }
    attributes = {
        key: one_of(names, key)
        for key in ("of", "clip", "neighbourhood", "modality", "rule", "about")
        if key in table.attrs
    }
    if "model" in table.coords and not table["model"].ndim:
        texts["model"] = ((), one_of(names, "model"))
    return table.assign_coords(texts).assign_attrs(attributes)


def two_records(*names: str) -> tuple[xr.Dataset, xr.Dataset]:
    return renamed(tiny_record(), *names), renamed(tiny_record("gate-op-bd20", ("global", "local"), seed=1), *names)


def one_clip(*names: str) -> tuple[xr.Dataset, xr.Dataset]:
    records = [
        renamed(made_record(seed=seed), *names).assign_coords(model=names[seed % len(names)] + str(seed))
        for seed in (0, 1)
    ]
    return tuple(one.assign(head_profile=one["attention"].sum("query").rename(key="frame")) for one in records)


DRAWN = {
    "1": lambda *names: similarity_and_attention.draw(two_records(*names)[0]),
    "2": lambda *names: masks.draw(renamed(tiny_masks(), *names)),
    "3": lambda *names: attention_profiles.draw(*two_records(*names), renamed(tiny_contrasts(), *names)),
    "4": lambda *names: sensitivity.draw(renamed(tiny_curves(), *names)),
    "5": lambda *names: score_and_sensitivity.draw(renamed(tiny_scatter(), *names)),
    "6": lambda *names: lag.draw(renamed(tiny_masses(), *names)),
    "7": lambda *names: evidence.draw(renamed(tiny_evidence(), *names)),
    "8": lambda *names: ablation.draw(renamed(tiny_costs(), *names)),
    "9": lambda *names: what_if.draw(renamed(tiny_effects(), *names)),
    "10": lambda *names: vertical_lines.draw(renamed(tiny_lines(), *names)),
    "overview": lambda *names: overview.draw(*one_clip(*names)),
}


@pytest.mark.parametrize("number", DRAWN)
def test_a_figure_shows_every_name_as_it_is(number, tmp_path):
    for names in TOGETHER.values():
        figure = DRAWN[number](*names)
        if names is TOGETHER["long"]:
            figure.draw_without_rendering()
            continue
        svg = save_pictures(figure, tmp_path / "one", ("svg",))[0].read_text(encoding="utf-8")
        assert "\0" not in svg
        assert "\ufffe" not in svg


@pytest.mark.parametrize("number", DRAWN)
def test_dollars_are_dollars(number, tmp_path):
    """Each name is on the page with all its letters, not as mathematics; formulas of ours are still formulas."""
    figure = DRAWN[number]("$5 $x")
    (svg,) = save_pictures(figure, tmp_path / "one", ("svg",))
    seen = re.sub("<!--.*?-->", "", svg.read_text(encoding="utf-8"))  # the source of a formula stands in a comment
    assert "$5" in re.sub("<.*?>", "", seen)
    assert "$N_i$" not in seen


def test_the_powers_of_ten_of_a_log_scale_are_numbers():
    view = {
        "model": "gate-op-tp30", "against": "", "modality": "visual", "branch": "global", "head": 0, "view": "side",
        "left": "gradient", "scale": "log", "explanation": "", "span": [0, 29], "frame": 7, "pinned": False,
    }  # fmt: skip
    figure = draw_view([made_record()], view)
    figure.draw_without_rendering()
    bars = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
    labels = [tick.get_text() for axes in bars for tick in axes.get_xticklabels()]
    assert {"0.01", "0.001"} <= set(labels)
    assert not any("$" in label for label in labels)


def test_names_on_one_line():
    assert plain("one\ntwo\r\n\tthree\0") == "one two three"
    assert plain("a\u202eb \ud83d \ufffe") == "ab \ufffd \ufffd"
    assert plain("a\ufeffb") == "ab"  # in a PDF it ends in an error of the library
    assert in_formula("$5\n") == r"\$5"
    assert brief("Toeplitz, dilated, TD60×4") == "Toeplitz, dilated, TD60×4"  # the longest name of our own
    assert len(brief("x" * 99)) < 40
    assert markdown_text("a|b <b> $") == r"a\|b \<b\> \$"
    assert latex_text(r"\a_{1} & % # ~ ^ [x]") == (
        r"\textbackslash{}a\_\{1\} \& \% \# \textasciitilde{} \textasciicircum{} {[}x]"
    )


def test_long_names_are_cut_in_the_middle():
    with use_style():
        cut = fit_name("a-model-of-a-long-name-seed-7", 60)
        assert cut.startswith("a-m")
        assert cut.endswith("-7")
        assert text_points(cut) <= 60
        assert fit_name("short", 60) == "short"
        assert fit_name("xyz", 1) == "…"


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_tables_keep_their_columns_whatever_the_names(name):
    texts = results.draw(tiny_results().assign_coords(model=[name, "gate-op-tp30", "control"]))
    rows = texts["md"].split("\n\n")[0].splitlines()
    assert len(rows) == 5
    assert {line.replace(r"\|", "").count("|") for line in rows} == {rows[1].count("|")}
    body = texts["tex"].split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert len(body) == 3
    assert {line.replace(r"\&", "").count("&") for line in body} == {12}
    assert len(list(csv.reader(io.StringIO(texts["csv"])))) == 4
    about = tiny_claims()
    told = claims.draw(
        about.assign(statement=("part", [name] * 3), what=("part", [name] * 3), short=("part", [name] * 3))
    )
    lines = [line for line in told["md"].splitlines() if line.startswith("|")]
    assert {line.replace(r"\|", "").count("|") for line in lines[:4]} == {5}
    assert {line.replace(r"\|", "").count("|") for line in lines[4:]} == {7}


def test_the_latex_table_compiles_in_any_case(tmp_path):
    texts = results.draw(tiny_results().assign_coords(model=[NAMES["tex"], NAMES["dollars"], NAMES["marks"]]))
    page = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n" + texts["tex"] + "\\end{document}\n"
    (tmp_path / "page.tex").write_text(page, encoding="utf-8")
    try:
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "page.tex"], cwd=tmp_path, capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("pdflatex is not installed")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "names", [("a", "b"), ("own-model-" * 10 + "1", "own-model-" * 10 + "2")], ids=["short", "long"]
)
def test_two_gated_models_in_one_overview_leave_each_other_room(names):
    records = [record.assign_coords(model=name) for record, name in zip(one_clip(""), names, strict=True)]
    figure = overview.draw(*records)
    assert collisions(figure) == []
    width = figure.get_figwidth() * figure.dpi
    panel = next(axes for axes in figure.axes if axes.get_ylabel().startswith("visual\nattention"))
    assert panel.get_window_extent().width > 0.5 * width
    told = [text.get_text() for text in panel.get_legend().get_texts()]
    assert [each for each in told if each.strip()][::2] == ["global", "local"]
    assert {each[-1] for each in told[1::2]} == {name[-1] for name in names}


@pytest.fixture
def font_of_one_letter(tmp_path):
    """A font that has one letter, U+732B, known to matplotlib during the test."""
    builder = pytest.importorskip("fontTools.fontBuilder")
    pens = pytest.importorskip("fontTools.pens.ttGlyphPen")
    pen = pens.TTGlyphPen(None)
    pen.moveTo((0, 0)), pen.lineTo((500, 0)), pen.lineTo((500, 700)), pen.closePath()
    font = builder.FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", "cat"])
    font.setupCharacterMap({0x732B: "cat"})
    font.setupGlyf({".notdef": pen.glyph(), "cat": pen.glyph()})
    font.setupHorizontalMetrics({".notdef": (600, 0), "cat": (600, 0)})
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Tiny Sans", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(tmp_path / "tiny.ttf")
    before = list(fontManager.ttflist)
    fontManager.addfont(tmp_path / "tiny.ttf")
    _forget()
    yield "Tiny Sans"
    fontManager.ttflist[:] = before
    _forget()


def _forget() -> None:
    for cached in (glyphs._families, glyphs._index, glyphs._letters_of):
        cached.cache_clear()
    glyphs._reported.clear()


def test_an_installed_font_gives_the_letters_that_the_house_font_lacks(font_of_one_letter, caplog):
    found = glyphs.font_for("\u732b and cat", FontProperties(family=["DejaVu Sans"]))
    assert found.get_family() == ["DejaVu Sans", font_of_one_letter]
    plain_font = FontProperties(family=["DejaVu Sans"])
    assert glyphs.font_for("cat \u2713", plain_font) is plain_font
    assert not caplog.records


def test_what_no_font_has_is_told_once_with_what_to_install(tmp_path, caplog):
    _forget()
    letter = "\U00013000"  # an Egyptian hieroglyph: as good as nobody has one
    if glyphs._index(0).get(letter):
        pytest.skip("a font with hieroglyphs is installed")
    with caplog.at_level(logging.WARNING):
        for name in ("one", "two"):
            save_pictures(lag.draw(tiny_masses().assign_attrs(modality=letter + name)), tmp_path / name, ("png",))
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith(f"no installed font has {letter} (EGYPTIAN)")
    assert told.endswith("for example Noto Sans Egyptian")
