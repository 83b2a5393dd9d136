"""Folders of features: what is made, what is kept, what is made again; and the command."""

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("av", reason="PyAV, of the extra video, is not installed")

from made_videos import tone, write_video
from small_models import small_model

from analysis.explanations.ground_truth import label_evidence
from analysis.features import folder as module
from analysis.features.folder import ExtractorNames, cached_clip, write_features
from analysis.features.labels import VideoLabel
from analysis.features.video_files import clip_ids
from analysis.inspect.video_features import stored_pictures
from gmsa import app
from gmsa_models import read_clips, save, write_clips
from gmsa_models.data.clip import Segment
from gmsa_models.data.errors import ClipFileError
from gmsa_models.data.feature_folder import folder_classes, folder_files, write_classes
from gmsa_models.data.lock import locked
from gmsa_models.data.spaces import spaces_to_dict
from gmsa_models.data.video.decode import VideoFile
from gmsa_models.data.video.thumbnails import read_thumbnails, video_thumbnails
from gmsa_models.errors import ArgumentError, OutputError
from tests.gmsa.test_inspect_media import header

SOUND = ExtractorNames("", "log-mel")


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def videos(tmp_path):
    paths = []
    for name, seconds, sound in (("dog/a.mkv", 3, (0.0, tone(2.0))), ("cat/b.mkv", 2, None), ("cat/a.mkv", 4, None)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        paths.append(write_video(tmp_path / name, range(seconds), sound))
    return paths


@pytest.fixture
def made(monkeypatch):
    """Videos whose features were made, in order."""
    calls, original = [], module.video_clip
    monkeypatch.setattr(module, "video_clip", lambda path, *a, **k: calls.append(path) or original(path, *a, **k))
    return calls


def clips(folder):
    return {clip.id: clip for clip in read_clips(folder)}


def test_a_file_a_video(tmp_path, videos):
    labels = {videos[0]: (VideoLabel("x", (0.5, 2.0)), VideoLabel("b")), videos[1]: (VideoLabel("b"),)}
    summary = write_features(videos, tmp_path / "f", SOUND, labels, dataset="mine")
    assert (summary.made, summary.kept, summary.frames, summary.silent, summary.unlabelled) == (3, 0, 9, 2, 1)
    assert summary.classes == folder_classes(tmp_path / "f") == ("b", "x")
    result = clips(tmp_path / "f")
    assert {name: clip.frames for name, clip in result.items()} == {"dog/a": 3, "b": 2, "cat/a": 4}
    assert (result["dog/a"].labels, result["b"].labels, result["cat/a"].labels) == ((0, 1), (0,), ())
    assert result["dog/a"].segments == (Segment(0.5, 2.0, (1,)),)
    assert {clip.dataset for clip in result.values()} == {"mine"}
    assert result["b"].spaces == SOUND.spaces()
    assert len(folder_files(tmp_path / "f")) == 3


def test_what_lies_between_labelled_seconds_is_background(tmp_path, videos):
    labels = {videos[2]: (VideoLabel("x", (1.0, 2.0)), VideoLabel("y", (1.5, 3.0)), VideoLabel("x", (3.5, 4.0)))}
    for _ in range(2):
        write_features(videos[2:], tmp_path / "f", SOUND, labels)
        (clip,) = read_clips(tmp_path / "f")
        events = (Segment(1.0, 2.0, (0,)), Segment(1.5, 3.0, (1,)), Segment(3.5, 4.0, (0,)))
        gaps = (Segment(0.0, 1.0, kind="background"), Segment(3.0, 3.5, kind="background"))
        assert clip.segments == (*events, *gaps)
    assert label_evidence(clip, 1).shows.tolist() == [False, False, True, False]
    assert label_evidence(clip, 1).known.all()


def test_what_is_there_is_kept(tmp_path, videos, made):
    write_features(videos[:2], tmp_path / "f", SOUND)
    before = {path.name: path.stat().st_mtime_ns for path in folder_files(tmp_path / "f")}
    summary = write_features(videos[:2], tmp_path / "f", SOUND)
    assert (summary.made, summary.kept, summary.frames, made) == (0, 2, 5, videos[:2])
    assert {path.name: path.stat().st_mtime_ns for path in folder_files(tmp_path / "f")} == before


def test_new_labels_are_written_without_making_features_again(tmp_path, videos, made):
    write_features(videos[:2], tmp_path / "f", SOUND, {videos[0]: (VideoLabel("n"),), videos[1]: (VideoLabel("m"),)})
    write_features(videos[:2], tmp_path / "f", SOUND, {videos[0]: (VideoLabel("a"),)})
    assert folder_classes(tmp_path / "f") == ("m", "n", "a")  # those that were there keep their place
    assert {name: clip.labels for name, clip in clips(tmp_path / "f").items()} == {"a": (2,), "b": ()}
    assert made == videos[:2]


def test_a_video_that_changed_is_made_again_and_its_old_file_goes(tmp_path, videos, made):
    write_features(videos[:1], tmp_path / "f", SOUND)
    write_video(videos[0], range(6), (0.0, tone(1.0)))
    write_features(videos[:1], tmp_path / "f", SOUND)
    assert {name: clip.frames for name, clip in clips(tmp_path / "f").items()} == {"a": 6}
    assert made == videos[:1] * 2


def test_a_video_of_the_same_name_that_takes_the_place_of_another_is_named(tmp_path, videos):
    def features(video):
        return run("features", video, "--out", tmp_path / "f", "--visual", "none")

    assert "took the place" not in features(videos[0]).output + features(videos[0]).output
    assert "a: features of another content took the place of those that were there" in features(videos[2]).output
    assert len(list(tmp_path.glob("f/*.tfrecord"))) == 1


def test_other_extractors_or_a_damaged_file_make_features_again(tmp_path, videos, made):
    write_features(videos[:1], tmp_path / "f", SOUND)
    write_features(videos[:1], tmp_path / "f", ExtractorNames("", "log-mel", rate=2.0))
    (path,) = folder_files(tmp_path / "f")
    assert clips(tmp_path / "f")["a"].frames == 5
    path.write_bytes(path.read_bytes()[:-9])
    write_features(videos[:1], tmp_path / "f", ExtractorNames("", "log-mel", rate=2.0))
    assert clips(tmp_path / "f")["a"].frames == 5
    assert made == videos[:1] * 3


def test_processes_make_the_same_files(tmp_path, videos):
    write_features(videos, tmp_path / "one", SOUND)
    steps = []
    write_features(videos, tmp_path / "two", SOUND, processes=2, progress=lambda *step: steps.append(step))
    one, two = (folder_files(tmp_path / name) for name in ("one", "two"))
    assert [path.name for path in one] == [path.name for path in two]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_bad_video_is_one_error_or_left_out(tmp_path, videos, processes):
    (tmp_path / "bad.mp4").write_text("no video")
    given = [videos[1], tmp_path / "bad.mp4", videos[0]]
    with pytest.raises(ClipFileError, match=r"bad\.mp4: is not a video"):
        write_features(given, tmp_path / "f", SOUND, processes=processes)
    errors = []
    summary = write_features(given, tmp_path / "f", SOUND, processes=processes, on_error="skip", on_skip=errors.append)
    assert summary.made + summary.kept == 2
    (error,) = errors
    assert error.path == tmp_path / "bad.mp4"


def test_a_folder_is_no_video(tmp_path, videos):
    with pytest.raises(ClipFileError, match="cat: cannot be read: Is a directory"):
        write_features([tmp_path / "cat"], tmp_path / "f", SOUND)


def test_names_that_no_clip_can_have_are_one_error(tmp_path, videos):
    odd = videos[0].rename(videos[0].with_name("a\x1b[1m.mkv"))
    with pytest.raises(ClipFileError, match="its name has control characters"):
        write_features([odd], tmp_path / "f", SOUND)
    errors = []
    assert write_features([odd, videos[1]], tmp_path / "f", SOUND, on_error="skip", on_skip=errors.append).made == 1
    assert [error.kind for error in errors] == ["name"]
    with pytest.raises(ArgumentError, match=r"expected a name of at most 100 plain characters: .*--dataset"):
        write_features([videos[1]], tmp_path / "f", SOUND, dataset="d" * 101)


def test_what_a_killed_run_left_behind_is_removed(tmp_path, videos):
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / ".a@0123456789ab.tfrecord.01234567.tmp").write_bytes(b"half")
    write_features(videos[:1], folder, SOUND)
    (path,) = folder_files(folder)
    assert {each.name for each in folder.iterdir()} == {path.name, path.with_suffix(".webp").name}


