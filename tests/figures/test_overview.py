"""The overview: the numbers, limits, colours and words in its artists; the house style; saving."""

import itertools
import json
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from small_models import KINDS, small_clip, small_model

from analysis import inspect_clip
from analysis.errors import RecordError
from figures import style
from figures.inspection import file_name, provenance, write_inspection
from figures.overview import draw
from figures.panels import maps as map_panels
from figures.panels import predictions as prediction_panel
from figures.panels import time as time_panels
from figures.texts import text_points
from gmsa_models import Segment

FRAMES = 13


def record_of(kind="gate-op", clip=None, **changes):
    return inspect_clip(small_model(kind, **changes), clip or small_clip(FRAMES))


def panel(figure, start):
    """The first panel whose title starts so."""
    (found,) = [axes for axes in figure.axes if axes.get_title().startswith(start)][:1]
    return found


def time_panel(figure, start):
    (found,) = [axes for axes in figure.axes if axes.get_ylabel().startswith(start)][:1]
    return found


def steps(axes):
    return [each for each in axes.patches if isinstance(each, mpl.patches.StepPatch)]


def test_maps_show_the_records_numbers_with_the_query_from_the_top():
    record = record_of("baseline")
    figure = draw(record)
    for shown in map_panels.choose_heads(record, "visual"):
        image = panel(figure, f"visual, head {shown.head}, global").images[0]
        expected = record["attention"].sel(modality="visual", branch="global", head=shown.head).values
        np.testing.assert_array_equal(image.get_array(), expected)
        assert image.get_extent() == [0.0, FRAMES, FRAMES, 0.0]
        assert image.origin == "upper"
        assert image.get_cmap().name == style.WEIGHTS
        assert image.get_clim() == pytest.approx((0, np.quantile(expected, map_panels.QUANTILE)))
    similarity = panel(figure, "audio similarity")
    np.testing.assert_array_equal(similarity.images[0].get_array(), record["similarity"].sel(modality="audio").values)
    assert similarity.images[0].get_clim()[1] == 1.0
    assert (similarity.get_xlabel(), similarity.get_ylabel()) == ("key (s)", "query (s)")


def test_a_transposed_record_draws_other_maps():
    record = record_of("baseline")
    turned = record.copy()
    turned["attention"] = record["attention"].copy(data=np.swapaxes(record["attention"].values, -1, -2))
    first, second = (panel(draw(one), "visual, head").images[0].get_array() for one in (record, turned))
    np.testing.assert_array_equal(first, second.T)
    assert not np.allclose(first, second)


def test_local_maps_grey_out_what_is_outside_the_neighbourhood():
    record = record_of("gate-op")
    image = next(axes for axes in draw(record).axes if axes.get_title().endswith("local")).images[0]
    np.testing.assert_array_equal(np.ma.getmaskarray(image.get_array()), ~record["neighbourhood"].values)
    assert to_hex(image.get_cmap().get_bad()) == style.EXCLUDED


@pytest.mark.parametrize(
    ("kind", "branches"),
    [
        ("baseline", ["global"] * 3),
        ("share-att", ["global", "global", "local"]),
        ("gate-att", ["combined"] * 3),
        ("gate-op", ["global", "global", "local"]),
    ],
)
def test_three_heads_the_most_uneven_first(kind, branches):
    record = record_of(kind)
    heads = map_panels.choose_heads(record, "audio")
    assert [each.branch for each in heads] == branches
    assert len({each.head for each in heads}) == 3
    spread = record["head_profile"].sel(modality="audio", branch=branches[0]).std("frame")
    assert heads[0].head == int(spread.fillna(-1).argmax("head"))


def test_titles_of_maps_do_not_meet_however_long_a_streams_name_is():
    record = record_of("baseline")
    names = ["encoder.temporal_attention.inner", "encoder.spatial_attention.outermost"]
    figure = draw(record.assign_coords(modality=np.array(names, dtype=object)))
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    boxes = [axes.title.get_window_extent(renderer) for axes in figure.axes if axes.images]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    assert panel(figure, "enco").get_title().endswith("similarity")


