"""Video-level sources: real vectors and their split, statistics fitted to them, the file of these."""

import json

import numpy as np
import pytest
from references.montage import WIDTHS, tiny_vectors
from safetensors.numpy import load_file, save_file

from gmsa_models.data import Vocabulary, dequantize
from gmsa_models.data.montage.class_statistics import SHIPPED, ClassStatistics, shipped_statistics
from gmsa_models.data.montage.fit_class_statistics import LEAST_GROUP, factorise, fit_statistics, main
from gmsa_models.data.montage.make import MontageRecipe, montage
from gmsa_models.data.montage.video_vectors import most_frequent_labels, read_video_vectors, split_of, video_vectors
from gmsa_models.errors import ContentError

TABLE = Vocabulary("youtube-8m", tuple(range(30)), tuple(f"class {label}" for label in range(30)))


def write_npz(path, vectors, drop=()):
    arrays = {
        "id": np.array(vectors.ids, dtype="S5"),
        "mean_rgb": vectors.features["visual"],
        "mean_audio": vectors.features["audio"],
        "labels": vectors.labels.astype(np.uint16),
        "label_offsets": vectors.offsets,
    }
    np.savez(path, **{name: values for name, values in arrays.items() if name not in drop})
    return path


@pytest.fixture(scope="module")
def vectors():
    return tiny_vectors(videos=2003)


@pytest.fixture(scope="module")
def fitted(vectors):
    return fit_statistics(vectors, TABLE, {"source": "made by hand"})


# --- real vectors -----------------------------------------------------------------------------------------------------


def test_most_frequent_labels_break_ties_by_index():
    assert most_frequent_labels(np.array([5, 3, 3, 9, 9, 7]), 3) == (3, 9, 5)
    with pytest.raises(ContentError, match="7 classes asked for, but only 4 labels occur"):
        most_frequent_labels(np.array([5, 3, 9, 7]), 7)


def test_splits_share_no_video_and_lose_none(vectors):
    train, held_out = vectors.split("train"), vectors.split("held-out")
    assert not set(train.ids) & set(held_out.ids)
    assert set(train.ids) | set(held_out.ids) == set(vectors.ids)
    assert 0.05 < len(held_out) / len(vectors) < 0.15
    assert train.kept == held_out.kept == vectors.kept
    np.testing.assert_array_equal(train.between_variance["visual"], held_out.between_variance["visual"])


def test_the_split_depends_on_the_id_alone(vectors):
    reordered = vectors.take(np.arange(len(vectors))[::-1])
    assert set(reordered.split("held-out").ids) == set(vectors.split("held-out").ids)
    assert [split_of(name) for name in ("02aa", "SjJ3", "daa")] == ["train", "train", "held-out"]


def test_rows_keep_their_labels_and_features_through_a_split(vectors):
    held_out = vectors.split("held-out")
    for row in range(0, len(held_out), 17):
        original = int(held_out.ids[row][1:])
        assert held_out.labels_of(row) == vectors.labels_of(original)
        np.testing.assert_array_equal(held_out.features["audio"][row], vectors.features["audio"][original])


def test_events_have_kept_labels_and_backgrounds_none(vectors):
    rng = np.random.default_rng(0)
    for _ in range(100):
        drawn, labels, origin = vectors.sample_event(rng, balance=0.5)
        assert labels
        assert set(labels) <= set(vectors.kept)
        np.testing.assert_array_equal(drawn["visual"], dequantize(vectors.features["visual"][int(origin[1:])]))
        _, labels, origin = vectors.sample_background(rng)
        assert labels == ()
        assert int(origin[1:]) % 7 >= 5


def test_balance_shows_rare_classes():
    features = {"visual": np.zeros((101, 3)), "audio": np.zeros((101, 2))}
    source = video_vectors([str(row) for row in range(101)], features, [(0,)] * 98 + [(1,), (1,), ()], kept=2)
    rng = np.random.default_rng(0)
    rare = [np.mean([source.sample_event(rng, balance)[1] == (1,) for _ in range(2000)]) for balance in (0.0, 1.0)]
    assert rare == pytest.approx([0.02, 0.5], abs=0.04)


def test_between_variance_is_the_variance_over_videos(vectors):
    np.testing.assert_allclose(
        vectors.between_variance["audio"], dequantize(vectors.features["audio"]).var(axis=0), rtol=1e-4
    )


def test_an_npz_reads_back(tmp_path, vectors):
    read = read_video_vectors(write_npz(tmp_path / "means.npz", vectors), kept=5)
    assert set(read.kept) == set(vectors.kept)
    np.testing.assert_array_equal(read.ids, vectors.ids)
    np.testing.assert_array_equal(read.offsets, vectors.offsets)
    np.testing.assert_array_equal(read.features["visual"], vectors.features["visual"])
    assert montage(read, MontageRecipe(), 1, 1).segments == montage(vectors, MontageRecipe(), 1, 1).segments