def test_one_run_at_a_time(tmp_path, videos):
    with locked(tmp_path / "f", "features"), pytest.raises(OutputError, match="in use by features"):
        write_features(videos[:1], tmp_path / "f", SOUND)


def test_thumbnails_are_the_pictures_of_the_frames(tmp_path, videos, made):
    write_features(videos[:1], tmp_path / "f", SOUND, thumbnails=False)
    assert not list(tmp_path.glob("f/*.webp"))
    write_features(videos[:1], tmp_path / "f", SOUND)
    assert made == videos[:1] * 2
    (path,) = tmp_path.glob("f/*.webp")
    assert read_thumbnails(path, 3) == video_thumbnails(videos[0], [0.0, 1.0, 2.0])
    assert read_thumbnails(path, 31) is None
    path.write_bytes(b"none")
    assert read_thumbnails(path, 3) is None
    assert read_thumbnails(tmp_path / "none.webp", 3) is None
    write_video(videos[0], range(5))
    write_features(videos[:1], tmp_path / "f", SOUND)
    (path,) = tmp_path.glob("f/*.webp")
    assert read_thumbnails(path, 5) == video_thumbnails(videos[0], [0.0, 1.0, 2.0, 3.0, 4.0])


def test_ids_tell_videos_apart(tmp_path):
    paths = [tmp_path / name for name in ("x/a/1.mp4", "y/a/1.mp4", "y/b/1.mp4", "y/b/2.mp4", "y/b/2.mkv")]
    assert list(clip_ids(paths).values()) == ["x/a/1", "y/a/1", "b/1", "2.mp4", "2.mkv"]
    with pytest.raises(ArgumentError, match=r"1\.mp4 is given twice"):
        clip_ids([paths[0], paths[0].parent / "../a/1.mp4"])