def test_a_model_without_a_classifier_has_no_predictions_and_says_so():
    record = record_of("baseline").drop_vars(["score", "logit", "label", "class_name"])
    record = record.drop_dims("class").assign_attrs(no_predictions="Mine has no classifier")
    figure = draw(record)
    assert "(no predictions: Mine has no classifier)" in figure.get_suptitle()
    assert not [axes for axes in figure.axes if axes.get_title().startswith("predictions")]


def test_fewer_heads_than_three_are_all_shown():
    assert len(map_panels.choose_heads(record_of("baseline", heads=2), "visual")) == 2
    draw(record_of("baseline", heads=1))


def test_profiles_and_gates_are_steps_over_seconds():
    record = record_of("gate-op", clip=small_clip(FRAMES, start_seconds=30.0, frame_seconds=0.5))
    figure = draw(record)
    axes = time_panel(figure, "visual\nattention received")
    edges = 30 + 0.5 * np.arange(FRAMES + 1)
    for patch, branch in zip(steps(axes), ("global", "local"), strict=True):
        values, at, _ = patch.get_data()
        np.testing.assert_array_equal(at, edges)
        np.testing.assert_array_equal(values, record["profile"].sel(modality="visual", branch=branch).values)
        assert to_hex(patch.get_edgecolor()) == style.BRANCHES[branch].colour
    assert axes.get_xlim() == (30.0, 36.5)
    assert axes.get_ylim()[0] == 0
    gates = time_panel(figure, "local gate")
    np.testing.assert_array_equal(
        steps(gates)[1].get_data()[0], record["gate"].sel(modality="audio", branch="local").values
    )
    low, high = gates.get_ylim()
    assert low + high == pytest.approx(1.0)
    assert high >= 0.55
    assert figure.axes[-2].get_xlabel() or any(axes.get_xlabel() == "time (s)" for axes in figure.axes)


def test_known_events_are_shaded_and_named():
    record = record_of()
    figure = draw(record)
    shaded = [each for each in time_panel(figure, "audio\n").patches if isinstance(each, mpl.patches.Rectangle)]
    assert [(each.get_x(), each.get_width(), to_hex(each.get_facecolor())) for each in shaded] == [(3, 4, style.EVENT)]
    strip = time_panel(figure, "segments")
    colours = [to_hex(each.get_facecolor()) for each in strip.patches]
    assert colours == [style.BACKGROUND, style.EVENT, style.BACKGROUND]
    assert [text.get_text() for text in strip.texts] == ["Food"]


def test_labels_of_segments_do_not_overlap():
    spans = tuple(Segment(float(at), float(at + 1), (3 if at % 2 else 19,)) for at in range(0, 12))
    record = record_of(clip=small_clip(FRAMES, segments=spans))
    width = 3.0
    placed = time_panels.place_labels(record, width)
    a_point = FRAMES / (width * 72)
    for first, second in itertools.combinations(placed, 2):
        if first.lane == second.lane:
            reach = sum(text_points(each.text, time_panels.LABEL_POINTS) for each in (first, second)) / 2 * a_point
            assert abs(first.seconds - second.seconds) >= reach
    assert {label.lane for label in placed} == set(range(time_panels.MOST_LANES))
    for label in placed:
        half = text_points(label.text, time_panels.LABEL_POINTS) / 2 * a_point
        assert label.seconds - half >= -1e-9
        assert label.seconds + half <= FRAMES + 1e-9


def test_predictions_are_ranked_and_true_labels_marked():
    record = record_of()
    axes = panel(draw(record, top=2), "predictions of")
    order = np.argsort(-record["score"].values)
    true = int(np.flatnonzero(record["label"].values)[0])
    expected = [*order[:2], *([true] if true not in order[:2] else [])]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(record["score"].values[expected].tolist())
    colours = [style.TRUE if row == true else style.OTHER for row in expected]
    assert [to_hex(bar.get_facecolor()) for bar in axes.patches] == colours
    words = " ".join(text.get_text() for text in axes.texts)
    assert f"{prediction_panel.CHECK} Food" in words
    assert axes.get_xlim() == (0, 1)


