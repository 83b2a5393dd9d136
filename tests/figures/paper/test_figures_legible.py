"""The paper's figures can be read: no text overlaps another, leaves the figure or lies on a bar, on any ground."""

import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from legibility import collisions
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from paper_tables import tiny_contrasts, tiny_curves, tiny_masks, tiny_masses, tiny_record, tiny_scatter
from xarray import Dataset

from figures import style
from figures.paper import attention_profiles, lag, masks, score_and_sensitivity, sensitivity, similarity_and_attention
from figures.pipeline.catalogue import ITEMS
from figures.pipeline.table_files import load_tables
from figures.style import COLUMN_WIDTH, PAGE_WIDTH, save_pictures, use_style
from figures.texts import fit, shorten, text_points, wrap
from gmsa_models.variants import COLUMNS

WIDTHS = pytest.mark.parametrize("width", [COLUMN_WIDTH, PAGE_WIDTH])
ROOT = Path(__file__).parents[3] / "figures"
FOLDERS = {
    ROOT / "rendered": (COLUMN_WIDTH, PAGE_WIDTH),
    ROOT / "rendered-real": (PAGE_WIDTH,),
    ROOT / "rendered-one-video": (PAGE_WIDTH,),
}
SAVED = [
    pytest.param(item, folder, width, id=f"{item.number} {folder.name} {width}")
    for folder, widths in FOLDERS.items()
    for item in ITEMS
    for width in widths
    if (folder / f"{item.name}.png").is_file()
]
SECONDS = 27.0  # a frame: times of three digits
LONG = "Musical ensemble of unusually many instruments"


def full(*arguments, **options) -> Dataset:
    """A record that asks for much room: long names, many labels, probabilities of 1, times of three digits."""
    record = tiny_record(*arguments, **options)
    names = np.array([f"{LONG} {place}" for place in range(record.sizes["class"])])
    record["score"] = ("class", np.array([1.0, 0.999, 0.99, 0.96, 0.9, 0.01, 0.0]))
    record["label"] = ("class", np.array([0, 1, 0, 0, 0, 1, 1], bool))
    record["segment_label"] = ("segment", np.array([LONG, LONG, LONG]))
    for name in ("segment_start", "segment_end"):
        record[name] = record[name] * SECONDS
    times = {name: record[name].values * SECONDS for name in ("frame", "query", "key")}
    record = record.assign_coords(class_name=("class", names), **times)
    return record.assign_attrs(frame_seconds=SECONDS, label_names=json.dumps([LONG] * 9), clip="a-clip-of-a-long-name")


def of_ten(table: Dataset) -> Dataset:
    """The table with the paper's ten models, their numbers those of the table's own in turn."""
    names = list(COLUMNS)
    many = table.isel(model=np.arange(len(names)) % table.sizes["model"]).assign_coords(model=np.array(names))
    kinds = ["-".join(name.split("-")[:2]) for name in names]
    return many.assign_coords(kind=("model", np.array(kinds))).assign_attrs(of="demo")


def three_masks() -> Dataset:
    """The three names that Figure 2 shows."""
    names = np.array(["block diagonal, BD20", "Toeplitz, TP30", "Toeplitz, dilated, TD60×4"])
    return tiny_masks().isel(pattern=[0, 1, 0]).assign_coords(pattern=names)


def full_profiles(width: float) -> Figure:
    contrasts = tiny_contrasts().assign_attrs(rule=" ".join(["of all such videos the one with the largest margin"] * 3))
    return attention_profiles.draw(full(), full("gate-op-bd20", ("global", "local"), seed=1), contrasts, width)


LONGEST_RHO = {"shared_rho": -0.28, "shared_low": -0.78, "shared_high": -0.43, "shared_p_value": 0.048}
DRAWN = {
    "1": lambda width: similarity_and_attention.draw(full(), width),
    "1 without segments": lambda width: similarity_and_attention.draw(full().drop_dims("segment"), width),
    "2": lambda width: masks.draw(three_masks(), width),
    "3": full_profiles,
    "4": lambda width: sensitivity.draw(of_ten(tiny_curves()), width),
    "5": lambda width: score_and_sensitivity.draw(of_ten(tiny_scatter()).assign_attrs(LONGEST_RHO), width),
    "6": lambda width: lag.draw(of_ten(tiny_masses()), width),
}


@pytest.fixture
def dark(tmp_path) -> Path:
    """A style file that draws in white on black."""
    path = tmp_path / "dark.mplstyle"
    path.write_text((Path(mpl.get_data_path()) / "stylelib" / "dark_background.mplstyle").read_text())
    return path


@WIDTHS
@pytest.mark.parametrize("number", DRAWN)
def test_no_text_touches_another_or_is_cut_off(number, width):
    assert collisions(DRAWN[number](width)) == []


