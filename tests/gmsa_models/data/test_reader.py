"""The Reader protocol: a format of a few lines opens everywhere; how demo videos are named."""

import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from small_models import small_clip

from gmsa_models.data.catalog.catalog import build_catalog, open_clip, read_catalog
from gmsa_models.data.clip import Clip
from gmsa_models.data.demo_videos import demo_videos, parse_demo
from gmsa_models.data.errors import NOT_GIVEN, ClipFileError, UnreadableError
from gmsa_models.data.fingerprint import fingerprint_source
from gmsa_models.data.formats import FORMATS, open_clips
from gmsa_models.data.reader import ClipEntry, ClipFile, Place
from gmsa_models.data.shuffle import count_clips, shuffled_clips
from gmsa_models.data.sources import read_clips
from gmsa_models.data.tfrecord.errors import TFRecordError
from gmsa_models.data.tfrecord.files import write_clips
from gmsa_models.errors import ArgumentError, UnknownNameError


class Lines:
    """A clip a line: `id, label, [[value, ...], ...]` as JSON."""

    memory = 0

    def __init__(self, path, verify=True):
        self.path, self.size = Path(path), Path(path).stat().st_size
        self.lines, self.clips_read = self.path.read_text().splitlines(), 0

    def places(self):
        return (Place(number, number, 1) for number in range(len(self.lines)))

    def place(self, offset, number=0):
        return Place(number, offset, 1)

    def clip(self, place):
        self.clips_read += 1
        try:
            identity, label, frames = json.loads(self.lines[place.offset])
        except ValueError:
            raise self.error(place, "is not JSON", "line") from None
        return Clip(identity, {"visual": np.array(frames, np.float32)}, (label,), source=f"{self.path}#{identity}")

    def entry(self, place):
        clip = self.clip(place)
        return ClipEntry(clip.id, clip.frames, clip.labels)

    def may_be(self, place, identity):
        return identity in self.lines[place.offset]

    def checksum(self, place):
        return zlib.crc32(self.lines[place.offset].encode())

    def error(self, place, reason, kind):
        return ClipFileError(self.path, reason, place.number, place.offset, kind)

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.close()


@pytest.fixture
def lines(tmp_path, monkeypatch):
    """A file of three clips in a format that the package does not have."""
    monkeypatch.setitem(FORMATS, ".lines", lambda path, verify: Lines(path, verify))
    path = tmp_path / "made.lines"
    rows = [[f"v{number}", number, [[number, 0.5]] * (number + 2)] for number in range(3)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def ids(clips):
    return [clip.id for clip in clips]


def test_a_format_of_a_few_lines_opens_everywhere(lines, tmp_path):
    assert isinstance(open_clips(lines), ClipFile)
    assert ids(read_clips(lines)) == ["v0", "v1", "v2"]
    assert next(read_clips(f"{lines}#v2")).frames == 4
    assert sorted(ids(shuffled_clips(lines, 0, 0))) == ["v0", "v1", "v2"]
    assert count_clips(lines) == 3
    summary = build_catalog(lines, tmp_path / "all.parquet")
    assert summary.records == 3
    assert open_clip(summary.path, "v1").labels == (1,)
    assert ids(read_catalog(summary.path)) == ["v0", "v1", "v2"]
    assert ids(shuffled_clips(summary.path, 7, 0)) == ids(shuffled_clips(lines, 7, 0))
    assert fingerprint_source(summary.path) == fingerprint_source(lines)


def test_formats_mix_in_one_source(lines, tmp_path):
    clips = list(read_clips(lines))
    records = tmp_path / "made.tfrecord"
    write_clips(records, [Clip("r0", dict(clips[0].features))])
    assert sorted(ids(shuffled_clips([lines, records], 0, 0))) == ["r0", "v0", "v1", "v2"]
    summary = build_catalog([lines, records], tmp_path / "all.parquet")
    assert open_clip(summary.path, "r0").features["visual"].tolist() == clips[0].features["visual"].tolist()


def test_the_fingerprint_is_of_what_is_in_the_clips(lines):
    before = fingerprint_source(lines)
    lines.write_text(lines.read_text().replace("0.5", "0.4"))
    assert fingerprint_source(lines) != before


def test_errors_are_the_formats_own_and_are_skipped(lines):
    lines.write_text(lines.read_text().replace('["v1"', "{v1"))
    with pytest.raises(ClipFileError, match=r"made\.lines, clip 1: is not JSON"):
        list(read_clips(lines))
    errors = []
    assert ids(read_clips(lines, on_error="skip", on_skip=errors.append)) == ["v0", "v2"]
    assert [error.kind for error in errors] == ["line"]
    with pytest.raises(UnknownNameError, match="no clip 'v9' among the 3 records"):
        list(read_clips(f"{lines}#v9"))


def test_a_second_clip_of_an_id_is_refused_in_any_format(lines):
    lines.write_text(lines.read_text().replace('"v2"', '"v0"'))
    with pytest.raises(ClipFileError, match="has the id 'v0', as record 0 has"):
        list(read_clips(lines))


def test_files_that_hold_much_memory_are_closed_before_the_next_is_opened(lines, tmp_path, monkeypatch):
    opened, closed = [], []

    class Heavy(Lines):
        memory = 3

        def __init__(self, path, verify=True):
            super().__init__(path, verify)
            opened.append(self)

        def close(self):
            closed.append(self)

    monkeypatch.setitem(FORMATS, ".lines", Heavy)
    monkeypatch.setattr("gmsa_models.data.shuffle._MOST_MEMORY", 2)
    for name in ("b", "c"):
        (tmp_path / f"{name}.lines").write_text(lines.read_text().replace('"v', f'"{name}'))
    before = 0
    for _ in shuffled_clips(str(tmp_path / "*.lines"), 0, 0):
        opened_now = len(set(map(id, opened))) - len(set(map(id, closed)))
        before = max(before, opened_now)
    assert before == 1


def test_errors_of_tfrecords_are_those_of_files_of_clips(tmp_path):
    assert issubclass(TFRecordError, ClipFileError)
    assert issubclass(ClipFileError, UnreadableError)
    assert TFRecordError(tmp_path, "x", kind=NOT_GIVEN).kind == "file not given by the system"


def test_demo_videos_are_named_in_one_way():
    assert demo_videos("demo:3") == range(3, 4)
    assert demo_videos("demo:0-8") == range(8)
    assert parse_demo("demo:600-700") == range(600, 700)
    for text, expected in (
        ("demo:x", "is not a demo video; expected 'demo:3', or 'demo:0-8' for 0 to 7"),
        ("demo:1-", "is not a demo video"),
        ("demo:-1", "is not a demo video"),
        ("demo:5-5", "demo videos are demo:0 to demo:511"),
        ("demo:511-513", "demo videos are demo:0 to demo:511"),
    ):
        with pytest.raises(ArgumentError, match=expected):
            demo_videos(text)


def test_clips_are_read_and_written_without_torch(tmp_path):
    write_clips(tmp_path / "a.tfrecord", [small_clip(5)])
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from gmsa_models import read_clips, write_clips\n"
        "from gmsa_models.data.catalog.catalog import build_catalog\n"
        "from gmsa_models.data.montage.shards import write_montages\n"
        "clips = list(read_clips(sys.argv[1])) + list(read_clips('demo:3'))\n"
        "write_clips(sys.argv[2], clips)\n"
        "print(len(list(read_clips(sys.argv[2]))), clips[0].floats('visual').shape)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.tfrecord"), str(tmp_path / "b.tfrecord")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("2 (5, 12)", "")