def test_a_clip_is_cached_by_the_content_of_its_video(tmp_path, videos, made):
    first, sheet = cached_clip(videos[0], tmp_path / "f", SOUND)
    moved = videos[0].rename(tmp_path / "a.mkv")
    again, kept = cached_clip(moved, tmp_path / "f", SOUND)
    np.testing.assert_array_equal(first.features["audio"], again.features["audio"])
    assert kept == sheet
    assert (made, again.source, again.frame_times) == (videos[:1], str(moved), first.frame_times)
    renamed = moved.rename(tmp_path / "c.mkv")
    again, kept = cached_clip(renamed, tmp_path / "f", SOUND)
    assert (made, again.id, again.source, kept) == (videos[:1], "c", str(renamed), sheet)


def test_features_without_shots_get_them_and_are_not_made_again(tmp_path, videos, made):
    write_features(videos, tmp_path / "f", SOUND, {videos[0]: (VideoLabel("x"),)}, dataset="mine")
    before = clips(tmp_path / "f")
    assert {clip.shots for clip in before.values()} == {(0.0,)}
    for path in folder_files(tmp_path / "f"):  # as an earlier version wrote them
        write_clips(path, [replace(clip, shots=()) for clip in read_clips(path)])
    del made[:]
    summary = write_features(videos, tmp_path / "f", SOUND, {videos[0]: (VideoLabel("x"),)}, dataset="mine")
    assert (summary.made, summary.kept, made, summary.replaced) == (0, 3, [], ())
    after = clips(tmp_path / "f")
    for name, clip in before.items():
        assert (after[name].shots, after[name].labels) == ((0.0,), clip.labels)
        np.testing.assert_array_equal(after[name].features["audio"], clip.features["audio"])


def test_the_cache_adds_shots_too(tmp_path, videos, made):
    clip, sheet = cached_clip(videos[0], tmp_path / "f", SOUND)
    (path,) = folder_files(tmp_path / "f")
    write_clips(path, [replace(clip, shots=())])
    again, kept = cached_clip(videos[0], tmp_path / "f", SOUND)
    assert (again.shots, kept, made) == ((0.0,), sheet, videos[:1])
    assert next(read_clips(path)).shots == (0.0,)


def test_the_cache_keeps_videos_of_one_name_apart(tmp_path, videos, made):
    for _ in range(2):
        lengths = [cached_clip(video, tmp_path / "f", SOUND)[0].frames for video in (videos[0], videos[2])]
        assert lengths == [3, 4]
    assert made == [videos[0], videos[2]]


def test_the_cache_makes_features_again_by_other_extractors(tmp_path, videos, made):
    cached_clip(videos[0], tmp_path / "f", SOUND)
    assert cached_clip(videos[0], tmp_path / "f", ExtractorNames("", "log-mel", rate=2.0))[0].frames == 5
    assert made == videos[:1] * 2


