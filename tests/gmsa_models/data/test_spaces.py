"""Whose labels and which features a clip has, on its way from a record to a model, a score and a screen."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from references.reading import bytes_feature, int_feature, record, sequence_example
from small_models import VOCABULARY, small_clip, small_model
from typer.testing import CliRunner

from analysis.explanations.scores import explained_labels
from analysis.inspect.clips import inspect_clip
from analysis.interventions.ablation_scores import ablate_clip, ablation_scores, context_means
from analysis.record.files import open_record, save_record
from analysis.study.scores import score_models
from figures.inspector.header import describe_clip
from figures.inspector.records import split_records
from figures.overview import draw
from figures.panels.predictions import foreign_labels, labels_text, top_predictions
from gmsa import app
from gmsa_models import Batch, Clip, Vocabulary, load, read_clips, save, write_clips
from gmsa_models.checkpoints.header import CheckpointError
from gmsa_models.data.catalog.catalog import build_catalog, open_clip
from gmsa_models.data.catalog.table import NEEDED
from gmsa_models.data.clip import ClipError, Segment
from gmsa_models.data.errors import UnfitClipError
from gmsa_models.data.montage.make import demo_clip
from gmsa_models.data.skipped import Skipped
from gmsa_models.data.spaces import RGB, VGGISH, FeatureSpace, published_spaces, same_labels
from gmsa_models.data.tfrecord.examples import decode_clip, encode_clip
from gmsa_models.data.tfrecord.extension import EXTENSION, decode_extension
from gmsa_models.errors import ArgumentError, ContentError
from gmsa_models.evaluation.scoring import evaluate
from gmsa_models.feeding import Inputs, check_fits
from gmsa_models.training.loop import fit
from gmsa_models.training.recipe import Recipe

ID = {"id": bytes_feature(b"v")}
VISUAL = [bytes_feature(bytes(1024))] * 3
AUDIO = [bytes_feature(bytes(128))] * 3
OTHER = FeatureSpace("clip-vit", 12)


def audioset_clip(**changes):
    return small_clip(dataset="audioset", **changes)


# What a record's form tells


@pytest.mark.parametrize(
    ("lists", "dataset", "spaces"),
    [
        ({"rgb": VISUAL, "audio": AUDIO}, "youtube-8m", {"visual": RGB, "audio": VGGISH}),
        ({"audio": AUDIO}, "youtube-8m", {"audio": VGGISH}),
        ({"audio_embedding": AUDIO}, "audioset", {"audio": VGGISH}),
        ({"rgb": [bytes_feature(bytes(512))] * 3}, "", {}),
        ({"rgb": VISUAL, "motion": AUDIO}, "", {}),
        ({"rgb": VISUAL, "audio_embedding": AUDIO}, "", {}),
    ],
)
def test_a_records_form_tells_whose_it_is(lists, dataset, spaces):
    clip = decode_clip(sequence_example(ID | {"labels": int_feature(11)}, lists))
    assert (clip.dataset, clip.spaces) == (dataset, spaces)


def test_a_record_may_say_otherwise():
    own = ID | {EXTENSION: bytes_feature(b'{"version":1,"dataset":"mine"}'), "labels": int_feature(11)}
    clip = decode_clip(sequence_example(own, {"rgb": VISUAL}))
    assert (clip.dataset, clip.labels, clip.frame_seconds, clip.spaces) == ("mine", (11,), 1.0, {"visual": RGB})


def test_an_extension_that_was_read_before_is_read_alike():
    content = b'{"version":1,"dataset":"mine","frame_seconds":2.0}'
    first = decode_extension(content)
    first["dataset"] = "changed"
    assert decode_extension(content) == {"dataset": "mine", "frame_seconds": 2.0}
    for _ in range(2):
        with pytest.raises(ContentError, match="is not JSON"):
            decode_extension(content[:-1])


@pytest.mark.parametrize("dataset", ["", "youtube-8m", "audioset", "mine"])
@pytest.mark.parametrize("spaces", [{}, {"visual": OTHER, "audio": FeatureSpace("own", 8)}])
def test_writing_and_reading_keeps_both(dataset, spaces):
    found = decode_clip(encode_clip(small_clip(dataset=dataset, spaces=spaces)))
    assert (found.dataset, found.spaces) == (dataset, spaces)


def test_what_the_form_tells_needs_no_extension():
    values = {"visual": np.zeros((3, 1024), np.uint8), "audio": np.zeros((3, 128), np.uint8)}
    clip = Clip("v", values, (3,), dataset="youtube-8m", spaces={"visual": RGB, "audio": VGGISH})
    assert EXTENSION.encode() not in encode_clip(clip)
    assert EXTENSION.encode() in encode_clip(replace(clip, dataset="mine"))
    assert EXTENSION.encode() in encode_clip(replace(clip, spaces={}))


def test_demo_clips_are_of_youtube_8m():
    clip = demo_clip(0)
    assert (clip.dataset, clip.spaces) == ("youtube-8m", {"visual": RGB, "audio": VGGISH})
    assert decode_clip(encode_clip(clip)).spaces == clip.spaces


def test_a_clip_refuses_spaces_that_are_not_its_own():
    with pytest.raises(ClipError, match=r"'visual' is 12 wide; its feature space is 'clip-vit' \(13-d\)"):
        small_clip(spaces={"visual": FeatureSpace("clip-vit", 13)})
    with pytest.raises(ClipError, match=r"'motion'.*expected a FeatureSpace for one of"):
        small_clip(spaces={"motion": OTHER})
    with pytest.raises(ClipError, match="dataset is 7; expected a name"):
        small_clip(dataset=7)
    with pytest.raises(ArgumentError, match="called ''"):
        FeatureSpace("", 3)
    with pytest.raises(ArgumentError, match="'own' is 0 wide"):
        FeatureSpace("own", 0)


def test_spaces_by_hand():
    assert published_spaces("youtube-8m", {"visual": 1024, "audio": 64}) == {"visual": RGB}
    assert published_spaces("mine", {"visual": 1024}) == {}
    assert [same_labels("a", other) for other in ("a", "", "b")] == [True, True, False]


HASHES = ("a" * 64, "b" * 64)


def test_what_is_not_said_of_a_space_is_the_others():
    plain, said = FeatureSpace("own", 8), FeatureSpace("own", 8, 2.0, HASHES[0])
    assert plain.is_same(said)
    assert said.is_same(plain)
    assert said.is_same(FeatureSpace("own", 8, 2.0 + 1e-9, HASHES[0]))
    for other in (
        FeatureSpace("own", 9, 2.0, HASHES[0]), FeatureSpace("other", 8, 2.0, HASHES[0]),
        FeatureSpace("own", 8, 1.0, HASHES[0]), FeatureSpace("own", 8, 2.0, HASHES[1]),
    ):  # fmt: skip
        assert not said.is_same(other)
        assert not other.is_same(said)
    assert str(said) == "'own' (8-d, 2 a second, weights aaaaaaaa)"


@pytest.mark.parametrize("values", [{"rate": 0.0}, {"rate": float("nan")}, {"weights": "abc"}])
def test_a_rate_or_hash_that_is_none_is_refused(values):
    with pytest.raises(ArgumentError, match="feature space 'own' has "):
        FeatureSpace("own", 8, **values)


def test_rate_and_weights_travel(tmp_path):
    space = FeatureSpace("clip-vit", 12, 0.5, HASHES[0])
    clip = small_clip(spaces={"visual": space})
    write_clips(tmp_path / "a.tfrecord", [clip])
    build_catalog(tmp_path / "a.tfrecord", tmp_path / "c.parquet")
    assert open_clip(tmp_path / "c.parquet", clip.id).spaces == {"visual": space}
    said = {"visual": {"name": "clip-vit", "width": 12, "rate": 0.5, "weights": HASHES[0]}}
    assert json.loads(pd.read_parquet(tmp_path / "c.parquet").spaces[0]) == said
    assert json.loads(inspect_clip(small_model(), clip).attrs["feature_spaces"]) == said
    model = small_model()
    model.card["feature_spaces"] = said
    save(model, tmp_path / "m.safetensors")
    assert load(tmp_path / "m.safetensors").spaces == {"visual": space}
    check_fits(clip, Inputs.of(model))
    check_fits(small_clip(spaces={"visual": OTHER}), Inputs.of(model))  # of that name, and says no more
    foreign = small_clip(spaces={"visual": replace(space, weights=HASHES[1])})
    with pytest.raises(
        UnfitClipError, match=r"weights bbbbbbbb\), the model takes 'clip-vit' \(12-d, 0\.5 a second, w"
    ):
        check_fits(foreign, Inputs.of(model))


def test_the_times_of_pictures_travel(tmp_path):
    clip = small_clip()
    times = tuple(number - 0.25 for number in range(clip.frames))
    clip = replace(clip, frame_times=times)
    assert decode_clip(encode_clip(clip)).frame_times == times
    assert clip.cut(3).frame_times == times[:3]
    assert json.loads(inspect_clip(small_model(), clip).attrs["frame_times"]) == list(times)
    assert "frame_times" not in inspect_clip(small_model(), small_clip()).attrs
    with pytest.raises(ClipError, match=f"3 frame_times for {clip.frames} frames"):
        replace(clip, frame_times=times[:3])


def test_the_catalogue_says_both(tmp_path):
    write_clips(tmp_path / "a.tfrecord", [small_clip(dataset="mine", spaces={"visual": OTHER}), small_clip(seed=1)])
    build_catalog(tmp_path / "a.tfrecord", tmp_path / "c.parquet")
    table = pd.read_parquet(tmp_path / "c.parquet")
    assert table.dataset.tolist() == ["mine", ""]
    assert [json.loads(each) for each in table.spaces] == [{"visual": {"name": "clip-vit", "width": 12}}, {}]
    assert open_clip(tmp_path / "c.parquet", "clip0").spaces == {"visual": OTHER}


def test_catalogues_of_version_1_still_open(tmp_path):
    write_clips(tmp_path / "a.tfrecord", [small_clip(seed=3)])
    build_catalog(tmp_path / "a.tfrecord", tmp_path / "c.parquet")
    table = pq.read_table(tmp_path / "c.parquet").select(NEEDED)
    pq.write_table(table.replace_schema_metadata({"gmsa_catalog_version": "1"}), tmp_path / "c.parquet")
    assert [clip.id for clip in read_clips(tmp_path / "c.parquet")] == ["clip3"]
    assert open_clip(tmp_path / "c.parquet", "clip3").labels == (11, 404)


# Models


def test_foreign_features_are_refused_by_name():
    model = small_model()
    model.card["feature_spaces"] = {"visual": {"name": "inception", "width": 12}}
    clip = small_clip(spaces={"visual": OTHER})
    message = r"made0.*'visual' lies in the feature space 'clip-vit' \(12-d\), the model takes 'inception' \(12-d\)"
    with pytest.raises(UnfitClipError, match=message):
        check_fits(clip, Inputs.of(model))
    with pytest.raises(UnfitClipError, match=message):
        inspect_clip(model, clip)
    with pytest.raises(UnfitClipError, match=message):
        evaluate(model, [clip])
    check_fits(small_clip(), Inputs.of(model))  # a clip that does not say


def test_a_models_spaces_are_of_its_card_or_its_data_set():
    assert load("baseline").spaces == {"visual": RGB, "audio": VGGISH}
    assert load("audioset-baseline").spaces == {"audio": VGGISH}  # the same VGGish: it may hear a YouTube-8M clip
    check_fits(demo_clip(0), Inputs.of(load("audioset-baseline"), labels=False))
    model = small_model()
    assert model.spaces == {}
    model.card["feature_spaces"] = {"audio": {"name": "own", "width": 8}}
    assert model.spaces == {"audio": FeatureSpace("own", 8)}


def test_a_card_with_impossible_spaces_is_not_saved(tmp_path):
    model = small_model()
    model.card["feature_spaces"] = {"audio": {"name": "own", "width": -8}}
    with pytest.raises(CheckpointError, match="'own' is -8 wide"):
        save(model, tmp_path / "m.safetensors")


def test_foreign_labels_are_refused_where_labels_are_the_point():
    model, clip = small_model(), audioset_clip()
    message = r"made0.*labels are of 'audioset', the model's classes of 'youtube-8m'.*Clip\(dataset='youtube-8m'\)"
    for score in (
        lambda: evaluate(model, [clip]),
        lambda: Batch.from_clips([clip], vocabulary=VOCABULARY),
        lambda: ablation_scores(model, [clip]),
        lambda: score_models({"a": model}, [clip]),
        lambda: list(explained_labels(VOCABULARY, clip)),
    ):
        with pytest.raises(UnfitClipError, match=message):
            score()
    skipped = Skipped()
    scores = evaluate(model, [small_clip(), clip], on_error="skip", on_skip=skipped)
    assert (scores["videos"], dict(skipped.counts)) == (1, {"labels of another data set": 1})


def test_foreign_labels_do_no_harm_where_none_are_needed():
    model, clip = small_model(), audioset_clip()
    same = small_clip()
    np.testing.assert_array_equal(ablate_clip(model, clip)["change"], ablate_clip(model, same)["change"])
    assert context_means(model, [clip]).frames == 13
    check_fits(replace(clip, labels=()), Inputs.of(model))
    np.testing.assert_array_equal(inspect_clip(model, clip)["score"], inspect_clip(model, same)["score"])


def test_labels_that_do_not_say_are_taken_as_the_models():
    assert small_clip().positions(VOCABULARY) == (2,)
    assert small_clip(dataset="youtube-8m").positions(VOCABULARY) == (2,)
    assert audioset_clip().positions(replace(VOCABULARY, dataset="")) == (2,)


def test_the_record_says_that_labels_are_not_compared(tmp_path):
    clip = audioset_clip(spaces={"visual": OTHER})
    record = inspect_clip(small_model(), clip)
    assert {"label", "segment_class"}.isdisjoint(record.data_vars)
    assert list(record["segment_label"].values) == ["", "label 11 of audioset", ""]
    assert (record.attrs["dataset"], json.loads(record.attrs["labels"])) == ("audioset", [11, 404])
    assert json.loads(record.attrs["feature_spaces"]) == {"visual": {"name": "clip-vit", "width": 12}}
    said = "labels are of audioset, the model's classes of youtube-8m: not compared"
    assert foreign_labels(record) == said
    assert labels_text(record) == f"label 11; label 404 ({said})"
    assert not any(each.true for each in top_predictions(record, 5))
    about = describe_clip([record])
    assert (about["foreign"], any(each["true"] for each in about["classes"])) == (said, False)
    assert said in draw(record).get_suptitle()
    again = open_record(save_record(record, tmp_path / "r.nc"))
    assert foreign_labels(again) == said


def test_evidence_of_foreign_segments_is_none():
    model = small_model()
    target = VOCABULARY.find("Food")  # number 11 there, as the clip's label is among others
    measures = ["evidence_auc", "evidence_precision", "pointing"]
    foreign = inspect_clip(model, audioset_clip(), parts=("explanation",), target=target)["faithfulness"]
    known = inspect_clip(model, small_clip(), parts=("explanation",), target=target)["faithfulness"]
    assert np.isnan(foreign.sel(measure=measures)).all()
    assert np.isfinite(known.sel(measure=measures)).all()


def test_models_of_different_data_sets_do_not_share_an_inspector():
    one = small_model()
    other = small_model("baseline")
    other.vocabulary = replace(VOCABULARY, dataset="audioset")
    records = [inspect_clip(model, small_clip()) for model in (one, other)]
    with pytest.raises(
        ArgumentError, match="'small-baseline' has classes of 'audioset', 'small-gate-op' of 'youtube-8m'"
    ):
        split_records(records)


# A user's own data


@pytest.mark.parametrize("columns", ["Index,Name", "index,display_name"])
def test_a_table_of_ones_own_is_of_no_data_set(tmp_path, columns):
    path = tmp_path / "mine.csv"
    path.write_text(f"{columns}\n3,jump\n11,fall\n", encoding="utf-8")
    assert Vocabulary.read_csv(path) == Vocabulary("", (3, 11), ("jump", "fall"))


@pytest.mark.parametrize("columns", ["Index,Name", "index,display_name"])
@pytest.mark.parametrize("lists", [{"rgb": VISUAL, "audio": AUDIO}, {"rgb": [bytes_feature(bytes(12))] * 3}])
def test_ones_own_records_and_table_train_and_evaluate(tmp_path, columns, lists):
    data = b"".join(
        record(sequence_example({"id": bytes_feature(b"v%d" % n), "labels": int_feature(3 + 8 * (n % 2))}, lists))
        for n in range(4)
    )
    (tmp_path / "own.tfrecord").write_bytes(data)
    (tmp_path / "mine.csv").write_text(f"{columns}\n3,jump\n11,fall\n", encoding="utf-8")
    vocabulary = Vocabulary.read_csv(tmp_path / "mine.csv")
    widths = {"visual": 1024, "audio": 128} if len(lists) > 1 else {"visual": 12}
    model = small_model(modalities=tuple(widths), input_widths=widths, classes=2)
    model.vocabulary = vocabulary
    source = str(tmp_path / "own.tfrecord")
    result = fit(model, source, source, Recipe(steps=1, batch_size=2), tmp_path / "run", progress=False)
    assert evaluate(result.model, source)["videos"] == 4
    assert result.model.spaces == ({"visual": RGB, "audio": VGGISH} if len(lists) > 1 else {})


def test_training_refuses_labels_of_another_data_set(tmp_path):
    clips = [audioset_clip(seed=seed) for seed in range(4)]
    with pytest.raises(UnfitClipError, match="'audioset'"):
        fit(small_model(), clips, None, Recipe(steps=1, batch_size=2), tmp_path, progress=False)


@pytest.mark.usefixtures("pages_left_empty")
def test_the_command_line_says_it(tmp_path):
    write_clips(tmp_path / "a.tfrecord", [demo_clip(0).cut(4)])
    run = CliRunner().invoke(app, ["inspect", "demo:3", "--model", "audioset-gate-op", "--out", str(tmp_path)])
    assert "labels are of youtube-8m, the model's classes of audioset: not compared" in " ".join(run.stdout.split())
    assert "✓" not in run.stdout
    run = CliRunner().invoke(app, ["evaluate", "--data", str(tmp_path / "a.tfrecord"), "--model", "audioset-gate-op"])
    assert (run.exit_code, run.stdout) == (2, "")
    assert "its labels are of 'youtube-8m', the model's classes of 'audioset'" in run.stderr


@pytest.mark.usefixtures("pages_left_empty")
class TestSaidOnTheCommandLine:
    """`--dataset`: whose classes the labels count, whatever the file says."""

    @pytest.fixture
    def run(self, tmp_path):
        model = small_model()
        model.vocabulary = replace(VOCABULARY, dataset="my own")
        save(model, tmp_path / "mine.safetensors")
        write_clips(tmp_path / "a.tfrecord", [audioset_clip(seed=seed) for seed in range(2)])

        def run(command, *words):
            given = (
                [str(tmp_path / "a.tfrecord#clip0")] if command == "inspect" else ["--data", f"{tmp_path}/a.tfrecord"]
            )
            given += ["--out", str(tmp_path / "out")] if command == "inspect" else ["--json"]
            return CliRunner().invoke(app, [command, *given, "--model", str(tmp_path / "mine.safetensors"), *words])

        return run

    def test_labels_are_compared_when_they_are_said_to_be_the_models(self, run, tmp_path):
        assert "not compared" in " ".join(run("inspect").stdout.split())
        shown = run("inspect", "--dataset", "my own")
        assert "not compared" not in shown.stdout
        assert "✓" in shown.stdout
        (path,) = (tmp_path / "out").glob("*.nc")
        assert open_record(path).attrs["dataset"] == "my own"
        refused = run("evaluate")
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "take --dataset my own" in refused.stderr
        assert json.loads(run("evaluate", "--dataset", "my own").stdout)["videos"] == 2

    def test_labels_are_not_compared_when_they_are_said_to_be_of_another(self, run):
        assert "not compared" in " ".join(run("inspect", "--dataset", "youtube-8m").stdout.split())
        assert run("evaluate", "--dataset", "youtube-8m").exit_code == 2

    @pytest.mark.parametrize("command", ["inspect", "evaluate"])
    def test_an_unknown_name_lists_the_known(self, run, command, tmp_path):
        done = run(command, "--dataset", "audio-set")
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr == "gmsa: unknown data set 'audio-set'; known: youtube-8m, audioset, my own\n"
        assert not list(tmp_path.glob("out/*"))

    def test_a_saved_record_has_said_it(self, run, tmp_path):
        run("inspect")
        (path,) = (tmp_path / "out").glob("*.nc")
        done = CliRunner().invoke(app, ["inspect", str(path), "--dataset", "audioset"])
        assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)


def test_clips_in_hand_are_said_to_be_of_a_data_set():
    clips = [audioset_clip(seed=seed) for seed in range(2)]
    assert evaluate(small_model(), clips, dataset="youtube-8m")["videos"] == 2
    assert [clip.dataset for clip in clips] == ["audioset"] * 2


def test_segments_of_another_data_set_stay_in_the_clip():
    clip = audioset_clip(segments=(Segment(0, 3, (11,)),))
    assert clip.segments[0].labels == (11,)
    assert inspect_clip(small_model(), clip)["segment_kind"].item() == "event"