def test_missed_labels_follow_with_their_rank():
    record = record_of()
    record["score"] = ("class", np.array([0.9, 0.8, 0.1, 0.5, 0.4], np.float32))
    shown = prediction_panel.top_predictions(record, 2)
    assert [(each.rank, each.name, each.true) for each in shown] == [
        (1, "Game", False),
        (2, "Car", False),
        (5, "Food", True),
    ]
    with pytest.raises(ValueError, match=r"top is 0; expected at least 1"):
        prediction_panel.top_predictions(record, 0)


def test_the_title_names_clip_model_and_labels():
    title = draw(record_of("baseline")).get_suptitle()
    assert title == "clip0: small-baseline, 13 s\nlabels: Food; label 404"


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_of_one_frame_draws(kind):
    figure = draw(record_of(kind, clip=small_clip(1)))
    figure.draw_without_rendering()
    if kind != "none":
        assert panel(figure, "visual, head").images[0].get_array().shape == (1, 1)
        assert all((each.get_data().values <= 1 + 1e-6).all() for each in steps(time_panel(figure, "visual\n")))


def test_the_control_has_no_maps_of_attention_and_no_profiles():
    figure = draw(record_of("none"))
    titles = [axes.get_title() for axes in figure.axes]
    assert "visual similarity" in titles
    assert not any("head" in title for title in titles)
    assert not any("attention" in axes.get_ylabel() for axes in figure.axes)
    assert time_panel(figure, "segments").get_xlabel() == "time (s)"


def test_one_modality_and_no_segments():
    clip = small_clip(FRAMES, segments=())
    figure = draw(inspect_clip(small_model("share-att", ("audio",)), clip))
    assert not any("visual" in axes.get_title() for axes in figure.axes)
    assert not any(axes.get_ylabel() == "segments" for axes in figure.axes)


def test_two_models_side_by_side():
    first, second = record_of("gate-op"), record_of("baseline")
    figure = draw(first, second)
    # Audio: the visual weights of the two models are drawn first, from one seed, and are the same.
    difference = panel(figure, "small-gate-op\n− small-baseline\naudio").images[0]
    means = [one["attention"].sel(modality="audio", branch="global").mean("head").values for one in (first, second)]
    assert not np.allclose(*means)
    np.testing.assert_array_equal(difference.get_array(), means[0] - means[1])
    assert difference.norm.vmin == -difference.norm.vmax
    assert {"predictions of small-gate-op", "predictions of small-baseline"} <= {a.get_title() for a in figure.axes}
    lines = steps(time_panel(figure, "visual\n"))
    assert [each.get_linestyle() == "solid" or each.get_linestyle() == "-" for each in lines] == [True, True, False]
    draw(first, record_of("none"))
    draw(record_of("none"), first)


def test_records_of_two_clips_do_not_stand_side_by_side():
    with pytest.raises(RecordError, match=r"differ in clip: \['clip0', 'clip1'\]"):
        draw(record_of(), record_of("baseline", clip=small_clip(FRAMES, seed=1)))
    with pytest.raises(RecordError, match=r"differ in frames"):
        draw(record_of(), record_of("baseline", max_frames=11))


@pytest.mark.parametrize("kind", ["gate-op", "none"])
def test_no_text_is_clipped(kind):
    long = small_clip(FRAMES, id="a name that goes on and on " * 9, labels=(3, 5, 11, 17, 19, 404))
    figure = draw(record_of(kind, clip=long))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn, width, height = figure.get_tightbbox(canvas.get_renderer()), *figure.get_size_inches()
    assert min(drawn.x0, drawn.y0) > -0.01
    assert drawn.x1 < width + 0.01
    assert drawn.y1 < height + 0.01


def lightness(colour):
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    return 116 * float(np.dot([0.2126, 0.7152, 0.0722], linear)) ** (1 / 3) - 16


