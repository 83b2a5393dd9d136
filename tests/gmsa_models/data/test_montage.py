"""Montages: determinism, exact segments, labels, and how far frames differ."""

import errno
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from references.montage import WIDTHS, slow_frame_distance, tiny_vectors
from typer.testing import CliRunner

import gmsa
from figures.paper import montage_realism
from gmsa_models.data import quantize, read_clips
from gmsa_models.data.lock import locked
from gmsa_models.data.montage.class_statistics import shipped_statistics
from gmsa_models.data.montage.make import (
    DEMO_VIDEOS,
    demo_clip,
    demo_vocabulary,
    montage,
    montages,
    quantize_in_place,
    within_variance,
)
from gmsa_models.data.montage.realism import TOLERANCE, distance_table, frame_distance, mean_distances
from gmsa_models.data.montage.recipe import (
    LEAST_WITHIN,
    MIXES,
    VARIATION,
    FrameVariation,
    MontageRecipe,
    draw_frames,
    draw_layout,
)
from gmsa_models.data.montage.shards import write_montages
from gmsa_models.data.montage.video_vectors import read_video_vectors
from gmsa_models.errors import ConfigError, OutputError

SHARED = Path(__file__).parents[4] / "shared" / "data"
TINY = tiny_vectors()


def same(left, right):
    return (
        left.id == right.id
        and left.labels == right.labels
        and left.segments == right.segments
        and all(np.array_equal(left.features[name], right.features[name]) for name in left.features)
    )


def ranges(fewest, most):
    return st.tuples(st.integers(fewest, most), st.integers(fewest, most)).map(lambda pair: tuple(sorted(pair)))