def test_copies_of_one_video_are_named(tmp_path, videos):
    copy = videos[0].with_name("copy.mkv")
    copy.write_bytes(videos[0].read_bytes())
    assert write_features(videos[:2], tmp_path / "f", SOUND).copies == ()
    assert write_features([copy], tmp_path / "f", SOUND).copies == (("a", "copy"),)  # one of them lay there
    summary = write_features([*videos, copy], tmp_path / "g", SOUND, processes=2)
    assert summary.copies == (("copy", "dog/a"),)


def test_labels_beyond_the_end_are_cut_or_refused(tmp_path, videos):
    labels = {videos[2]: (VideoLabel("x", (1.0, 9.0)),), videos[0]: (VideoLabel("x", (1.0, 3.0)),)}
    for _ in range(2):  # of features that are made, and of those that are kept
        summary = write_features([videos[0], videos[2]], tmp_path / "f", SOUND, labels)
        assert summary.cut == ("cat/a",)
        clip = clips(tmp_path / "f")["cat/a"]
        assert clip.segments == (Segment(1.0, 4.0, (0,)), Segment(0.0, 1.0, kind="background"))
    with pytest.raises(ClipFileError, match=r"b\.mkv: a label is of seconds 2 to 3, and the video ends at 2"):
        write_features(videos[1:2], tmp_path / "f", SOUND, {videos[1]: (VideoLabel("x", (2.0, 3.0)),)})


def test_a_table_of_classes_that_is_not_ours_is_refused(tmp_path):
    (tmp_path / "classes.csv").write_text("index,display_name\n3,a\n")
    with pytest.raises(ArgumentError, match=r"classes\.csv: indices \(3,\); expected 0, 1, 2"):
        write_classes(tmp_path, ["b"])


class TestCommand:
    def test_labels_of_folders(self, tmp_path, videos):
        done = run("features", tmp_path / "*/*.mkv", "--out", tmp_path / "f", "--visual", "none", "--labels", "folders")
        assert done.exit_code == 0, done.output
        assert done.stdout == f"wrote {tmp_path / 'f'}: 3 videos, 9 frames, 2 classes\n"
        assert "2 of the videos have no sound: silence was heard" in done.stderr
        assert {clip.dataset for clip in read_clips(tmp_path / "f")} == {"f"}
        done = run("features", tmp_path / "*/*.mkv", "--out", tmp_path / "f", "--visual", "none", "--labels", "folders")
        assert "3 videos (3 were there), 9 frames" in done.stdout

    def test_what_was_left_out_is_said(self, tmp_path, videos):
        (tmp_path / "cat" / "c.mp4").write_text("no video")
        words = ["features", tmp_path / "cat/*", "--out", tmp_path / "f", "--visual", "none"]
        done = run(*words)
        assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
        assert "c.mp4: is not a video" in done.stderr
        done = run(*words, "--on-error", "skip")
        assert done.exit_code == 0
        assert "left out 1 that cannot be read or used" in done.stderr
        assert "c.mp4: is not a video" in done.stderr

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--visual", "none", "--audio", "none"], "there would be no features"),
            (["--visual", "resnet"], "unknown extractor 'resnet'; --visual knows: efficientnet-lite0"),
            (["--visual", "none", "--audio", "yamnet"], "give --audio yamnet=PATH"),
            (["--visual", "none", "--labels", "x.csv"], "no file 'x.csv'; expected none, folders, or a table"),
            (["--visual", "none", "--rate", "0"], "--rate is 0; expected more than 0"),
            (["--visual", "none", "--rate", "100"], "choose a lower rate"),
        ],
    )
    def test_what_cannot_be_is_one_line(self, tmp_path, videos, words, message):
        done = run("features", videos[0], "--out", tmp_path / "f", *words)
        assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
        assert message in done.stderr
        assert not list(tmp_path.glob("f/*.tfrecord"))

    def test_no_such_video(self, tmp_path, videos):
        for missing, message in (("*.mp4", "no file matches"), ("none.mp4", "no file ")):
            words = ["features", tmp_path / missing, "--out", tmp_path / "f", "--visual", "none"]
            done = run(*words)
            assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
            assert message in done.stderr
            done = run(*words, "--on-error", "skip")  # nothing is left
            assert done.exit_code == 2
            assert "no file at all" in done.stderr
            done = run(*words, videos[1], "--on-error", "skip")
            assert done.exit_code == 0, done.stderr
            assert f"{missing}: names no file" in done.stderr
            assert "1 videos" in done.stdout

    def test_a_folder_is_refused_with_the_globs_of_its_videos(self, tmp_path, videos):
        def error(folder, *words):
            return run("features", folder, "--out", tmp_path / "f", "--visual", "none", *words).stderr

        assert f"is a folder, not a video; give '{tmp_path}/*/*.mkv'" in error(tmp_path)
        assert f"give '{tmp_path}/cat/*.mkv'" in error(tmp_path / "cat")
        (tmp_path / "empty").mkdir()
        assert "a glob of them: no video lies in it" in error(tmp_path / "empty")
        assert "left out 1 " in error(tmp_path / "cat", videos[0], "--on-error", "skip")

    def test_what_was_done_with_labels_and_copies_is_said(self, tmp_path, videos):
        (tmp_path / "dog" / "copy.mkv").write_bytes(videos[0].read_bytes())
        (tmp_path / "l.csv").write_text("path,label,start,end\ncat/b.mkv,x,1,5\nnone.mkv,x,,\nother.mkv,x,,\n")
        done = run("features", tmp_path / "*/*.mkv", "--out", tmp_path / "f", "--visual", "none", "--labels",
                   tmp_path / "l.csv")  # fmt: skip
        assert done.exit_code == 0, done.stderr
        assert "b: a label reaches beyond the end of the video" in done.stderr
        assert "copy, dog/a: one video, byte for byte" in done.stderr
        assert "l.csv: 2 of its 3 rows are of none of the videos and are left out; the first is line 3" in done.stderr