def test_unusable_vectors_say_why(tmp_path, vectors):
    path = write_npz(tmp_path / "means.npz", vectors, drop={"mean_audio"})
    with pytest.raises(ContentError, match="no array \\['mean_audio'\\]"):
        read_video_vectors(path)
    with pytest.raises(ContentError, match="one row a video"):
        video_vectors(["a"], {"visual": np.zeros((2, 3))}, [(1,)], kept=1)
    with pytest.raises(ContentError, match="id 'a' occurs 2 times"):
        video_vectors(["a", "b", "a"], {"visual": np.zeros((3, 2))}, [(1,), (1,), ()], kept=1)
    with pytest.raises(KeyError, match="unknown split 'test'; known: train, held-out"):
        vectors.split("test")
    with pytest.raises(ContentError, match="at least one with and one without"):
        vectors.take(vectors.labelled)


# --- statistics -------------------------------------------------------------------------------------------------------


def planted(videos=3000):
    """Vectors that are exactly mean + effects of labels + noise of deviation 0.1, and backgrounds of two groups."""
    rng = np.random.default_rng(11)
    effects, mean = rng.normal(0, 0.4, (3, 13)), rng.normal(0, 0.2, 13)
    labels = [tuple(np.flatnonzero(rng.random(3) < 0.5).tolist()) if row % 3 else () for row in range(videos)]
    present = np.array([[place in own for place in range(3)] for own in labels], float)
    values = mean + present @ effects + rng.normal(0, 0.1, (videos, 13))
    features = {"visual": values[:, :11], "audio": values[:, 11:]}
    ids = [str(row) for row in range(videos)]
    return video_vectors(ids, features, labels, kept=[0, 1, 2]), effects, mean


def test_fit_finds_planted_means_and_effects():
    source, effects, mean = planted()
    fitted = fit_statistics(source, TABLE)
    np.testing.assert_allclose(fitted.tensors["event_mean"], mean, atol=0.05)
    np.testing.assert_allclose(fitted.tensors["effects"], effects, atol=0.05)
    assert fitted.tensors["event_strengths"].mean() == pytest.approx(1, abs=0.1)


def test_drawn_videos_have_the_mean_variance_and_labels_of_real_ones():
    source, _, _ = planted()
    fitted = fit_statistics(source, TABLE)
    for sample in ("sample_event", "sample_background"):
        rng = np.random.default_rng(1)
        real, made = ([getattr(one, sample)(rng) for _ in range(3000)] for one in (source, fitted))
        for modality in ("visual", "audio"):
            left, right = (np.stack([vectors[modality] for vectors, _, _ in drawn]) for drawn in (real, made))
            np.testing.assert_allclose(right.mean(axis=0), left.mean(axis=0), atol=0.06)
            np.testing.assert_allclose(right.std(axis=0), left.std(axis=0), rtol=0.15, atol=0.02)
        assert {labels for _, labels, _ in made} == {labels for _, labels, _ in real}


def test_drawn_videos_lie_as_far_from_the_mean_as_real_ones():
    rng = np.random.default_rng(12)
    values = rng.normal(0, 0.3, (3000, 31)) * rng.choice([0.4, 1.0, 2.0], (3000, 1))
    labels = [(0,) if row % 2 else () for row in range(3000)]
    source = video_vectors([str(row) for row in range(3000)], {"visual": values}, labels, kept=[0])
    fitted = fit_statistics(source, TABLE)
    # A background is never nearer than its group's mean, so the nearest of them are not compared.
    for sample, quantiles in (("sample_event", [0.15, 0.5, 0.85]), ("sample_background", [0.5, 0.85])):
        sizes = []
        for one in (source, fitted):
            rng = np.random.default_rng(1)
            sizes.append([np.linalg.norm(getattr(one, sample)(rng)[0]["visual"]) for _ in range(1500)])
        left, right = np.quantile(sizes, quantiles, axis=1).T
        np.testing.assert_allclose(right, left, rtol=0.15)


def test_factors_and_diagonal_give_the_covariance_back():
    rng = np.random.default_rng(2)
    loads = rng.normal(0, 1, (2, 7))
    residual = rng.normal(0, 1, (50_000, 2)) @ loads + rng.normal(0, 0.1, (50_000, 7))
    factors, deviation = factorise(residual, 2)
    np.testing.assert_allclose(
        factors.T @ factors + np.diag(deviation**2), residual.T @ residual / len(residual), atol=0.02
    )


def test_balance_draws_every_class_of_the_statistics(fitted):
    rng = np.random.default_rng(0)
    drawn = [fitted.sample_event(rng, balance=1.0)[1] for _ in range(1000)]
    share = [np.mean([label in labels for labels in drawn]) for label in fitted.classes.indices]
    assert share == pytest.approx([0.2] * 5, abs=0.05)


