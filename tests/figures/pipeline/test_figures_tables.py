"""Numbers beside figures: saved, read again, compared bit for bit."""

import hashlib
import inspect
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from paper_tables import tiny_claims, tiny_curves, tiny_record

import figures
from figures.pipeline.catalogue import ITEMS
from figures.pipeline.table_files import differences, load_tables, save_tables
from gmsa_models.errors import DamagedError

TABLES = {"record": tiny_record(), "curves": tiny_curves(), "claims": tiny_claims()}


def test_tables_come_back_bit_for_bit(tmp_path):
    back = load_tables(save_tables(tmp_path / "new" / "a.npz", TABLES))
    assert differences(TABLES, back) == []
    for name, table in TABLES.items():
        xr.testing.assert_identical(back[name].drop_attrs(), table.drop_attrs())
        assert back[name].attrs.keys() == table.attrs.keys()


def test_the_same_tables_give_the_same_bytes(tmp_path):
    one, two = (save_tables(tmp_path / name, TABLES).read_bytes() for name in ("a.npz", "b.npz"))
    assert hashlib.sha256(one).hexdigest() == hashlib.sha256(two).hexdigest()


def test_text_as_objects_is_saved_without_pickle(tmp_path):
    table = xr.Dataset({"word": ("x", np.array(["a", "bcd"], dtype=object))})
    back = load_tables(save_tables(tmp_path / "a.npz", {"table": table}))["table"]
    assert back["word"].values.tolist() == ["a", "bcd"]
    assert back["word"].dtype.kind == "U"


def test_one_changed_bit_is_a_difference():
    changed = tiny_record()
    changed["attention"].values[0, 0, 1, 2, 3] = np.nextafter(changed["attention"].values[0, 0, 1, 2, 3], 1.0)
    (line,) = differences({"record": tiny_record()}, {"record": changed})
    assert line.startswith("record/attention: 1 of 1210 values differ, by at most ")


def test_within_the_tolerance_is_no_difference_and_beyond_it_is():
    saved, near, far = (tiny_curves() for _ in range(3))
    largest = float(abs(saved["shared"]).max())
    near["shared"].values[1, 2] += 0.9e-4 * largest
    far["shared"].values[1, 2] += 1.1e-4 * largest
    assert differences({"a": saved}, {"a": near}, 1e-4) == []
    (line,) = differences({"a": saved}, {"a": near})
    assert "9e-05 of the largest value" in line
    (line,) = differences({"a": saved}, {"a": far}, 1e-4)
    assert "0.00011 of the largest value" in line
    assert differences({"a": saved.assign_attrs(x=1.0)}, {"a": saved.assign_attrs(x=1.00005)}, 1e-4) == []
    assert differences({"a": saved.assign_attrs(x=1.0)}, {"a": saved.assign_attrs(x=1.0002)}, 1e-4)
    near["shared"].values[0, 0] = np.nan
    assert differences({"a": saved}, {"a": near}, 1e-4)
    whole = tiny_curves().assign(count=("x", np.array([10**6])))
    assert differences({"a": whole}, {"a": whole.assign(count=("x", np.array([10**6 + 1])))}, 1e-4)


def half_record() -> xr.Dataset:
    record = tiny_record()
    return record[["attention"]].assign(attention=record["attention"].astype(np.float16))


def test_neighbours_of_half_precision_are_alike_within_a_tolerance():
    """A weight of 0.3 on the edge between two float16 falls to one or the other, by a rounding of 1e-8."""
    saved, near, far = (half_record() for _ in range(3))
    for record, steps in ((near, 1), (far, 2)):
        values = record["attention"].values
        values[0, 0, 1, 2, 3] = saved["attention"].values[0, 0, 1, 2, 3] = 0.3
        for _ in range(steps):
            values[0, 0, 1, 2, 3] = np.nextafter(values[0, 0, 1, 2, 3], np.float16(1))
    assert differences({"a": saved}, {"a": near}, 1e-4) == []
    (line,) = differences({"a": saved}, {"a": near})
    assert line.endswith(", neighbours in float16")
    (line,) = differences({"a": saved}, {"a": far}, 1e-4)
    assert "neighbours" not in line