# Made into recipes inside the tests: the run-time type checks draw at random, which a strategy must not.
recipes = st.fixed_dictionaries(
    {
        "mix": st.sampled_from(sorted(MIXES)),
        "frames": ranges(1, 61),
        "events": ranges(1, 5),
        "event_seconds": ranges(1, 19),
        "background_seconds": ranges(1, 31),
        "shot_seconds": st.floats(1.0, 17.0),
        "balance": st.floats(0.0, 1.0),
    }
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(recipe=recipes, seed=st.integers(0, 2**40), index=st.integers(0, 2**20))
def test_segments_tile_the_clip_and_labels_are_the_events_labels(recipe, seed, index):
    recipe = MontageRecipe(**recipe)
    clip = montage(TINY, recipe, seed, index)
    assert recipe.frames[0] <= clip.frames <= recipe.frames[1]
    assert {name: values.shape for name, values in clip.features.items()} == {
        name: (clip.frames, width) for name, width in WIDTHS.items()
    }
    assert clip.segments[0].start == 0
    assert clip.segments[-1].end == clip.frames
    for segment, following in zip(clip.segments, clip.segments[1:], strict=False):
        assert segment.start < segment.end == following.start
    assert clip.labels == tuple(sorted({label for segment in clip.segments for label in segment.labels}))
    origins = dict(zip(TINY.ids.tolist(), map(TINY.labels_of, range(len(TINY))), strict=True))
    for segment in clip.segments:
        assert segment.kind in ("event", "background")
        assert segment.labels == origins[segment.origin]
        assert bool(segment.labels) == (segment.kind == "event")


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(recipe=recipes)
def test_a_recipe_survives_json(recipe):
    recipe = MontageRecipe(**recipe)
    assert MontageRecipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_each_mix_has_its_layout():
    rng = np.random.default_rng(0)
    for _ in range(50):
        frames = draw_frames(MontageRecipe(), rng)
        spans = draw_layout(MontageRecipe(), frames, rng)
        events = [end - start for start, end, kind in spans if kind == "event"]
        assert 1 <= len(events) <= 3
        assert all(8 <= length <= 16 for length in events)
        assert all(end - start <= 30 + 7 for start, end, kind in spans if kind == "background")
        spans = draw_layout(MontageRecipe(mix="all-labelled"), frames, rng)
        assert {kind for _, _, kind in spans} == {"event"}
        spans = draw_layout(MontageRecipe(mix="topic", events=(2, 2)), frames, rng)
        assert sum(kind == "background" for _, _, kind in spans) == 2
        assert all(8 <= end - start <= 16 for start, end, kind in spans if kind == "background")


def test_a_topic_is_one_video_throughout():
    clip = montage(TINY, MontageRecipe(mix="topic", events=(2, 2)), 1, 5)
    assert len({segment.origin for segment in clip.segments if segment.kind == "event"}) == 1


def test_events_lie_anywhere():
    rng = np.random.default_rng(1)
    recipe = MontageRecipe(frames=(100, 100), events=(1, 1), event_seconds=(10, 10))
    starts = [start for _ in range(2000) for start, _, kind in draw_layout(recipe, 100, rng) if kind == "event"]
    assert min(starts) == 0
    assert max(starts) == 90
    assert np.mean(starts) == pytest.approx(45, abs=2)


def test_lengths_follow_their_weights():
    rng = np.random.default_rng(2)
    recipe = MontageRecipe(frames=((3, 10, 19), (1, 20, 29)))
    lengths = np.array([draw_frames(recipe, rng) for _ in range(4000)])
    assert (lengths < 20).mean() == pytest.approx(0.75, abs=0.03)
    assert set(lengths) == set(range(10, 30))


def test_any_video_can_be_made_alone_and_in_any_order():
    series = list(montages(TINY, MontageRecipe(), 7, 5))
    assert same(montage(TINY, MontageRecipe(), 7, 3), series[3])
    assert all(same(*pair) for pair in zip(montages(TINY, MontageRecipe(), 7, 2, start=3), series[3:], strict=True))
    assert not same(montage(TINY, MontageRecipe(), 8, 3), replace(series[3], id="montage-8-000003"))


def test_demo_videos_are_the_same_everywhere():
    clip = demo_clip(3)
    assert (clip.id, clip.frames) == ("demo-0003", 181)
    assert clip.labels == (0, 1, 2, 75, 172)
    digest = hashlib.sha256(clip.features["visual"].tobytes() + clip.features["audio"].tobytes())
    assert digest.hexdigest() == "f0adce220b14f99f6362d0ac7c243e1ee905142a8eebed136bb227e3379b707b"
    assert {name: values.shape[1] for name, values in clip.features.items()} == {"visual": 1024, "audio": 128}


def test_the_demo_set_ends():
    vocabulary = demo_vocabulary()
    assert len(vocabulary) == 300
    assert set(demo_clip(DEMO_VIDEOS - 1).labels) <= set(vocabulary.indices)
    for index in (-1, DEMO_VIDEOS):
        with pytest.raises(IndexError, match=f"demo video {index}; the demo set is demo:0 to demo:511"):
            demo_clip(index)


def test_every_frame_has_the_variance_that_single_frames_have():
    """Over many videos, video vector + shot offset + frame noise add up to `deviation` squared, moving or static."""
    for static in (0.0, 0.5, 1.0):
        variation = {name: FrameVariation(deviation=0.7, noise=0.6, static=static) for name in WIDTHS}
        recipe = MontageRecipe(frames=(60, 60), mix="all-labelled", balance=0.0, variation=variation)
        clips = list(montages(TINY, recipe, 4, 120))
        for name in WIDTHS:
            values = np.concatenate([clip.floats(name) for clip in clips])
            assert values.std() == pytest.approx(0.7, rel=0.05)


def test_within_variance_completes_the_between_variance():
    between = np.array([0.0, 0.3, 5.0])
    variation = FrameVariation(deviation=2.0, noise=0.5, static=0.5)
    np.testing.assert_allclose(within_variance(between, variation), [4.0, 3.7, 4.0 * LEAST_WITHIN], rtol=1e-6)


def test_static_shots_stand_still_and_moving_shots_do_not():
    still = {name: FrameVariation(1.0, noise=1.0, static=1.0) for name in WIDTHS}
    recipe = MontageRecipe(frames=(40, 40), mix="topic", events=(1, 1), shot_seconds=1e9, variation=still)
    clip = montage(TINY, recipe, 0, 0)
    first = clip.features["visual"][: int(clip.segments[0].end)].astype(int)
    assert np.abs(np.diff(first, axis=0)).mean() < 3
    moving = replace(recipe, variation={name: FrameVariation(1.0, noise=1.0, static=0.0) for name in WIDTHS})
    first = montage(TINY, moving, 0, 0).features["visual"][: int(clip.segments[0].end)].astype(int)
    assert np.abs(np.diff(first, axis=0)).mean() > 30


def test_the_mean_over_a_segment_shows_its_video():
    """Without offsets and noise, a segment's frames are its video's vector, to the last bit."""
    calm = {name: FrameVariation(1e-9, noise=0.5, static=0.5) for name in WIDTHS}
    clip = montage(TINY, MontageRecipe(variation=calm), 0, 0)
    rows = {identifier: row for row, identifier in enumerate(TINY.ids.tolist())}
    for segment in clip.segments:
        frames = clip.features["audio"][int(segment.start) : int(segment.end)]
        assert (frames == TINY.features["audio"][rows[segment.origin]]).all()


def test_quantising_in_place_is_quantising():
    values = np.linspace(-2.5, 2.5, 4001, dtype=np.float32)
    np.testing.assert_array_equal(quantize_in_place(values.copy()), quantize(values))


def test_unusable_recipes_say_so():
    with pytest.raises(KeyError, match="unknown mix 'salad'; known: events, all-labelled, topic"):
        MontageRecipe(mix="salad")
    for field, value in {"events": (0, 1), "event_seconds": (9, 8), "background_seconds": (0, 0)}.items():
        with pytest.raises(ConfigError, match=field):
            MontageRecipe(**{field: value})
    for field, value in {"frames": ((-1, 5, 6),), "shot_seconds": 0.5, "balance": 1.5}.items():
        with pytest.raises(ConfigError, match=field):
            MontageRecipe(**{field: value})
    with pytest.raises(ConfigError, match="unknown fields \\['speed'\\]"):
        MontageRecipe.from_dict({"speed": 1})
    with pytest.raises(KeyError, match="no variation of 'audio'"):
        montage(TINY, MontageRecipe(variation={"visual": VARIATION["visual"]}), 0, 0)
    with pytest.raises(ValueError, match="seed -1"):
        montage(TINY, MontageRecipe(), -1, 0)


def test_shards_hold_the_series_whatever_the_number_of_shards(tmp_path):
    recipe = MontageRecipe(frames=(20, 31))
    seen = []
    paths = write_montages(TINY, recipe, 5, 7, tmp_path / "three", shards=3, progress=seen.append)
    assert [path.name for path in paths] == [f"montage-0000{number}-of-00003.tfrecord" for number in range(3)]
    assert seen == [2, 2, 3]
    written = [clip for path in paths for clip in read_clips(str(path))]
    assert all(same(*pair) for pair in zip(written, montages(TINY, recipe, 5, 7), strict=True))
    described = json.loads((tmp_path / "three" / "recipe.json").read_text())
    assert MontageRecipe.from_dict(described["recipe"]) == recipe


def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    recipe = MontageRecipe(frames=(20, 31))
    paths = write_montages(TINY, recipe, 5, 6, tmp_path, shards=3)
    content = [path.read_bytes() for path in paths]
    paths[1].unlink()
    times = [paths[0].stat().st_mtime_ns, paths[2].stat().st_mtime_ns]
    write_montages(TINY, recipe, 5, 6, tmp_path, shards=3)
    assert [path.read_bytes() for path in paths] == content
    assert [paths[0].stat().st_mtime_ns, paths[2].stat().st_mtime_ns] == times


def test_another_series_is_not_mixed_in(tmp_path):
    write_montages(TINY, MontageRecipe(frames=(20, 31)), 5, 2, tmp_path)
    with pytest.raises(ConfigError, match="another seed, videos"):
        write_montages(TINY, MontageRecipe(frames=(20, 31)), 6, 3, tmp_path)
    with pytest.raises(ConfigError, match="1 <= shards <= videos"):
        write_montages(TINY, MontageRecipe(), 5, 2, tmp_path, shards=3)


def test_other_vectors_of_the_same_name_are_not_mixed_in(tmp_path):
    """As two files `a/vectors.npz` and `b/vectors.npz` are."""
    recipe = MontageRecipe(frames=(20, 31))
    paths = write_montages(TINY, recipe, 5, 4, tmp_path, shards=2)
    paths[1].unlink()
    other = replace(TINY, features={name: values[::-1] for name, values in TINY.features.items()})
    assert other.name == TINY.name
    with pytest.raises(ConfigError, match="a series made with another source_sha256; choose another directory"):
        write_montages(other, recipe, 5, 4, tmp_path, shards=2)
    assert not paths[1].exists()


def test_a_series_of_an_earlier_version_goes_on_with_its_own_vectors_only(tmp_path):
    recipe = MontageRecipe(frames=(20, 31))
    paths = write_montages(TINY, recipe, 5, 4, tmp_path, shards=2)
    content = paths[1].read_bytes()
    described = json.loads((tmp_path / "recipe.json").read_text())
    earlier = {name: described[name] for name in ("source", "seed", "videos", "shards", "recipe")}
    (tmp_path / "recipe.json").write_text(json.dumps({"format_version": 1} | earlier))
    paths[1].unlink()
    other = replace(TINY, features={name: values[::-1] for name, values in TINY.features.items()})
    with pytest.raises(ConfigError, match="choose another directory"):
        write_montages(other, recipe, 5, 4, tmp_path, shards=2)
    write_montages(TINY, recipe, 5, 4, tmp_path, shards=2)
    assert paths[1].read_bytes() == content
    assert json.loads((tmp_path / "recipe.json").read_text()) == described


def test_a_full_disk_leaves_no_recipe_and_a_damaged_one_says_what_to_do(tmp_path, monkeypatch):
    def full(path, text, **given):
        path.open("w").close()
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match=r"recipe\.json: No space left on device; make room"):
            write_montages(TINY, MontageRecipe(frames=(20, 31)), 5, 2, tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "recipe.json").touch()
    with pytest.raises(ConfigError, match=r"recipe.json: not the recipe of a series .*remove it and the shards"):
        write_montages(TINY, MontageRecipe(frames=(20, 31)), 5, 2, tmp_path)