def test_statistics_survive_their_file(tmp_path, fitted):
    path = tmp_path / "statistics.safetensors"
    fitted.save(path)
    loaded = ClassStatistics.load(path)
    assert (loaded.classes, loaded.variation, loaded.provenance) == (
        fitted.classes,
        fitted.variation,
        fitted.provenance,
    )
    assert loaded.modalities == WIDTHS
    left, right = montage(loaded, MontageRecipe(), 3, 3), montage(fitted, MontageRecipe(), 3, 3)
    assert left.labels == right.labels
    np.testing.assert_array_equal(left.features["visual"], right.features["visual"])


@pytest.fixture
def stored(tmp_path, fitted):
    path = tmp_path / "statistics.safetensors"
    fitted.save(path)

    def rewrite(tensors=None, **metadata):
        from safetensors import safe_open

        with safe_open(path, framework="numpy") as file:
            kept = dict(file.metadata())
        arrays = load_file(path) if tensors is None else tensors(load_file(path))
        save_file(arrays, path, kept | metadata)
        return path

    return rewrite


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "recipes"}, "format is 'recipes'"),
        ({"format_version": "2"}, "format version 2; this software reads version 1"),
        ({"format_version": "two"}, "format version"),
        ({"modalities": json.dumps({"visual": 12, "audio": 7})}, "has shape"),
        ({"names": "[]"}, "names"),
        ({"variation": "no json"}, "statistics.safetensors: "),
        ({"tensors": lambda arrays: {k: v for k, v in arrays.items() if k != "effects"}}, r"missing: \['effects'\]"),
        ({"tensors": lambda arrays: arrays | {"extra": np.zeros(3)}}, r"unknown: \['extra'\]"),
        ({"tensors": lambda arrays: arrays | {"effects": arrays["effects"] * np.nan}}, "not finite"),
        ({"tensors": lambda arrays: arrays | {"label_set_sizes": arrays["label_set_sizes"] * 2}}, "label sets of"),
        ({"tensors": lambda arrays: arrays | {"label_set_positions": arrays["label_set_positions"] + 1}}, "class 5"),
    ],
)
def test_a_file_that_does_not_fit_says_what(stored, change, message):
    path = stored(**change)
    with pytest.raises(ContentError, match=message):
        ClassStatistics.load(path)


def test_truncated_missing_and_foreign_files(tmp_path, fitted):
    path = tmp_path / "statistics.safetensors"
    fitted.save(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ContentError, match="damaged, or not a safetensors file"):
        ClassStatistics.load(path)
    with pytest.raises(FileNotFoundError, match="absent"):
        ClassStatistics.load(tmp_path / "absent")


def test_fit_refuses_what_it_cannot_use(vectors):
    strange = video_vectors(["a", "b"], {"smell": np.zeros((2, 3))}, [(1,), ()], kept=1)
    with pytest.raises(ContentError, match="no frame variation is known of \\['smell'\\]"):
        fit_statistics(strange, TABLE)
    small = video_vectors(["a", "b"], {"visual": np.zeros((2, 3))}, [(1,), ()], kept=1)
    with pytest.raises(ContentError, match="expected two of each"):
        fit_statistics(small, TABLE)


def test_the_command_writes_a_file(tmp_path, vectors, capsys):
    npz = write_npz(tmp_path / "means.npz", vectors)
    rows = "\n".join(f"{label},class {label}" for label in range(30))
    (tmp_path / "vocabulary.csv").write_text(f"Index,Name\n{rows}\n")
    out = tmp_path / "made" / "statistics.safetensors"
    arguments = ["--vectors", npz, "--vocabulary", tmp_path / "vocabulary.csv", "--out", out, "--classes", "5"]
    main([str(argument) for argument in arguments])
    assert "5 classes" in capsys.readouterr().out
    assert len(ClassStatistics.load(out).provenance["sha256"]) == 64


# --- the shipped file -------------------------------------------------------------------------------------------------


def test_the_shipped_file_is_small_and_says_where_it_comes_from():
    statistics = shipped_statistics()
    assert SHIPPED.stat().st_size < 3e6
    assert statistics.modalities == {"visual": 1024, "audio": 128}
    assert len(statistics.classes) == 300
    assert statistics.classes.name(statistics.classes.indices[0]) == "Game"
    assert statistics.provenance["licence"].startswith("CC BY 4.0")
    assert statistics.provenance["split"] == "train"
    assert len(statistics.provenance["sha256"]) == 64


def test_every_shipped_background_group_averages_many_videos():
    statistics = shipped_statistics()
    backgrounds = int(statistics.provenance["videos"]) - int(statistics.provenance["events"])
    assert (statistics.tensors["background_weights"].astype(float) * backgrounds).min() >= LEAST_GROUP - 0.5