def test_a_number_that_went_missing_is_a_difference():
    changed = tiny_curves()
    changed["shared"].values[1, 2] = np.nan
    (line,) = differences({"a": tiny_curves()}, {"a": changed})
    assert line.startswith("a/shared: 1 of 33 values differ")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("tolerance", [0.0, 1e-4])
def test_infinite_largest_and_missing_numbers_are_compared_without_a_warning(dtype, tolerance):
    largest = np.finfo(dtype).max
    saved, near, far, missing = (
        {"a": xr.Dataset({"x": ("n", np.array([value, 1.0], dtype))})}
        for value in (largest, np.nextafter(largest, dtype(0)), np.inf, np.nan)
    )
    assert bool(differences(saved, near, tolerance)) == (tolerance == 0.0)
    assert differences(saved, far, tolerance)
    (line,) = differences(saved, missing, tolerance)
    assert line.endswith(", 1 of them NaN in one of the two")


def test_shapes_types_texts_attributes_and_missing_parts_are_differences():
    one = tiny_curves()
    assert differences({"a": one}, {}) == ["a: only in one of the two"]
    assert "own: only in one" in differences({"a": one}, {"a": one.drop_vars("own")})[0]
    assert "float64, now float32" in differences({"a": one}, {"a": one.assign(shared=one["shared"].astype("f4"))})[0]
    assert "texts differ" in differences({"a": one}, {"a": one.assign_coords(kind=("model", ["x", "y", "z"]))})[0]
    assert "attribute videos: 13, now 17" in differences({"a": one}, {"a": one.assign_attrs(videos=17)})[0]
    assert any("'frame': 7" in line for line in differences({"a": one}, {"a": one.isel(frame=slice(7))}))
    # A transposed map has the same values elsewhere, and is told by its dimensions.
    turned = tiny_record().transpose(..., "key", "query")
    assert any(line.startswith("a/attention: ") for line in differences({"a": tiny_record()}, {"a": turned}))


def test_timings_are_not_compared():
    one, two = xr.Dataset({"time": ("x", [1.0])}), xr.Dataset({"time": ("x", [2.0])})
    assert differences({"a": one}, {"a": two})
    one["time"].attrs["not_compared"] = "a timing"
    assert differences({"a": one}, {"a": two}) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"not a zip", "not a file of tables"), (b"", "not a file of tables")],
)
def test_what_is_no_file_of_tables_is_refused(tmp_path, content, message):
    path = tmp_path / "a.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DamagedError, match=message):
        load_tables(path)


def test_an_npz_of_something_else_and_a_later_version_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", values=np.zeros(3))
    with pytest.raises(DamagedError, match="not a file of tables"):
        load_tables(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", tables=np.array('{"version": 99, "tables": {}}'))
    with pytest.raises(DamagedError, match="format version 99"):
        load_tables(tmp_path / "b.npz")


def test_a_damaged_file_is_refused_or_says_the_same(tmp_path):
    whole = save_tables(tmp_path / "a.npz", TABLES).read_bytes()
    generator, damaged, refused = np.random.default_rng(0), tmp_path / "b.npz", []
    for trial in range(200):
        content = bytearray(whole)
        if trial % 2:
            content[generator.integers(len(whole))] ^= 1 << generator.integers(8)
        else:
            del content[generator.integers(len(whole)) :]
        damaged.write_bytes(content)
        try:
            assert differences(TABLES, load_tables(damaged)) == []
        except DamagedError as error:
            refused.append(str(error))
    assert len(refused) > 120
    assert all(str(damaged) in each for each in refused)


@pytest.mark.parametrize("item", ITEMS, ids=[item.name for item in ITEMS])
def test_committed_numbers_go_by_the_names_that_their_figure_takes(item):
    tables = load_tables(Path(figures.__file__).parent / "rendered" / f"{item.name}.npz")
    inspect.signature(item.draw).bind(**tables, width=3.0)