def test_one_series_at_a_time_and_what_killed_runs_left_goes(tmp_path):
    (tmp_path / ".montage-00000-of-00001.tfrecord.0123abcd.tmp").touch()
    with locked(tmp_path, "montages"), pytest.raises(OutputError, match="in use by montages"):
        write_montages(TINY, MontageRecipe(frames=(20, 31)), 5, 2, tmp_path)
    write_montages(TINY, MontageRecipe(frames=(20, 31)), 5, 2, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["montage-00000-of-00001.tfrecord", "recipe.json"]


def write_vectors(path: Path, labels: list[int]) -> Path:
    """Video-level vectors: half of the videos without a label."""
    rng = np.random.default_rng(3)
    flat = [label for label in labels for _ in range(4)]
    arrays = {
        "id": np.array([f"v{row:03d}" for row in range(2 * len(flat))], "S4"),
        "mean_rgb": rng.integers(0, 256, (2 * len(flat), 1024), np.uint8),
        "mean_audio": rng.integers(0, 256, (2 * len(flat), 128), np.uint8),
        "labels": np.array(flat, np.uint16),
        "label_offsets": np.minimum(np.arange(2 * len(flat) + 1), len(flat)),
    }
    np.savez(path, **arrays)
    return path


def test_vectors_that_are_not_youtube_8ms_say_nothing_of_their_labels(tmp_path):
    assert montage(TINY, MontageRecipe(frames=(20, 31)), 5, 0).dataset == ""
    path = write_vectors(tmp_path / "v.npz", [0, 1])
    clip = montage(read_video_vectors(path, kept=2), MontageRecipe(frames=(20, 31)), 5, 0)
    assert (clip.dataset, sorted(clip.spaces)) == ("youtube-8m", ["audio", "visual"])
    arrays = dict(np.load(path))
    np.savez(path, **arrays | {"mean_rgb": arrays["mean_rgb"][:, :512]})
    narrow = montage(read_video_vectors(path, kept=2), MontageRecipe(frames=(20, 31)), 5, 0)
    assert (narrow.dataset, narrow.spaces) == ("", {})
    said = montage(read_video_vectors(path, kept=2, dataset="my own"), MontageRecipe(frames=(20, 31)), 5, 0)
    assert said.dataset == "my own"


class TestClasses:
    """`gmsa montage --classes`: other classes are another task, and the shipped models do not know them."""

    def run(self, tmp_path, vectors, *more):
        words = ["--vectors", vectors, "--out", tmp_path / "out", "--count", 2, "--frames", 20, 30, *more]
        done = CliRunner().invoke(gmsa.app, ["montage", *map(str, words)])
        recipe = tmp_path / "out" / "recipe.json"
        return done, json.loads(recipe.read_text()) if recipe.exists() else {}

    def test_those_of_a_model(self, tmp_path):
        vectors = write_vectors(tmp_path / "v.npz", [0, 1, 2, 3000])
        done, recipe = self.run(tmp_path, vectors, "--classes", "gate-op-bd20")
        assert done.exit_code == 0, done.output
        assert done.stderr == ""
        assert done.stdout == f"wrote 2 videos of 300 classes to 1 shards in {tmp_path / 'out'}\n"
        assert recipe["classes"] == list(demo_vocabulary().indices)
        assert recipe["not_of_shipped_models"] == []

    def test_others_are_told_of(self, tmp_path):
        vectors = write_vectors(tmp_path / "v.npz", [0, 1, 3000, 3001])
        (tmp_path / "classes.csv").write_text("Index,Name\n0,a\n1,b\n3000,c\n3001,d\n")
        done, recipe = self.run(tmp_path, vectors, "--classes", tmp_path / "classes.csv")
        assert done.exit_code == 0, done.output
        assert done.stderr == (
            "gmsa: WARNING: 2 of the 4 classes of these montages (3000, 3001) are none of the shipped models', which "
            "score without them; for theirs give --classes gate-op-bd20\n"
        )
        assert (recipe["classes"], recipe["not_of_shipped_models"]) == ([0, 1, 3000, 3001], [3000, 3001])

    def test_clips_are_of_the_data_set_of_the_vectors(self, tmp_path):
        vectors = write_vectors(tmp_path / "v.npz", [0, 1])
        (tmp_path / "classes.csv").write_text("Index,Name\n0,a\n1,b\n")
        words = ("--classes", tmp_path / "classes.csv", "--dataset", "my own")
        done, recipe = self.run(tmp_path, vectors, *words)
        assert done.exit_code == 0, done.output
        assert recipe["not_of_shipped_models"] == [0, 1]  # which are numbers of other classes
        clips = list(read_clips(f"{tmp_path}/out/*.tfrecord"))
        assert {(clip.dataset, tuple(clip.spaces)) for clip in clips} == {("my own", ())}
        again, _ = self.run(tmp_path, vectors, *words[:2])
        assert (again.exit_code, "another" in again.stderr) == (2, True)  # no series is of two data sets
        odd, _ = self.run(tmp_path, vectors, *words[:2], "--dataset", "a\tb")
        assert (odd.exit_code, len(odd.stderr.splitlines())) == (2, 1)

    def test_what_makes_no_sense(self, tmp_path):
        vectors = write_vectors(tmp_path / "v.npz", [0, 1])
        for words, says in (
            (("--classes", "audioset-baseline"), "has classes of 'audioset'; expected those of 'youtube-8m'"),
            (("--classes", "nothing"), "nothing"),
        ):
            done, _ = self.run(tmp_path, vectors, *words)
            assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1), done.output
            assert says in done.stderr
        done = CliRunner().invoke(gmsa.app, ["montage", "--out", str(tmp_path / "out"), "--classes", "gate-op-bd20"])
        assert done.exit_code == 2
        assert "--classes is of --vectors" in done.stderr