@pytest.mark.parametrize(("item", "folder", "width"), SAVED)
def test_what_is_rendered_can_be_read(item, folder, width):
    made = item.output(load_tables(folder / f"{item.name}.npz"), width)
    assert collisions(made.figure) == []


def test_texts_that_touch_or_are_cut_off_are_told():
    figure = Figure(figsize=(2, 2))
    axes = figure.add_axes((0.3, 0.3, 0.4, 0.4), xticks=[], yticks=[])
    axes.barh([0.5], [0.5])
    axes.text(0.1, 0.5, "one")
    axes.text(0.15, 0.5, "two")
    figure.text(0.95, 0.9, "three")
    told = ["'one' overlaps 'two'", "'three' leaves the figure", "'one' lies on a bar", "'two' lies on a bar"]
    assert sorted(collisions(figure)) == sorted(told)


def test_a_title_and_a_name_are_cut_to_what_fits():
    with use_style():
        assert fit("short", 100) == "short"
        for points in (20, 60, 111):
            cut = fit(LONG, points, 7)
            assert cut.endswith("…")
            assert LONG.startswith(cut[:-1].rstrip())
            assert text_points(cut, 7) <= points < text_points(LONG[: len(cut) + 1] + "…", 7)
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abc efg", 5) == "abc…"


def test_lines_are_broken_at_spaces_and_hold_as_much_as_fits():
    words = f"{LONG} and as many again".split(" ")
    lines = wrap(" ".join(words), 80, 7)
    assert " ".join(lines).split(" ") == words
    assert len(lines) > 2
    for line, after in zip(lines, [*lines[1:], "x" * 99], strict=True):
        assert text_points(line, 7) <= 80 < text_points(f"{line} {after.split(' ')[0]}", 7)
    assert wrap("incomprehensibilities of", 10) == ["incomprehensibilities", "of"]


def test_text_is_as_wide_as_it_is_drawn():
    figure = Figure()
    for text, size in (("Musical ensemble", 7.0), ("$N_i$ of TP30", 9.0)):
        drawn = figure.text(0.1, 0.5, text, fontsize=size).get_window_extent().width * 72 / figure.dpi
        assert text_points(text, size) == pytest.approx(drawn, rel=0.05)
    assert text_points("") == 0.0


def test_the_palette_stands_out_on_a_dark_ground_in_the_same_order(dark):
    colours = {name: each.colour for name, each in style.MODELS.items()} | {"true": style.TRUE, "other": style.OTHER}
    assert {name: style.on_ground(colour) for name, colour in colours.items()} == colours
    with use_style(dark):
        assert style.ground() == "#000000"
        turned = {name: style.on_ground(colour) for name, colour in colours.items()}
        assert style.model_style("baseline").colour == turned["baseline"] == "#dddddd"
        assert style.branch_style("local").colour == style.on_ground(style.BRANCHES["local"].colour)
    for name, colour in colours.items():
        light, dark_light = (max(to_rgb(one)) + min(to_rgb(one)) for one in (colour, turned[name]))
        assert light + dark_light == pytest.approx(2.0, abs=0.02)
        assert max(to_rgb(turned[name])) > 0.3
    assert style.model_style("baseline").colour == style.MODELS["baseline"].colour


@pytest.mark.parametrize("number", DRAWN)
def test_on_a_dark_ground_texts_and_curves_are_light(number, dark):
    with use_style(dark):
        figure = DRAWN[number](PAGE_WIDTH)
        assert collisions(figure) == []
    assert to_hex(figure.get_facecolor()) == "#000000"
    for axes in figure.axes:
        assert to_hex(axes.title.get_color()) == "#ffffff"
        for line in axes.lines:
            assert max(to_rgb(line.get_color())) > 0.35


def test_a_figure_is_laid_out_before_it_is_saved_and_again_when_it_is_drawn(tmp_path):
    with use_style():
        figure = Figure(figsize=(4, 2), layout="constrained")
        axes = figure.subplots(1, 2)
        axes[0].set_ylabel("two\nlines\nor three")
        axes[1].set_title("a title\nof two lines")
        engine = figure.get_layout_engine()
        before = axes[0].get_position()
        save_pictures(figure, tmp_path / "picture", ("svg", "png"))
    assert figure.get_layout_engine() is engine
    assert axes[0].get_position().bounds != before.bounds
    edge = figure.bbox
    for each in axes:
        box = each.get_tightbbox()
        assert edge.x0 <= box.x0 < box.x1 <= edge.x1
        assert edge.y0 <= box.y0 < box.y1 <= edge.y1
    axes[0].set_ylabel("")
    figure.draw_without_rendering()
    assert axes[0].get_position().x0 < 0.15
