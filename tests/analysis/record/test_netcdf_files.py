"""NetCDF-4 by h5py beside xarray's own engine: the same file, the same record, whichever wrote and whichever read."""

import h5py
import numpy as np
import pytest
import xarray as xr
from small_models import small_clip, small_model

from analysis import combine_models, inspect_clip
from analysis.record.files import open_record, save_record
from analysis.record.netcdf_files import read_netcdf, write_netcdf


def by_xarray(path):
    """What the engine of xarray reads."""
    with xr.open_dataset(path, engine="h5netcdf", decode_times=False) as opened:
        return opened.load()


def written_by_xarray(record, path):
    packed = {name: {"zlib": True, "complevel": 1} for name, value in record.items() if value.dtype.kind == "f"}
    record.to_netcdf(path, engine="h5netcdf", encoding=packed)
    return path


def no_xarray(monkeypatch):
    """What is plain must not take the long way."""
    monkeypatch.setattr(xr, "open_dataset", None)
    monkeypatch.setattr(xr.Dataset, "to_netcdf", None)


def of_one_model(**changes):
    return inspect_clip(small_model("gate-op", **changes), small_clip(7))


def of_several_layers():
    return inspect_clip(small_model("gate-op", layers=2), small_clip(7), layers="all", parts=["attention", "profile"])


def of_two_models():
    return combine_models([inspect_clip(small_model(kind), small_clip(7)) for kind in ("gate-op", "none")])


def odd_but_plain():
    """Kinds of values and attributes that no record has by itself."""
    texts = np.array([["", "Pokémon"], ["\N{GRINNING FACE}", "x" * 1000]])
    return xr.Dataset(
        {
            "texts": (("row", "column"), texts, {"long_name": "Größe", "empty": ""}),
            "halves": ("row", np.array([np.nan, 2], np.float16)),
            "doubles": (("column", "row"), np.array([[np.inf, -0.0], [np.nan, 1e300]]), {"factors": np.arange(3.0)}),
            "large": ("row", np.array([0, 2**64 - 1], np.uint64), {"one": np.uint8(3)}),
            "truth": (("row", "column"), np.array([[True, False], [False, True]])),
            "number": ((), np.float32(0.1)),
            "undrawn": (("other", "row"), np.zeros((3, 2), np.int8)),
        },
        {"row": [3, 1], "name": ("row", ["a", "b"]), "place": (("row", "column"), texts), "moment": 7.5},
        {"number": 3, "fraction": 0.5, "several": np.array([1, 2]), "text": "a\nb", "none": ""},
    )


MADE = {
    "one model": of_one_model,
    "several layers": of_several_layers,
    "two models": of_two_models,
    "odd but plain": odd_but_plain,
}


def same(one, other):
    xr.testing.assert_identical(one, other)
    assert list(one.data_vars) == list(other.data_vars)
    for name, variable in one.variables.items():
        assert variable.dtype == other[name].dtype, name
        assert types(variable.attrs) == types(other[name].attrs), name
    assert types(one.attrs) == types(other.attrs)


def types(attributes):
    return {name: (type(value), getattr(value, "dtype", None)) for name, value in attributes.items()}


@pytest.mark.parametrize("kind", MADE)
def test_either_way_writes_and_reads_the_same(kind, tmp_path, monkeypatch):
    record = MADE[kind]()
    theirs = written_by_xarray(record, tmp_path / "theirs.nc")
    with monkeypatch.context() as patch:
        no_xarray(patch)
        write_netcdf(record, tmp_path / "ours.nc")
        read = {path: read_netcdf(path) for path in (theirs, tmp_path / "ours.nc")}
    for path, ours in read.items():
        same(ours, by_xarray(path))
        xr.testing.assert_identical(ours, record)


def objects(path):
    """What is in a file, object by object, but for references and the libraries' versions."""
    with h5py.File(path) as file:
        result = {}
        for name, made in [("/", file), *file.items()]:
            attributes = {
                key: (made.attrs.get_id(key).dtype.kind, np.asarray(value).tolist())
                for key, value in made.attrs.items()
                if key not in ("DIMENSION_LIST", "REFERENCE_LIST", "_NCProperties", "_Netcdf4Dimid")
            }
            used = [[scale.name for scale in dim.values()] for dim in made.dims] if name != "/" else []
            users = {(file[each].name, int(axis)) for each, axis in made.attrs.get("REFERENCE_LIST", [])}
            about = (made.dtype, made.shape, made.chunks, made.compression_opts) if name != "/" else ()
            result[name] = (about, attributes, used, users)
        return result