def test_a_small_copy_lies_beside_the_features_and_goes_with_them(tmp_path, videos, made):
    write_features(videos, tmp_path / "f", SOUND)
    assert not list(tmp_path.glob("f/*.webm"))
    write_features(videos, tmp_path / "f", SOUND, proxy=True)  # features are kept
    assert len(made) == 3
    copies = sorted(tmp_path.glob("f/*.webm"))
    assert [path.stem for path in copies] == sorted(path.stem for path in tmp_path.glob("f/*.tfrecord"))
    source = next(clip.source for clip in read_clips(tmp_path / "f") if clip.id == "dog/a")
    thumbnails, copy = stored_pictures(source)
    assert (thumbnails.frames, copy.has_sound, copy.first) == (3, True, 0.0)
    assert copy.last == pytest.approx(VideoFile(videos[0]).duration, abs=0.2)
    copies[0].write_text("no video")
    assert stored_pictures(f"{copies[0].with_suffix('.tfrecord')}#x")[1] is None
    write_video(videos[0], range(5))
    write_features(videos, tmp_path / "f", SOUND, proxy=True)
    assert len(list(tmp_path.glob("f/*.webm"))) == 3
    assert stored_pictures("clips.tfrecord#a") == stored_pictures("demo:3") == (None, None)


@pytest.mark.usefixtures("pages_left_empty")
def test_gmsa_inspect_shows_what_lies_beside_the_features(tmp_path, videos):
    write_features(videos[:1], tmp_path / "f", SOUND, proxy=True)
    model = small_model(modalities=("audio",), input_widths={"audio": 128})
    model.card["feature_spaces"] = spaces_to_dict(SOUND.spaces())
    save(model, tmp_path / "m.safetensors")
    out = tmp_path / "out"
    result = run("inspect", tmp_path / "f", "--model", tmp_path / "m.safetensors", "--out", out, "--html")
    assert result.exit_code == 0, result.output
    (page,) = out.glob("*.html")
    assert {"thumbnails", "proxy"} <= set(header(page)["clip"])
    run("inspect", tmp_path / "f", "--model", tmp_path / "m.safetensors", "--out", out, "--html", "--media", "none")
    assert not {"thumbnails", "proxy"} & set(header(page)["clip"])


def test_features_stay_where_a_copy_cannot_be_made(tmp_path, videos, monkeypatch):
    def fails(*arguments, **options):
        raise ArgumentError("no copy fits")

    monkeypatch.setattr(module, "video_proxy", fails)
    with pytest.raises(ArgumentError, match="no copy fits"):
        write_features(videos[:1], tmp_path / "f", SOUND, proxy=True)
    assert [clip.frames for clip in read_clips(tmp_path / "f")] == [3]
