"""Sweeps that grow: each video counts once whatever the sources are called, and what is finished stays."""

import hashlib
import os
from pathlib import Path

import duckdb
import pytest
from small_models import small_clip
from sweep_shards import as_earlier_version, write_models

from analysis.errors import SweepError
from analysis.sweep import SweepSettings, failed_shards, read_sweep, run_sweep, sweep_contents
from analysis.sweep.notes import planned_parts
from analysis.sweep.places import part_name
from analysis.sweep.store import UncheckedWarning, finished_parts, warn_unchecked
from gmsa_models import read_clips, write_clips
from gmsa_models.data.lock import locked
from gmsa_models.errors import OutputError

SCORES = SweepSettings(("scores",))


@pytest.fixture
def model(tmp_path):
    """A small model's file, in a list."""
    return write_models(tmp_path, ("none",))


def shard(folder: Path, seed: int, clips: int = 2, name: str = "s.tfrecord") -> str:
    """A shard of its own content."""
    folder.mkdir(exist_ok=True)
    write_clips(folder / name, [small_clip(5 + at, seed + at) for at in range(clips)])
    return str(folder / name)


def videos(out: Path) -> list[str]:
    """What the sweep has, a name a row."""
    return read_sweep(out)["video"].tolist()


def ids(*shards: str) -> list[str]:
    return [clip.id for one in shards for clip in read_clips(one)]


class TestGrowing:
    def test_a_shard_of_the_same_name_is_another(self, tmp_path, model):
        one, two = shard(tmp_path / "A", 0), shard(tmp_path / "B", 50)
        run_sweep(model, [one], tmp_path / "out", SCORES)
        both = run_sweep(model, [one, two], tmp_path / "out", SCORES)
        assert (both.unchanged, len(both.done)) == (1, 1)
        assert sorted(videos(tmp_path / "out")) == sorted(ids(one, two))
        assert read_sweep(tmp_path / "out")["shard"].unique().tolist() == ["B/s.tfrecord", "s.tfrecord"]

    def test_a_folder_may_be_told_from_here(self, tmp_path, model, monkeypatch):
        monkeypatch.chdir(tmp_path)
        one = shard(tmp_path / "A", 0)
        run_sweep(model, [one], "out", SCORES)
        assert run_sweep(model, [one], "out", SCORES).unchanged == 1

    def test_one_after_the_other_replaces_nothing(self, tmp_path, model):
        one, two = shard(tmp_path / "A", 0), shard(tmp_path / "B", 50)
        for each in (one, two, one):
            run_sweep(model, [each], tmp_path / "out", SCORES)
        assert sorted(videos(tmp_path / "out")) == sorted(ids(one, two))
        assert run_sweep(model, [two, one], tmp_path / "out", SCORES).unchanged == 2

    def test_longer_spans_of_demo_videos(self, tmp_path):
        names = [clip.id for clip in read_clips("demo:0-6")]
        for span, done in (("demo:2-4", 2), ("demo:0-5", 3), ("demo:1-3", 0), ("demo:0-6", 1)):
            assert run_sweep(["control"], [span], tmp_path, SCORES).videos == done
        assert sorted(videos(tmp_path)) == names
        with pytest.raises(SweepError, match="both hold demo video 3, named twice"):
            run_sweep(["control"], ["demo:0-4", "demo:3-8"], tmp_path / "other", SCORES)

    def test_a_shard_that_was_moved_or_renamed_is_known_again(self, tmp_path, model):
        one, two = shard(tmp_path / "A", 0), shard(tmp_path / "B", 50)
        run_sweep(model, [one, two], tmp_path / "out", SCORES)
        (tmp_path / "A").rename(tmp_path / "C")
        (tmp_path / "B").rename(tmp_path / "A")
        moved = [str(tmp_path / "A" / "s.tfrecord"), str(tmp_path / "C" / "s.tfrecord")]
        assert run_sweep(model, moved, tmp_path / "out", SCORES).unchanged == 2

    def test_a_shard_that_changed_takes_its_own_place(self, tmp_path, model):
        one, two = shard(tmp_path / "A", 0), shard(tmp_path / "B", 50)
        run_sweep(model, [one, two], tmp_path / "out", SCORES)
        shard(tmp_path / "B", 90, clips=3)
        run_sweep(model, [two], tmp_path / "out", SCORES)
        assert sorted(videos(tmp_path / "out")) == sorted(ids(one, two))

    def test_copies_would_count_twice(self, tmp_path, model):
        one, two = shard(tmp_path / "A", 0), shard(tmp_path / "B", 0)
        with pytest.raises(SweepError, match=r"A/s\.tfrecord and .*B/s\.tfrecord are of the same bytes"):
            run_sweep(model, [one, two], tmp_path / "out", SCORES)

    def test_what_is_to_come_is_counted_once(self, tmp_path, model):
        one, two = shard(tmp_path / "A", 0), shard(tmp_path / "B", 50)
        run_sweep(model, [one], tmp_path / "out", SCORES)
        (part,) = finished_parts(tmp_path / "out")
        part.unlink()  # as if it had been stopped before
        run_sweep(model, [two, one], tmp_path / "out", SCORES)
        assert sorted(planned_parts(tmp_path / "out")) == ["A--s.parquet", "B--s.parquet"]
        assert sweep_contents(tmp_path / "out").shortfall == ""