def test_frame_distance_against_its_definition():
    features = np.random.default_rng(5).integers(0, 256, (11, 3)).astype(np.uint8)
    expected = [slow_frame_distance(features, lag) for lag in (1, 4, 10)]
    np.testing.assert_allclose(frame_distance(features, (1, 4, 10)), expected)
    with pytest.raises(ValueError, match="clip of 11 frames"):
        frame_distance(features, (11,))


def test_frame_distance_is_the_same_backwards_and_for_inverted_features():
    features = np.random.default_rng(6).integers(0, 256, (17, 5)).astype(np.uint8)
    np.testing.assert_allclose(frame_distance(features[::-1], (2, 3)), frame_distance(features, (2, 3)))
    np.testing.assert_allclose(frame_distance(255 - features, (2, 3)), frame_distance(features, (2, 3)))


def test_shipped_montages_keep_the_measured_curve():
    """The real video's distances as the data's README states them, so that this runs without the video."""
    measured = {"visual": [44.6, 61.6, 68.0, 74.6], "audio": [36.7, 51.1, 59.4, 70.7]}
    recipe = MontageRecipe(frames=(170, 170))
    made = mean_distances(montages(shipped_statistics(), recipe, 0, 20), (1, 5, 10, 60))
    for modality, expected in measured.items():
        np.testing.assert_allclose(made[modality], expected, rtol=TOLERANCE)


