import pytest

from gmsa_models.data.vocabulary import Vocabulary
from gmsa_models.errors import ArgumentError

TOY = Vocabulary("toy", (7, 3, 11), ("seven", "three", "eleven"))


def write(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "vocabulary.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def test_positions_and_names():
    assert len(TOY) == 3
    assert TOY.positions((3, 99, 7)) == (1, 0)
    assert TOY.name(11) == "eleven"
    assert TOY.name(99) == "label 99"


def test_keep_orders_as_asked():
    kept = TOY.keep(label for label in (11, 7))
    assert kept == Vocabulary("toy", (11, 7), ("eleven", "seven"))
    with pytest.raises(KeyError, match=r"\[4\] are not among the 3 classes of toy"):
        TOY.keep((4,))


def test_parts_must_fit():
    with pytest.raises(ArgumentError, match="2 label indices but 1 names"):
        Vocabulary("toy", (1, 2), ("one",))
    with pytest.raises(ArgumentError, match="unique"):
        Vocabulary("toy", (1, 1), ("one", "one"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_read_both_tables(tmp_path, encoding):
    path = write(tmp_path, 'Index,TrainVideoCount,Name\n0,5,Game\n4,2,"Café, bar"\n9,1,\n', encoding)
    assert Vocabulary.read_csv(path) == Vocabulary("youtube-8m", (0, 4, 9), ("Game", "Café, bar", "label 9"))
    path = write(tmp_path, 'index,mid,display_name\n0,/m/09x0r,"Speech"\n', encoding)
    assert Vocabulary.read_csv(path) == Vocabulary("audioset", (0,), ("Speech",))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a,b\n1,2\n", "columns.*expected one of youtube-8m: Index, Name; audioset"),
        ("", "columns"),
        ("Index,Name\n", "no rows"),
        ("Index,Name\n0,a\nx,b\n", "line 3: Index is 'x'"),
        ("Index,Name\n-1,a\n", "line 2: Index is '-1'"),
        ("Index,Name\n\u00b2,a\n", "line 2: Index is"),
        ("Index,Name\n0,a\n0,b\n", "line 3: Index 0 comes twice"),
        (b"Index,Name\n0,\xff\n", "not a table of text"),
        (b"Index,Name\n0," + b"a" * 200_000, "not a table of text"),
    ],
)
def test_bad_tables_name_file_and_line(tmp_path, text, part):
    with pytest.raises(ArgumentError, match=rf"vocabulary\.csv.*{part}"):
        Vocabulary.read_csv(write(tmp_path, text))


@pytest.mark.shared_data
def test_real_tables(shared_data):
    youtube = Vocabulary.read_csv(shared_data / "yt8m_vocabulary.csv")
    audioset = Vocabulary.read_csv(shared_data / "audioset" / "class_labels_indices.csv")
    assert (len(youtube), len(audioset)) == (3862, 527)
    assert youtube.name(11) == "Food"
    assert audioset.name(0) == "Speech"
