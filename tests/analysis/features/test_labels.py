"""Labels of videos: from the names of folders, from a table, or none."""

import pytest

from analysis.features.labels import VideoLabel, read_labels
from gmsa_models.errors import ArgumentError


@pytest.fixture
def videos(tmp_path):
    paths = []
    for name in ("cat/one.mp4", "cat/two.mp4", "dog/one.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        paths.append(tmp_path / name)
    return paths


def table(videos, text):
    path = videos[0].parents[1] / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_none_and_the_names_of_folders(videos):
    assert read_labels("none", videos) == dict.fromkeys(videos, ())
    assert [each[0].name for each in read_labels("folders", videos).values()] == ["cat", "cat", "dog"]


def test_a_relative_path_lies_in_a_folder_too(videos, monkeypatch):
    monkeypatch.chdir(videos[0].parent)
    assert read_labels("folders", [type(videos[0])("one.mp4")]) == {type(videos[0])("one.mp4"): (VideoLabel("cat"),)}


def test_a_table_names_videos_from_its_folder_or_the_working_directory(videos, monkeypatch):
    monkeypatch.chdir(videos[2].parent)
    source = table(videos, f"\ufeffpath,label,start,end\ncat/one.mp4,jump,1,2.5\n{videos[1]},fall,,\ncat/one.mp4,fall\n"
                   "one.mp4,\"sit, down\",0,3\nnone.mp4,jump,,\n")  # fmt: skip
    lines = []
    assert read_labels(source, videos, lines.append) == {
        videos[0]: (VideoLabel("jump", (1.0, 2.5)), VideoLabel("fall")),
        videos[1]: (VideoLabel("fall"),),
        videos[2]: (VideoLabel("sit, down", (0.0, 3.0)),),
    }
    (line,) = lines
    assert "1 of its 5 rows are of none of the videos and are left out; the first is line 6, of 'none.mp4'" in line
    read_labels(table(videos, "path,label\ncat/one.mp4,a\n"), videos, lines.append)
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,label\na,b\n", r"columns \['name', 'label'\]; expected path, label and, if wanted, start, end"),
        ("path,label,start,end\ncat/one.mp4,a,2,1\n", r"line 2: start is '2', end '1'; expected seconds"),
        ("path,label,start,end\ncat/one.mp4,a,0,nan\n", "line 2: start is '0', end 'nan'"),
        ("path,label,start,end\ncat/one.mp4,a,1,\n", "line 2: start is '1', end ''"),
        ("path,label,start,end\ncat/one.mp4,a,-1,4\n", "line 2: start is '-1'"),
        ("path,label\ncat/one.mp4,\n", "line 2: label is ''; expected 1 to 200 characters"),
        ("path,label\ncat/one.mp4,a\x1bb\n", "line 2: label is "),
        ("path,label\n,a\n", "line 2: path is ''"),
        ("path,label\n", "the table has no rows"),
        ("path,label\nhere.mp4,a\n", r"none of its 1 rows is of one of the 3 videos; its first is of .*here\.mp4"),
    ],
)
def test_a_table_that_cannot_be_is_refused(videos, text, message):
    with pytest.raises(ArgumentError, match=message):
        read_labels(table(videos, text), videos)


def test_a_file_that_is_no_table_is_refused(videos):
    with pytest.raises(FileNotFoundError, match="expected none, folders, or a table of labels"):
        read_labels("folder", videos)
    path = videos[0].parent / "t.csv"
    path.write_bytes(b"path,label\n\xff\xfe,a\n")
    with pytest.raises(ArgumentError, match=r"t\.csv: not a table of text"):
        read_labels(str(path), videos)