class TestEarlierVersions:
    @pytest.fixture
    def earlier(self, tmp_path, model):
        """Two shards and the sweep of them as an earlier version left it."""
        one, two = shard(tmp_path / "A", 0), shard(tmp_path / "A", 50, name="t.tfrecord")
        run_sweep(model, [one, two], tmp_path / "out", SCORES)
        for part in finished_parts(tmp_path / "out"):
            as_earlier_version(part)
        (tmp_path / "out" / "shards.txt").write_text("s.parquet\nt.parquet\n")
        warn_unchecked.cache_clear()
        return one, two

    def test_they_open_and_go_on_and_say_once_that_they_are_unchecked(self, tmp_path, model, earlier):
        three = shard(tmp_path / "B", 90)
        assert run_sweep(model, [*earlier, three], tmp_path / "out", SCORES).unchanged == 2
        with pytest.warns(UncheckedWarning, match="have no checksums"):
            table = read_sweep(tmp_path / "out")
        read_sweep(tmp_path / "out")  # warnings are errors here
        assert sorted(table["video"]) == sorted(ids(*earlier, three))
        assert set(table["model_sha256"]) == {hashlib.sha256(Path(model[0]).read_bytes()).hexdigest()}

    def test_a_shard_that_may_be_another_is_refused_and_made_again_when_asked(self, tmp_path, model, earlier):
        other = shard(tmp_path / "B", 90)
        with pytest.raises(
            SweepError, match=r"s\.parquet is of a shard called 's\.tfrecord' with other bytes than .*B/s"
        ):
            run_sweep(model, [other], tmp_path / "out", SCORES)
        assert len(run_sweep(model, [other], tmp_path / "out", SCORES, again=True).done) == 1

    def test_stopped_ones_go_on(self, tmp_path, model, earlier):
        (tmp_path / "out" / "t.parquet").unlink()
        result = run_sweep(model, [*earlier, shard(tmp_path / "B", 90, name="t.tfrecord")], tmp_path / "out", SCORES)
        assert (result.unchanged, len(result.done)) == (1, 2)
        assert sweep_contents(tmp_path / "out").shortfall == ""

    def test_two_tables_of_the_same_videos_are_not_one_sweep(self, tmp_path, model, earlier):
        (tmp_path / "out" / "A--s.parquet").write_bytes((tmp_path / "out" / "s.parquet").read_bytes())
        for act in (lambda: read_sweep(tmp_path / "out"), lambda: run_sweep(model, earlier, tmp_path / "out", SCORES)):
            with pytest.raises(SweepError, match=r"A--s\.parquet and s\.parquet are of the same bytes"):
                act()