@pytest.mark.parametrize("kind", MADE)
def test_the_file_is_of_the_same_objects(kind, tmp_path):
    record = MADE[kind]()
    write_netcdf(record, tmp_path / "ours.nc")
    theirs, ours = objects(written_by_xarray(record, tmp_path / "theirs.nc")), objects(tmp_path / "ours.nc")
    for name, (about, attributes, used, users) in theirs.items():
        assert ours[name][0] == about, name
        coordinates = attributes.pop("_Netcdf4Coordinates", None)  # numbers of dimensions, in whichever order
        assert len(ours[name][1].pop("_Netcdf4Coordinates", (0, []))[1]) == len((coordinates or (0, []))[1])
        assert repr(sorted(ours[name][1].items())) == repr(sorted(attributes.items())), name
        assert ours[name][2:] == (used, users), name
    assert theirs.keys() == ours.keys()


def test_what_was_packed_is_packed_again_by_xarray(tmp_path):
    opened = open_record(save_record(of_one_model(), tmp_path / "record.nc"))
    opened.to_netcdf(tmp_path / "again.nc", engine="h5netcdf")
    with h5py.File(tmp_path / "again.nc") as file:
        assert (file["attention"].compression, file["attention"].compression_opts) == ("gzip", 1)
        assert file["head"].compression is None


# What xarray writes or reads


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.assign(nothing=("never", np.zeros(0, "f4"))),  # a dimension without length
        lambda r: r.assign(day=("day", np.array(["2020-01-01", "2020-01-03"], "datetime64[ns]"))),
        lambda r: r.assign_attrs(names=["a", "b"]),
        lambda r: r.assign_attrs(number=1j),
        lambda r: r.assign(head=(("branch", "head"), np.zeros((2, 4)))),  # named as a dimension, and not along it alone
    ],
    ids=["empty", "dates", "list", "complex", "unlike its dimension"],
)
def test_what_is_not_plain_is_written_by_xarray(change, tmp_path):
    changed = change(of_one_model().drop_vars("head"))
    write_netcdf(changed, tmp_path / "ours.nc")
    theirs = written_by_xarray(changed, tmp_path / "theirs.nc")
    assert objects(tmp_path / "ours.nc").keys() == objects(theirs).keys()
    same(read_netcdf(tmp_path / "ours.nc"), by_xarray(theirs))


@pytest.mark.parametrize("attribute", [{"x": None}, {"x": {"y": 1}}, {"NAME": "x"}])
def test_what_netcdf_cannot_hold_is_refused_as_by_xarray(attribute, tmp_path):
    record = of_one_model().assign_attrs(attribute)
    with pytest.raises(Exception, match=r".") as theirs:  # of which kind, xarray decides
        written_by_xarray(record, tmp_path / "theirs.nc")
    with pytest.raises(type(theirs.value)) as ours:
        write_netcdf(record, tmp_path / "ours.nc")
    assert str(ours.value) == str(theirs.value)


def made_by_hand(fill):
    def make(path):
        with h5py.File(path, "w") as file:
            for name, size in (("row", 2), ("column", 3)):
                file[name] = np.arange(size)
                file[name].make_scale(name)
            made = file.create_dataset("values", (2, 3), fill.get("dtype", "f4"), fillvalue=fill.get("_FillValue"))
            made[...] = np.arange(6).reshape(2, 3)
            for axis, name in enumerate(fill.get("scales", ("row", "column"))):
                made.dims[axis].attach_scale(file[name])
            for name in set(fill) - {"dtype", "scales"}:
                made.attrs[name] = fill[name]

    return make


@pytest.mark.parametrize(
    "fill",
    [
        {"_FillValue": np.float32(3)},
        {"_FillValue": np.int32(3), "dtype": "i4"},
        {"missing_value": np.float32(4)},
        {"scale_factor": 0.5, "add_offset": 1.0, "dtype": "i2"},
        {"dtype": ">f8"},
        {"coordinates": "row nowhere"},
        {"scales": ()},
        {"scales": ("row",)},
        {"note": h5py.Empty("f4")},
        {"note": np.bytes_("a text of fixed length")},
        {"note": np.arange(6).reshape(2, 3)},
        {"note": np.array(["a", "b"], object)},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of names that are not there
def test_what_other_programs_wrote_is_read_as_by_xarray(fill, tmp_path):
    path = tmp_path / "other.nc"
    made_by_hand(fill)(path)
    try:
        theirs = by_xarray(path)
    except Exception as error:
        with pytest.raises(type(error)):
            read_netcdf(path)
    else:
        same(read_netcdf(path), theirs)
        assert "values" in theirs


def test_dimensions_that_may_grow_are_read_as_by_xarray(tmp_path):
    path = tmp_path / "grows.nc"
    record = xr.Dataset({"values": ("row", np.arange(3.0))})
    record.to_netcdf(path, engine="h5netcdf", unlimited_dims=["row"])
    same(read_netcdf(path), by_xarray(path))


def test_an_attribute_without_a_value_is_no_damage(tmp_path):
    path = tmp_path / "record.nc"
    write_netcdf(of_one_model(), path)
    with h5py.File(path, "r+") as file:
        file.attrs["note"] = h5py.Empty("f4")
    assert open_record(path).attrs["note"].size == 0