def test_the_models_and_the_branches_can_be_told_apart_in_grey():
    looks = {name: (each.colour, str(each.line), each.marker) for name, each in style.MODELS.items()}
    assert len(set(looks.values())) == len(looks) == 16
    paper = {each.colour for name, each in style.MODELS.items() if name != "control"}
    for first, second in itertools.combinations(paper, 2):
        assert abs(lightness(first) - lightness(second)) > 12
    assert abs(lightness(style.BRANCHES["global"].colour) - lightness(style.BRANCHES["local"].colour)) > 12
    assert style.model_style("mine").label == "mine"


def test_weights_have_a_sequential_scale():
    ramp = [lightness(colour) for colour in mpl.colormaps[style.WEIGHTS](np.linspace(0, 1, 64))]
    assert (np.diff(ramp) < 0).all()


def test_the_style_comes_back():
    before = mpl.rcParams["font.size"]
    with style.use_style():
        assert mpl.rcParams["pdf.fonttype"] == 42
    assert mpl.rcParams["font.size"] == before


def test_saving_twice_gives_the_same_bytes_and_says_where_it_comes_from(tmp_path):
    record = record_of("none")
    about = provenance([record], "gmsa figures")
    for name in ("one", "two"):
        written = style.save(draw(record), tmp_path / "deep" / name, ("png", "pdf", "svg"), about)
        assert [path.suffix for path in written] == [".png", ".pdf", ".svg", ".json"]
    for suffix in (".png", ".pdf", ".svg", ".json"):
        assert (tmp_path / f"deep/one{suffix}").read_bytes() == (tmp_path / f"deep/two{suffix}").read_bytes()
    told = json.loads((tmp_path / "deep/one.json").read_text())
    assert told["clip"]["features_sha256"] == record.attrs["features_sha256"]
    assert told["software"]["matplotlib"] == mpl.__version__
    assert b"Food" in (tmp_path / "deep/one.svg").read_bytes()  # text stays text
    with pytest.raises(style.ArgumentError, match=r"unknown picture format 'gif'; known: png, pdf, svg"):
        style.save(draw(record), tmp_path / "three", ("gif",))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep"]


@pytest.mark.usefixtures("pages_left_empty")
def test_drawing_needs_no_torch(tmp_path):
    write_inspection([record_of(modalities=("audio",))], tmp_path, 3, "test")
    script = (
        "import sys\nfor name in ('torch', 'captum'): sys.modules[name] = None\n"
        "import xarray\nfrom figures import overview, style\n"
        "style.save(overview.draw(xarray.open_dataset(sys.argv[1])), sys.argv[2], ('png',))"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "clip0-small-gate-op.nc", tmp_path / "again"], check=True)
    assert (tmp_path / "again.png").read_bytes()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("demo-0003", "demo-0003"),
        ("SjJ3", "SjJ3"),
        ("a.b_c", "a.b_c"),
        ("電影", "電影"),
        ("demo:3", "demo-3~2f13cec703"),
        ("x/y é", "x-y-é~"),
        ("..", "clip~"),
    ],
)
def test_file_names_are_safe_and_plain_ones_as_they_are(source, name):
    assert file_name(source).startswith(name)
    assert (file_name(source) == source) == ("~" not in name)


IDS = ["cam1/0001", "cam2/0001", "abc", "-abc", "abc-", "..abc", "abc.tfrecord", "a/b#abc", "x" * 300, "x" * 301,
       "電" * 120, "電" * 121, "é", "e\u0301", "cam1-0001", "a\nb", "a\rb", "..", ".", "~"]  # fmt: skip


def test_different_ids_have_different_file_names_that_file_systems_take():
    names = [file_name(each) for each in IDS]
    assert len({name.casefold() for name in names}) == len(IDS)
    assert not {file_name(name) for name in names} & (set(names) - set(IDS))  # an id that looks like such a name
    for name in names:
        assert len(name.encode()) <= 100
        assert not set(name) & set('/\\:*?"<>|\n\r\0')
        assert name.strip("-.") == name