@pytest.mark.shared_data
def test_curve_of_real_vectors_is_within_the_band_at_every_lag():
    if not (SHARED / "yt8m_frame_SjJ3.tfrecord").exists():
        pytest.skip("the real frame-level video is not beside the checkout (../shared/data)")
    real = next(iter(read_clips(str(SHARED / "yt8m_frame_SjJ3.tfrecord"))))
    source = read_video_vectors(SHARED / "yt8m_video_level.npz", "held-out")
    table = distance_table(real, source, MontageRecipe(frames=(170, 170)), videos=10)
    assert list(table["lag"]) == [*range(1, 61)] * 2
    assert table["ratio"].between(1 - TOLERANCE, 1 + TOLERANCE).all()


def test_the_plot_shows_the_numbers_it_was_given():
    modality, lag = ["visual", "visual", "audio", "audio"], [1, 7, 1, 7]
    table = pd.DataFrame({"modality": modality, "lag": lag, "real": [40, 60, 30, 50], "montage": [41, 58, 33, 51]})
    figure = montage_realism.draw(table, tolerance=0.1)
    visual, audio = figure.axes
    np.testing.assert_array_equal(visual.lines[0].get_ydata(), [40, 60])
    np.testing.assert_array_equal(audio.lines[1].get_ydata(), [33, 51])
    assert to_hex(visual.lines[0].get_color()) == montage_realism.REAL_COLOUR
    edges = visual.collections[0].get_paths()[0].vertices[:, 1]
    assert (edges.min(), edges.max()) == pytest.approx((36, 66))
    assert "seconds" in visual.get_xlabel()
    assert "uint8" in visual.get_ylabel()
    with pytest.raises(ValueError, match="lacks columns \\['real'\\]"):
        montage_realism.draw(table.drop(columns="real"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"[" * 60_000, "not the recipe of a series .*recursion"),
        (b"{", "not the recipe of a series"),
        (b"\xff\xfe", "not the recipe of a series"),
        (b"[1]", "it holds list"),
        (b" " * (1 << 21), "2097152 bytes; at most 1048576 are read"),
        (b'{"a\x1b[31m": 1}', "not the recipe of a series"),
        (b'{"a\\u001b[31m": 1}', r"made with another 'a.x1b\[31m', "),
    ],
)
def test_a_damaged_recipe_file_is_named(text, said, tmp_path):
    (tmp_path / "recipe.json").write_bytes(text)
    with pytest.raises(ConfigError, match=rf"recipe\.json: .*{said}.*another directory") as caught:
        write_montages(TINY, MontageRecipe(frames=(20, 31)), 5, 2, tmp_path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "values",
    [
        {"frames": 3},
        {"frames": ["a", "b"]},
        {"events": [1, 2, 3]},
        {"shot_seconds": "long"},
        {"variation": [1]},
        {"variation": {"visual": {"speed": 1}}},
        {"mix": [[]]},
    ],
)
def test_a_recipe_of_other_values_is_refused(values):
    with pytest.raises((ConfigError, KeyError), match=r"recipe|mix"):
        MontageRecipe.from_dict(values)
