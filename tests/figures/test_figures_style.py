"""Pictures do not depend on the reader's matplotlib settings, neither when drawn nor when shown or saved."""

import ast
import hashlib
import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from inspector_records import explained_record, made_record
from legibility import contrast, laid_over
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from paper_tables import (
    tiny_contrasts,
    tiny_costs,
    tiny_curves,
    tiny_effects,
    tiny_evidence,
    tiny_lines,
    tiny_masks,
    tiny_masses,
    tiny_scatter,
)
from paper_tables import tiny_record as tiny
from rc_settings import unlike_the_defaults

from figures import overview
from figures.inspector.still import draw_view
from figures.panels.time import MODALITY_COLOURS
from figures.paper import (
    ablation,
    attention_profiles,
    evidence,
    lag,
    masks,
    montage_realism,
    score_and_sensitivity,
    sensitivity,
    similarity_and_attention,
    vertical_lines,
    what_if,
)
from figures.style import (
    BRANCHES,
    EVENT,
    EVENT_ALPHA,
    MODELS,
    REFERENCE,
    branch_style,
    ground,
    model_style,
    on_ground,
    save_pictures,
    use_style,
)
from gmsa_models.errors import ArgumentError

pytestmark = pytest.mark.filterwarnings("ignore::matplotlib.MatplotlibDeprecationWarning")
VIEW = {
    "model": "gate-op-tp30", "against": "", "modality": "visual", "branch": "global", "head": 0, "view": "side",
    "left": "gradient", "scale": "log", "explanation": "saliency", "span": [0, 29], "frame": 7, "pinned": True,
}  # fmt: skip


def distances() -> pd.DataFrame:
    lags = np.tile(np.arange(1.0, 6.0), 2)
    return pd.DataFrame(
        {"modality": ["visual"] * 5 + ["audio"] * 5, "lag": lags, "real": lags * 3, "montage": lags * 2.9}
    )


def complete(**changes) -> xr.Dataset:
    record = made_record(**changes)
    return record.assign(head_profile=record["attention"].sum("query").rename(key="frame"))


DRAWN = {
    "1": lambda: similarity_and_attention.draw(tiny()),
    "2": lambda: masks.draw(tiny_masks()),
    "3": lambda: attention_profiles.draw(tiny(), tiny("gate-op-bd20", ("global", "local")), tiny_contrasts()),
    "4": lambda: sensitivity.draw(tiny_curves()),
    "5": lambda: score_and_sensitivity.draw(tiny_scatter()),
    "6": lambda: lag.draw(tiny_masses()),
    "7": lambda: evidence.draw(tiny_evidence()),
    "8": lambda: ablation.draw(tiny_costs()),
    "9": lambda: what_if.draw(tiny_effects()),
    "10": lambda: vertical_lines.draw(tiny_lines()),
    "overview": lambda: overview.draw(complete(), complete(name="gate-op-bd20", seed=1)),
    "inspector": lambda: draw_view([explained_record()], VIEW),
    "montages": lambda: montage_realism.draw(distances()),
}


def saved(folder: Path, figure: Figure) -> dict[str, str]:
    """Digest of the figure as each format saves it."""
    written = save_pictures(figure, folder / "one", ("png", "pdf", "svg"))
    return {path.suffix: hashlib.sha256(path.read_bytes()).hexdigest() for path in written}


def shown(figure: Figure) -> str:
    """Digest of the figure as a notebook shows it."""
    return hashlib.sha256(figure._repr_png_()[0]).hexdigest()


@pytest.mark.parametrize("name", DRAWN)
def test_no_setting_of_the_reader_changes_a_picture(name):
    figure = DRAWN[name]()
    expected = shown(DRAWN[name]())
    with mpl.rc_context(unlike_the_defaults()):
        assert shown(figure) == expected
        assert shown(DRAWN[name]()) == expected


@pytest.mark.parametrize("name", ["2", "8"])
def test_no_setting_of_the_reader_changes_a_file(name, tmp_path):
    expected = saved(tmp_path, DRAWN[name]())
    with mpl.rc_context(unlike_the_defaults()):
        assert saved(tmp_path, DRAWN[name]()) == expected


def test_the_settings_of_the_test_change_a_figure_that_is_not_in_the_house_style():
    def drawn() -> np.ndarray:
        figure = Figure(figsize=(2, 2), dpi=50)
        figure.subplots().imshow([[1, 2], [3, 4]])
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.array(canvas.buffer_rgba())

    settings = unlike_the_defaults()
    assert len(settings) > 240
    assert {"image.origin", "figure.autolayout", "text.usetex", "path.sketch", "savefig.bbox"} <= settings.keys()
    with mpl.rc_context({name: settings[name] for name in ("image.origin", "axes.facecolor", "font.size")}):
        other = drawn()
    assert (other != drawn()).any()


def test_settings_and_backend_are_as_before_after_drawing():
    with mpl.rc_context({"image.origin": "lower", "font.size": 31.0}):
        before = {name: mpl.rcParams[name] for name in mpl.rcParams}
        DRAWN["2"]().savefig(io.BytesIO())
        assert {name: mpl.rcParams[name] for name in mpl.rcParams} == before


def test_a_style_file_that_calls_tex_is_refused(tmp_path):
    file = tmp_path / "tex.mplstyle"
    file.write_text("text.usetex: True\n")
    with pytest.raises(ArgumentError, match=r"tex.mplstyle: text.usetex is True; expected False"), use_style(file):
        pass


@pytest.mark.parametrize("file", [None, "dark_background"])
def test_lines_are_seen_on_a_light_and_on_a_dark_ground(file):
    """With the contrast of 3 that WCAG asks of graphics."""
    palette = [REFERENCE, *vertical_lines.KINDS.values(), *MODALITY_COLOURS]
    with use_style(file):
        colours = [style.colour for style in (*map(model_style, MODELS), *map(branch_style, BRANCHES))]
        for colour in [*colours, *map(on_ground, palette)]:
            assert contrast(colour, ground()) > 3, colour
        shaded = laid_over(on_ground(EVENT), ground(), EVENT_ALPHA)
        for colour in [*(branch_style(name).colour for name in BRANCHES), *map(on_ground, MODALITY_COLOURS)]:
            assert contrast(colour, shaded) > 3, f"{colour} in the seconds of an event"


def test_families_of_models_differ_in_grey():
    names = ["baseline", "share-att-tp", "gate-op-tp30", "gate-att-tp10"]
    light = sorted(116 * (1.05 / contrast(MODELS[name].colour, "#ffffff") - 0.05) ** (1 / 3) - 16 for name in names)
    assert min(np.diff(light)) > 10  # CIE lightness


def test_a_notebook_shows_the_figure_that_a_cell_ends_with():
    formatters = pytest.importorskip("IPython.core.formatters")
    figure = DRAWN["6"]()
    shown, about = formatters.DisplayFormatter().format(figure)
    assert shown["image/png"].startswith(b"\x89PNG")
    assert about["image/png"] == {"width": 700, "height": round(100 * figure.get_figheight())}


def test_every_figure_of_the_house_keeps_its_style():
    for path in (Path(__file__).parents[2] / "figures").rglob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        names = {getattr(call.func, "id", getattr(call.func, "attr", "")) for call in calls}
        assert "Figure" not in names, path