class TestChanging:
    def test_a_shard_that_is_replaced_while_it_is_read(self, tmp_path, model, monkeypatch):
        one, two = shard(tmp_path / "A", 0), shard(tmp_path / "A", 50, name="t.tfrecord")
        seen = []

        def replacing(clips, widths, handler):
            for clip in clips:
                if clip.id in names and not seen:
                    seen.append(shard(tmp_path / "A", 90, name="t.tfrecord"))
                yield clip

        names = ids(two)
        monkeypatch.setattr("analysis.sweep.work.fitting", replacing)
        result = run_sweep(model, [one, two], tmp_path / "out", SCORES)
        assert [outcome.kind for outcome in result.failed] == ["changed"]
        assert "its bytes have changed since the sweep began; run it again" in result.failed[0].reason
        assert videos(tmp_path / "out") == ids(one)
        assert run_sweep(model, [one, two], tmp_path / "out", SCORES).good
        assert sorted(videos(tmp_path / "out")) == sorted(ids(one, two))

    def test_a_shard_that_cannot_be_read_for_a_moment_keeps_its_table(self, tmp_path, model):
        one, two = shard(tmp_path / "A", 0), shard(tmp_path / "B", 50)
        run_sweep(model, [one, two], tmp_path / "out", SCORES)
        os.rename(two, f"{two}.away")
        Path(two).mkdir()  # a mount that is gone looks like this
        result = run_sweep(model, [one, two], tmp_path / "out", SCORES)
        assert result.failed[0].reason.endswith("; its table of an earlier run is kept")
        assert failed_shards(tmp_path / "out")["reason"].iloc[0].endswith("its table of an earlier run is kept")
        assert sorted(videos(tmp_path / "out")) == sorted(ids(one) + ids(f"{two}.away"))
        Path(two).rmdir()
        os.rename(f"{two}.away", two)
        assert run_sweep(model, [one, two], tmp_path / "out", SCORES).unchanged == 2
        assert failed_shards(tmp_path / "out").empty

    def test_a_table_made_otherwise_goes_aside(self, tmp_path, model):
        one, two = shard(tmp_path / "A", 0), shard(tmp_path / "B", 50)
        run_sweep(model, [one, two], tmp_path / "out", SCORES)
        Path(two).write_text("not a record, but long enough for a header")
        result = run_sweep(model, [one, two], tmp_path / "out", SweepSettings(("gates",)), again=True)
        assert "made otherwise, is kept in" in result.failed[0].reason
        assert (tmp_path / "out" / "failed" / "B--s.parquet").is_file()
        assert videos(tmp_path / "out") == ids(one)


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            os.fsdecode(b"caf\xe9.tfrecord"), "n" * 240 + ".tfrecord", "ü" * 120 + ".tfrecord", "a b;c'd\"e.tfrecord",
            "\x1b[31mred.tfrecord", "-.tfrecord", "demo:0-5", ".tfrecord",
        ],
    )  # fmt: skip
    def test_a_shard_may_have_any_name_that_a_file_can_have(self, tmp_path, model, name):
        (tmp_path / "A").mkdir()
        plain = shard(tmp_path / "A", 0)
        os.rename(plain, tmp_path / "A" / name)
        result = run_sweep(model, [str(tmp_path / "A" / "*")] if name[0] != "." else [str(tmp_path / "A" / name)],
                           tmp_path / "out", SCORES)  # fmt: skip
        assert (result.good, result.videos) == (True, 2), [one.reason for one in result.failed]
        (part,) = finished_parts(tmp_path / "out")
        assert len(part.name.encode()) <= 170
        assert part.name.isprintable()
        assert duckdb.sql(f"select count(*) from '{tmp_path / 'out'}/*.parquet'").fetchall() == [(2,)]
        assert len(read_sweep(tmp_path / "out")) == 2
        Path(tmp_path / "A" / name).write_bytes(b"not a record, but long enough for a header")
        run_sweep(model, [str(tmp_path / "A" / name)], tmp_path / "out", SCORES)
        assert len(failed_shards(tmp_path / "out")) == 1

    def test_different_names_have_different_files(self):
        names = ["a/b", "a?b", "a\\b", "n" * 200, "n" * 201, "é", "e\u0301", "a b", "a.", "x.tfrecord.tfrecord", "~"]
        assert len({part_name(name) for name in names}) == len(names)
        assert part_name("A/s.tfrecord") == "A--s.parquet"
        assert part_name("demo:0-64") == "demo-0-64.parquet"

    def test_names_that_come_to_one_file_are_told_apart(self, tmp_path, model):
        one, two = shard(tmp_path / "a", 0), shard(tmp_path / "a--x", 50)
        deep = shard(tmp_path, 70, name="a--s.tfrecord")
        assert run_sweep(model, [one, two, deep], tmp_path / "out", SCORES).videos == 6
        assert len(finished_parts(tmp_path / "out")) == 3
        run_sweep(model, [one], tmp_path / "more", SCORES)
        run_sweep(model, [shard(tmp_path / "b", 90, name="S.tfrecord")], tmp_path / "more", SCORES)
        assert len({path.name.casefold() for path in finished_parts(tmp_path / "more")}) == 2


class TestOneAtATime:
    def test_the_second_is_refused(self, tmp_path, model):
        one = shard(tmp_path / "A", 0)
        with locked(tmp_path / "out", "a sweep"), pytest.raises(OutputError, match="in use by a sweep"):
            run_sweep(model, [one], tmp_path / "out", SCORES)
        assert run_sweep(model, [one], tmp_path / "out", SCORES).good

    def test_what_killed_sweeps_left_behind_goes_and_nothing_else(self, tmp_path, model):
        one = shard(tmp_path / "A", 0)
        ours = [".s.parquet.0123abcd.tmp", "failed/.s.json.0123abcd.tmp", ".shards.txt.0123abcd.tmp"]
        others = [".s.parquet.tmp", "mine.tmp", ".notes.md.0123abcd.tmp", ".s.parquet.0123abcX.tmp"]
        (tmp_path / "out" / "failed").mkdir(parents=True)
        for name in (*ours, *others):
            (tmp_path / "out" / name).write_text("x")
        run_sweep(model, [one], tmp_path / "out", SCORES)
        left = [name for name in (*ours, *others) if (tmp_path / "out" / name).exists()]
        assert left == others
