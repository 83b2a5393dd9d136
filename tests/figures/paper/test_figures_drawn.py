"""The paper's figures: what the artists hold, from tables made by hand; no pixel, no model, no torch."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from paper_tables import (
    FRAMES,
    MODALITIES,
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
from xarray import Dataset

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
from figures.style import BRANCHES, COLUMN_WIDTH, MODELS, PAGE_WIDTH

BOTH_WIDTHS = pytest.mark.parametrize("width", [COLUMN_WIDTH, PAGE_WIDTH])


def profiles(width: float = PAGE_WIDTH, **changes) -> Figure:
    """Figure 3 of two tiny records."""
    tables = {
        "baseline": tiny_record(),
        "other": tiny_record("gate-op-bd20", ("global", "local"), seed=1),
        "contrasts": tiny_contrasts(),
    } | changes
    return attention_profiles.draw(**tables, width=width)


def named(axes, gid: str) -> list:
    """Artists of a panel by their `gid`."""
    return [artist for artist in axes.get_children() if artist.get_gid() == gid]


def titled(figure: Figure, letter: str):
    """The panel with a letter."""
    return next(axes for axes in figure.axes if axes.get_title("left").startswith(f"({letter})"))


DRAWN = {
    "1": lambda width: similarity_and_attention.draw(tiny_record(), width),
    "2": lambda width: masks.draw(tiny_masks(), width),
    "3": profiles,
    "4": lambda width: sensitivity.draw(tiny_curves(), width),
    "5": lambda width: score_and_sensitivity.draw(tiny_scatter(), width),
    "6": lambda width: lag.draw(tiny_masses(), width),
    "8": lambda width: ablation.draw(tiny_costs(), width),
    "9": lambda width: what_if.draw(tiny_effects(), width),
    "10": lambda width: vertical_lines.draw(tiny_lines(), width),
}


@BOTH_WIDTHS
@pytest.mark.parametrize("number", DRAWN)
def test_figures_have_the_width_asked_for_and_clip_no_text(number, width):
    figure = DRAWN[number](width)
    assert figure.get_figwidth() == pytest.approx(width)
    figure.draw_without_rendering()
    used = figure.get_tightbbox()  # inches, of all that is visible
    assert min(used.x0, used.y0) > -0.02
    assert used.x1 < width + 0.02
    assert used.y1 < figure.get_figheight() + 0.02


@pytest.mark.parametrize("number", DRAWN)
def test_panels_are_lettered_without_a_gap(number):
    letters = [
        axes.get_title("left")[1] for axes in DRAWN[number](PAGE_WIDTH).axes if axes.get_title("left").startswith("(")
    ]
    assert sorted(letters) == [chr(ord("a") + place) for place in range(len(letters))]


def shown_maps(record: Dataset) -> dict[str, np.ndarray]:
    """Title -> what the image of each panel of Figure 1 holds."""
    figure = similarity_and_attention.draw(record)
    return {axes.get_title("left"): axes.images[0].get_array() for axes in figure.axes if axes.get_title("left")}


def test_figure_1_shows_the_maps_with_the_query_as_row():
    record = tiny_record()
    maps = shown_maps(record)
    assert len(maps) == 8
    for title, drawn in maps.items():
        modality = next(name for name in MODALITIES if name in title)
        one = record.sel(modality=modality)
        if "similarity of frames" in title:
            np.testing.assert_array_equal(drawn, one["similarity"].values)
            continue
        head = int(title.split("head ")[1].split("\n")[0])
        expected = one["attention"].sel(branch="global", head=head).transpose("query", "key").values
        np.testing.assert_array_equal(drawn, expected)
        assert f"{100 * float(one['verticality'].sel(head=head)):.0f} % vertical lines" in title


def test_figure_1_goes_by_the_names_of_dimensions_and_tells_a_wrong_transpose():
    record = tiny_record()
    right = shown_maps(record)
    turned = shown_maps(record.transpose("key", "query", ...))
    for title, drawn in right.items():
        np.testing.assert_array_equal(turned[title], drawn)
    wrong = record.assign(attention=record["attention"].copy(data=record["attention"].values.swapaxes(-1, -2)))
    swapped = shown_maps(wrong)
    assert all((swapped[title] != right[title]).any() for title in right if "head" in title)


def test_figure_1_labels_axes_in_seconds_bars_with_units_and_marks_events():
    figure = similarity_and_attention.draw(tiny_record())
    panel = titled(figure, "b")
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("key (s)", "query (s)")
    assert panel.images[0].get_extent() == [0.0, 11.0, 11.0, 0.0]
    labels = {axes.get_xlabel() for axes in figure.axes if axes.get_label() == "<colorbar>"}
    assert labels == {"cosine of two frames", "attention weight"}
    (event,) = named(panel, "event")
    assert (event.get_x(), event.get_width()) == (4.0, 3.0)


def test_figure_1_of_a_record_without_segments_or_verticality():
    record = tiny_record().drop_dims("segment").drop_vars("verticality")
    panel = titled(similarity_and_attention.draw(record), "b")
    assert not named(panel, "event")
    assert "%" not in panel.get_title("left")


def test_figure_2_marks_the_neighbourhood_of_one_query():
    one, two = masks.draw(tiny_masks()).axes
    values = np.asarray(one.images[0].get_array())
    assert np.flatnonzero(values[2]).tolist() == [3, 4, 5]
    assert set(values[2, 3:6]) == {2}
    assert not values[3:, 2].any()
    assert [to_hex(colour) for colour in one.images[0].cmap.colors] == [masks.OUTSIDE, masks.INSIDE, masks.CHOSEN]
    (mark,) = named(one, "frame i")
    assert mark.get_ydata().tolist() == [2]
    assert "= 3:\n3–5" in one.get_xlabel()
    assert "= 3:\n0, 3, …, 6" in two.get_xlabel()
    assert one.get_title("left") == "(a) one\nA3"


@pytest.mark.parametrize(
    ("keys", "text"),
    [([4], "4"), ([4, 7], "4, 7"), ([4, 5, 6], "4–6"), ([1, 5, 9], "1, 5, …, 9"), ([1, 2, 9], "1, …, 9")],
)
def test_frames_in_words(keys, text):
    assert masks.describe(np.array(keys)) == text


def test_figure_3_draws_the_three_profiles_over_seconds():
    baseline, other = tiny_record(), tiny_record("gate-op-bd20", ("global", "local"), seed=1)
    panel = titled(profiles(), "b")
    expected = {
        "baseline global": (baseline["profile"].sel(branch="global"), MODELS["baseline"].colour),
        "gate-op-bd20 global": (other["profile"].sel(branch="global"), BRANCHES["global"].colour),
        "gate-op-bd20 local": (other["profile"].sel(branch="local"), BRANCHES["local"].colour),
    }
    for gid, (profile, colour) in expected.items():
        (steps,) = named(panel, gid)
        np.testing.assert_array_equal(steps.get_data().values, profile.sel(modality="audio").values)
        np.testing.assert_array_equal(steps.get_data().edges, np.arange(FRAMES + 1))
        assert to_hex(steps.get_edgecolor()) == colour


def test_figure_3_shades_events_and_names_them():
    figure = profiles()
    (span,) = [patch for patch in titled(figure, "a").patches if isinstance(patch, Rectangle)]
    assert (span.get_x(), span.get_width()) == (4.0, 3.0)
    assert "Food" in [text.get_text() for text in titled(figure, "c").texts]


def test_figure_3_shows_both_predictions_with_probabilities():
    figure = profiles()
    for letter, record in (("d", tiny_record()), ("e", tiny_record("gate-op-bd20", ("global", "local"), seed=1))):
        panel = titled(figure, letter)
        widths = [bar.get_width() for bar in panel.patches]
        assert widths[:5] == sorted(record["score"].values, reverse=True)[:5]
        assert f"{max(widths):.2f}" in [text.get_text() for text in panel.texts]
    assert titled(figure, "e").get_title("left") == "(e) predictions of GateOp BD20"


def test_figure_3_counts_such_videos_and_the_opposite_case():
    text = " ".join(attention_profiles.note_lines(tiny_contrasts(), PAGE_WIDTH))
    assert "GateOp BD20 (shown) alone right in 13, Baseline alone in 7 of 101 videos (sign test p = 0.26)" in text
    assert "GateOp TP30 alone right in 5, Baseline alone in 11" in text
    assert text.endswith("Shown: by the rule.")
    none = " ".join(attention_profiles.note_lines(tiny_contrasts(found=0), PAGE_WIDTH))
    assert none.startswith("In no video is Baseline's first guess wrong and a GateOp's right")
    assert "Shown:" not in none


def test_figure_3_without_segments():
    other = tiny_record("gate-op-bd20", ("global", "local")).drop_dims("segment")
    figure = profiles(baseline=tiny_record().drop_dims("segment"), other=other)
    assert [axes.get_title("left")[:3] for axes in figure.axes] == ["(a)", "(b)", "(c)", "(d)"]


def test_figure_4_has_a_curve_and_a_band_a_model():
    table = tiny_curves()
    figure = sensitivity.draw(table)
    panels = {"a": ["baseline", "share-att-bd"], "b": ["baseline", "gate-op-tp30"], "c": ["share-att-bd"]}
    for letter, models in panels.items():
        panel, kind = titled(figure, letter), "own" if letter == "c" else "shared"
        curves = [line for line in panel.lines if line.get_gid()]
        assert [line.get_gid() for line in curves] == models
        for line in curves:
            one = table.sel(model=line.get_gid())
            np.testing.assert_array_equal(line.get_ydata(), one[kind].values)
            np.testing.assert_array_equal(line.get_xdata(), table["frame"].values)
            assert line.get_color() == MODELS[line.get_gid()].colour
            (band,) = named(panel, f"{line.get_gid()} interval")
            low, high = band.get_paths()[0].vertices[:, 1].min(), band.get_paths()[0].vertices[:, 1].max()
            assert (low, high) == pytest.approx((float(one[f"{kind}_low"].min()), float(one[f"{kind}_high"].max())))
    assert titled(figure, "c").get_xlabel() == "time (s)"
    assert titled(figure, "a").get_title("left") == "(a) ShareAtt, $N_i$ of TP30 for all"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Baseline", "ShareAtt BD", "GateOp TP30"]


def test_figure_4_of_one_video_has_no_bands_and_of_baseline_alone_one_panel():
    table = tiny_curves()
    for name in ("shared_low", "shared_high", "own_low", "own_high"):
        table[name] = table[name] * np.nan
    assert not titled(sensitivity.draw(table), "a").collections
    alone = sensitivity.draw(tiny_curves().sel(model=["baseline"]))
    assert [axes.get_title("left")[:3] for axes in alone.axes] == ["(a)"]


def test_figure_4_names_what_a_table_lacks():
    with pytest.raises(sensitivity.ArgumentError, match="shared_low, shared_high"):
        sensitivity.draw(tiny_curves().drop_vars(["shared_low", "shared_high"]))


def test_figure_5_has_a_marker_a_model_with_intervals_both_ways():
    figure = score_and_sensitivity.draw(tiny_scatter())
    first, second = titled(figure, "a"), titled(figure, "b")
    assert [each.get_label() for each in first.containers] == ["Baseline", "GateAtt TP10", "GateOp TP30"]
    assert [each.get_label() for each in second.containers] == ["GateAtt TP10", "GateOp TP30"]
    point, _, (across, up) = first.containers[1]
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (0.7, 42.0)
    assert (point.get_color(), point.get_marker()) == (MODELS["gate-att-tp10"].colour, MODELS["gate-att-tp10"].marker)
    np.testing.assert_allclose(across.get_segments()[0][:, 0], [0.65, 0.75])
    np.testing.assert_allclose(up.get_segments()[0][:, 1], [40.0, 44.0])
    assert first.get_title("left").endswith("ρ = 0.50 [0.50, 0.50], p = 0.5")
    assert second.get_title("left").endswith("2 models: too few to correlate")


def test_figure_6_draws_shares_that_add_up():
    table = tiny_masses()
    figure = lag.draw(table)
    for letter, kind in (("a", "attention"), ("b", "gradient")):
        panel = titled(figure, letter)
        for name in table["model"].values:
            (line,) = named(panel, str(name))
            np.testing.assert_allclose(line.get_ydata(), np.cumsum(table[kind].sel(model=name).values))
            assert line.get_ydata()[-1] == pytest.approx(1.0)
        (even,) = named(panel, "uniform")
        np.testing.assert_allclose(even.get_ydata(), np.cumsum(table["uniform"].values))
        assert panel.get_xlim() == (0.0, 10.0)


def test_table_1_in_three_formats():
    texts = results.draw(tiny_results())
    rows = [line.split(",") for line in texts["csv"].splitlines()]
    assert rows[0][:5] == ["model", "gap", "gap_low", "gap_high", "gap_published"]
    assert rows[2][:5] == ["gate-op-tp30", "44.0", "43.0", "45.0", "86.13"]
    assert rows[3][4] == ""
    lines = texts["md"].splitlines()
    assert lines[3].startswith("| GateOp TP30 | **44.00** [43.0, 45.0] | 86.13 | 19.00 [18.0, 20.0] | 47.49 |")
    assert lines[4].endswith("| – | – | 1.07 | – |")
    assert "over 101 videos" in texts["md"]
    assert r"GateOp TP30 & \textbf{44.00} [43.0, 45.0] & 86.13" in texts["tex"]
    assert texts["tex"].count(r"\\") == 4
    assert "95 \\%" in texts["tex"]
    columns = texts["tex"].split(r"\begin{tabular}{")[1].split("}")[0]
    assert len(columns) == lines[0].count("|") - 1


def test_claims_page_says_verdicts_numbers_and_what_they_are_about():
    texts = claims.draw(tiny_claims())
    assert "| C1 | A > B | **undecided** | A − B −1.50 [−3.00, 0.50] |" in texts["md"]
    assert "| C4 | lines | **confirmed** | visual 0.25 [0.20, 0.30] |" in texts["md"]
    assert "| C4 | top share | 0.60 | informs only |  | 13 videos |" in texts["md"]
    assert "| C4 | share | 0.25 [0.20, 0.30] | > 0 | 0.012 | 13 videos |" in texts["md"]
    assert "2 models on 101 videos." in texts["md"]
    assert texts["csv"].splitlines()[1] == "C1,A > B,undecided,GAP of A less B,>,-1.5,-3.0,0.5,,101 videos"


@BOTH_WIDTHS
def test_figure_7_ranks_explanations_and_holds_every_models_auc(width):
    found = tiny_evidence()
    figure = evidence.draw(found, width)
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["saliency", "attention local", "random"]
    order = ["saliency", "attention-local", "random"]
    for model in found["model"].values:
        (line,) = named(axes, str(model))
        values = found["auc"].sel(model=model, explainer=order).values
        np.testing.assert_array_equal(line.get_xdata(), values[np.isfinite(values)])
        rows = np.round(line.get_ydata()).astype(int)
        np.testing.assert_array_equal(rows, np.flatnonzero(np.isfinite(values)))
        assert line.get_color() == MODELS[str(model)].colour
    ends = {round(float(x), 6) for each in axes.collections for path in each.get_segments() for x in path[:, 0]}
    assert {0.7, 1.0, 0.2, 0.5, 0.6, 0.9, 0.3, 0.4} <= ends
    assert "ROC AUC of the label's seconds" in axes.get_xlabel()
    assert "3 demo videos, first 60 frames" in axes.get_xlabel()


@BOTH_WIDTHS
def test_figure_8_has_a_panel_a_modality_and_a_row_a_part(width):
    costs = tiny_costs()
    figure = ablation.draw(costs, width)
    for letter, modality in zip("ab", MODALITIES, strict=True):
        axes = titled(figure, letter)
        assert axes.get_title("left") == f"({letter}) {modality}"
        (line,) = named(axes, "baseline")
        np.testing.assert_array_equal(line.get_xdata(), costs["cost"].sel(model="baseline", modality=modality)[[0, 2]])
        np.testing.assert_array_equal(np.round(line.get_ydata()), [0, 2])
        assert axes.get_ylim()[0] > axes.get_ylim()[1]
    assert "GAP lost (points), 64 demo videos" in axes.get_xlabel()


@BOTH_WIDTHS
def test_figure_9_has_each_row_in_its_panel(width):
    effects = tiny_effects()
    figure = what_if.draw(effects, width)
    for letter, panel in zip("abc", ("branch", "window", "local"), strict=True):
        axes, rows = titled(figure, letter), effects["panel"].values == panel
        (line,) = named(axes, "gate-op-bd20")
        np.testing.assert_array_equal(line.get_xdata(), effects["effect"].sel(model="gate-op-bd20")[rows])
        assert [text.get_text() for text in axes.get_yticklabels()] == effects["row"].values[rows].tolist()
    (baseline,) = named(titled(figure, "b"), "baseline")
    np.testing.assert_array_equal(baseline.get_xdata(), [-1.0, -0.1])
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert sum("12 demo videos, first 60 frames" in label for label in labels) == 1


@BOTH_WIDTHS
def test_figure_10_has_a_marker_a_head_in_the_colour_of_its_verdict(width):
    lines = tiny_lines()
    figure = vertical_lines.draw(lines, width)
    for letter, name in (("a", "norm_ratio"), ("b", "shared")):
        axes, drawn = titled(figure, letter), 0
        for line in (line for line in axes.lines if line.get_gid()):
            *kind, modality, head = line.get_gid().split()
            one = lines.isel(modality=int(modality), head=int(head))
            shown = one["verdict"].values == " ".join(kind)
            np.testing.assert_array_equal(line.get_xdata(), one[name].values[shown])
            np.testing.assert_array_equal(np.round(line.get_ydata()), np.flatnonzero(shown))
            assert to_hex(line.get_color()) == to_hex(vertical_lines.KINDS[" ".join(kind)])
            drawn += shown.sum()
        assert drawn == int(lines["norm_ratio"].notnull().sum())
    (visual,), (audio,) = (named(titled(figure, "c"), f"gate {modality}") for modality in (0, 1))
    assert (visual.get_xdata().tolist(), audio.get_xdata().tolist()) == ([0.05], [-0.02])
    assert sum("13 demo videos, first 150 frames" in axes.get_xlabel() for axes in figure.axes) == 1


def test_figures_7_and_8_go_by_the_names_of_dimensions():
    for draw, table in ((evidence.draw, tiny_evidence()), (ablation.draw, tiny_costs())):
        one, two = draw(table), draw(table.transpose(*reversed(list(table.sizes))))
        for left, right in zip(one.axes, two.axes, strict=True):
            np.testing.assert_array_equal(
                named(left, "baseline")[0].get_xdata(), named(right, "baseline")[0].get_xdata()
            )
