"""Records from files: what was saved comes back; what is wrong, of another version or hostile is one clear error."""

import contextlib
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_models import small_clip, small_model

from analysis import combine_models, inspect_clip
from analysis.errors import RecordError
from analysis.record.assemble import RECORD_VERSION
from analysis.record.files import NEWEST_VERSION, open_record, save_record
from figures.inspection import saved_records


@pytest.fixture(scope="module")
def record():
    return inspect_clip(small_model(), small_clip(7), parts=["attention", "profile", "score", "segment"])


@pytest.fixture
def saved(record, tmp_path):
    return save_record(record, tmp_path / "saved.nc")


@pytest.mark.parametrize("kind", ["gate-op", "none"])
def test_what_was_saved_comes_back(kind, tmp_path):
    whole = inspect_clip(small_model(kind), small_clip(7))
    whole.to_netcdf(tmp_path / "plain.nc", engine="h5netcdf")
    whole.to_zarr(tmp_path / "plain.zarr", consolidated=False)
    for path in (save_record(whole, tmp_path / "saved.nc"), tmp_path / "plain.nc", tmp_path / "plain.zarr"):
        assert open_record(path).identical(whole), path
    with xr.open_dataset(tmp_path / "saved.nc") as opened:  # the checksum at the end is nothing to other readers
        assert opened.load().identical(whole)


def test_a_record_of_two_models_comes_back(tmp_path):
    joined = combine_models([inspect_clip(small_model(kind), small_clip(7)) for kind in ("gate-op", "none")])
    assert open_record(save_record(joined, tmp_path / "joined.nc")).identical(joined)


def test_versions_are_those_that_are_written():
    assert NEWEST_VERSION == RECORD_VERSION


def test_it_opens_without_torch(saved):
    script = (
        "import sys; from analysis.record.files import open_record\nopen_record(sys.argv[1])\n"
        "assert not {'torch', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, saved], check=True)


# What is not a record, or of another version


def rewritten(record, **attributes):
    return record.assign_attrs(attributes)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda r: rewritten(r, record_version=3), RecordError, "version 3; this software reads up to 2: upgrade"),
        (lambda r: rewritten(r, record_version=0), RecordError, "record_version is .*0.*expected a whole number"),
        (lambda r: rewritten(r, record_version=1.5), RecordError, "expected a whole number, 1 to 2"),
        (lambda r: rewritten(r, record_version="one"), RecordError, "'one'; expected a whole number"),
        (lambda r: xr.Dataset(r.variables), RecordError, "it has no 'record_version'"),
        (lambda r: r.drop_vars("model"), RecordError, "coordinate 'model' is missing"),
        (lambda r: r.drop_vars("frame"), RecordError, "coordinate 'frame' is missing"),
        (lambda r: rewritten(r, clip=3), RecordError, "attribute 'clip' is .*3"),
        (lambda r: rewritten(r, labels="[" * 100_000), RecordError, r"attribute 'labels' is '\["),
        (lambda r: rewritten(r, frame_seconds=float("nan")), RecordError, "attribute 'frame_seconds' is .*nan"),
        (lambda r: r.assign(attention=r["profile"]), RecordError, r"'attention' has dimensions \('modality', 'br"),
    ],
)
def test_other_versions_and_missing_parts(record, change, error, said, tmp_path):
    path = save_record(change(record), tmp_path / "odd.nc")
    with pytest.raises(error, match=rf"odd\.nc: .*{said}") as caught:
        open_record(path)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_bytes(b""), r"begins with b''"),
        (lambda path: path.write_bytes(b"hello, this is text"), "begins with b'hello, t'"),
        (lambda path: path.write_bytes(gzip.compress(b"x", mtime=0)), "a gzip file: unpack it first"),
        (lambda path: path.write_bytes(b"CDF\1" + bytes(99)), "classic format; records are NetCDF-4"),
        (lambda path: path.write_bytes(b"PK\3\4" + bytes(99)), "a zip file"),
        (Path.mkdir, "a directory and not Zarr"),
        (os.mkfifo, "a pipe or device"),
    ],
)
def test_other_files(make, said, tmp_path):
    make(tmp_path / "x.nc")
    with pytest.raises(RecordError, match=rf"x\.nc: .*{said}"):
        open_record(tmp_path / "x.nc")


def test_no_file():
    with pytest.raises(FileNotFoundError):
        open_record("nowhere.nc")


# Damage


@pytest.mark.parametrize("kept", [9, 100, 0.5, 0.999])
def test_a_file_cut_short(saved, kept):
    data = saved.read_bytes()
    saved.write_bytes(data[: int(kept * len(data)) if kept < 1 else kept])
    with pytest.raises(RecordError, match=r"saved\.nc: damaged .*write the record again"):
        open_record(saved)


def test_any_flipped_bit_is_noticed_before_the_file_is_parsed(saved, monkeypatch):
    whole, random = saved.read_bytes(), np.random.default_rng(0)
    monkeypatch.setattr(h5py, "File", None)
    for position in random.integers(8, len(whole) - 40, 30):
        data = bytearray(whole)
        data[position] ^= 1 << random.integers(8)
        saved.write_bytes(bytes(data))
        with pytest.raises(RecordError, match="do not match their checksum"):
            open_record(saved)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data())
def test_damage_without_a_checksum_raises_nothing_else(record, tmp_path, data):
    path = tmp_path / "plain.nc"
    if not path.exists():
        record.to_netcdf(path, engine="h5netcdf")
    damaged = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(8, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "damaged.nc").write_bytes(bytes(damaged))
    with contextlib.suppress(RecordError):
        open_record(tmp_path / "damaged.nc")


def test_a_file_on_which_the_library_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr("gmsa_models.data.hdf5_probes._SECONDS", 1)
    found = (Path(__file__).parents[2] / "fuzz/found/record/hdf5-hangs").read_bytes()[1:]
    (tmp_path / "x.nc").write_bytes(found)
    with pytest.raises(RecordError, match=r"x\.nc: damaged so that the HDF5 library crashes or hangs"):
        open_record(tmp_path / "x.nc")


# Hostile files


def claim(path, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("attention", dtype="f4", compression="gzip", **options)


@pytest.mark.parametrize(
    "options",
    [
        {"shape": (10**6, 10**6), "chunks": (10, 10)},  # never written: no byte in the file
        {"shape": (10,), "maxshape": (None,), "chunks": (10**9,)},
    ],
)
def test_a_claim_allocates_nothing(options, tmp_path):
    claim(tmp_path / "x.nc", **options)
    with pytest.raises(
        RecordError, match=r"that claim 1 variables of \d+ bytes or more; at most|has \d+ chunks; at most"
    ):
        open_record(tmp_path / "x.nc")


def test_very_many_variables(tmp_path):
    with h5py.File(tmp_path / "x.nc", "w") as file:
        for number in range(1001):
            file[f"v{number}"] = 1
    with pytest.raises(RecordError, match="claim 1001 variables"):
        open_record(tmp_path / "x.nc")


def link_outside(file, secret):
    file["attention"] = h5py.ExternalLink(str(secret), "data")


def store_outside(file, secret):
    file.create_dataset("attention", (100,), "u1", external=[(str(secret), 0, 100)])


def map_outside(file, secret):
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource(str(secret), "data", (3,))
    file.create_virtual_dataset("attention", layout)


def soft_link(file, secret):
    file["attention"] = h5py.SoftLink("/elsewhere")


def group(file, secret):
    file.create_group("attention")


@pytest.mark.parametrize("make", [link_outside, store_outside, map_outside, soft_link, group])
def test_nothing_outside_the_file_is_read(make, tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["data"] = np.arange(3, dtype="f4")
    with h5py.File(tmp_path / "x.nc", "w") as file:
        make(file, tmp_path / "secret.h5")
    with pytest.raises(RecordError, match=r"'attention' (lies in another file|is a group or a link)"):
        open_record(tmp_path / "x.nc")


# Zarr


@pytest.fixture
def stored(record, tmp_path):
    record.to_zarr(tmp_path / "stored.zarr", consolidated=False)
    return tmp_path / "stored.zarr"


def change(stored, **values):
    path = stored / "attention" / "zarr.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "error", "said"),
    [
        ({"shape": [2, 2, 4, 10**6, 10**6]}, RecordError, r"'attention' has \d+ chunks; at most"),
        (
            {
                "shape": [2, 2, 4, 10**6, 10**6],
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 2, 4, 10**6, 10**6]}},
            },
            RecordError,
            "'attention' has .* bytes that claim",
        ),
        ({"codecs": [{"name": "numcodecs.pickle"}]}, RecordError, "'attention' is packed by ..numcodecs.pickle"),
        ({"codecs": 3}, RecordError, "damaged"),
        ({"zarr_format": 9}, RecordError, "damaged"),
        ({"shape": [-1, 2, 4, 7, 7]}, RecordError, "damaged"),
    ],
)
def test_zarr_that_lies(stored, values, error, said):
    change(stored, **values)
    with pytest.raises(error, match=rf"stored\.zarr: .*{said}"):
        open_record(stored)


def test_zarr_cut_short_and_linked_elsewhere(stored):
    chunk = next(path for path in (stored / "attention").rglob("*") if path.is_file() and path.name != "zarr.json")
    chunk.write_bytes(chunk.read_bytes()[:-9])
    with pytest.raises(RecordError, match="damaged"):
        open_record(stored)
    chunk.unlink()
    chunk.symlink_to("/etc/hostname")
    with pytest.raises(RecordError, match="is a link"):
        open_record(stored)


def test_zarr_of_the_older_format_could_run_code(tmp_path):
    (tmp_path / "x.zarr").mkdir()
    about = {"zarr_format": 2, "dtype": "|O", "filters": [{"id": "pickle"}]}
    (tmp_path / "x.zarr" / ".zarray").write_text(json.dumps(about))
    with pytest.raises(RecordError, match="a directory and not Zarr"):
        open_record(tmp_path / "x.zarr")


# What views cannot draw


def scored(record, value):
    return record.assign(score=record["score"].copy(data=np.full(record.sizes["class"], value, "f4")))


def with_first(record, name, value):
    values = record[name].values.copy()
    values.flat[0] = value
    return record.assign({name: record[name].copy(data=values)})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: scored(r, 3e7), r"variable 'score' has 3e\+07; expected values in \[0, 1\]"),
        (lambda r: scored(r, -0.5), r"variable 'score' has -0\.5"),
        (lambda r: scored(r, np.nan), "variable 'score' has NaN"),
        (lambda r: with_first(r, "attention", np.inf), r"variable 'attention' has inf; expected values in \[0, 1\]"),
        (lambda r: with_first(r, "profile", -np.inf), "variable 'profile' has -inf"),
        (lambda r: r.assign_coords(frame=r["frame"].values[::-1]), "coordinate 'frame' does not rise"),
        (lambda r: r.assign_coords(frame=r["frame"] * np.nan), "coordinate 'frame' has a value"),
        (lambda r: r.assign_coords(branch=["global", "global"]), "coordinate 'branch' has a value twice"),
        (lambda r: r.assign_coords(modality=[0, 1]), "variable 'modality' is int64; expected text"),
        (
            lambda r: r.assign_coords(class_name=("class", ["a\x1b[31m"] * r.sizes["class"])),
            r"variable 'class_name' has 'a.x1b\[31m'; expected text without control characters",
        ),
        (lambda r: rewritten(r, clip="a\x1b[2J"), r"attribute 'clip' is 'a.x1b\[2J'"),
        (lambda r: rewritten(r, label_names='["a\\u001b"]'), "attribute 'label_names' is"),
        (lambda r: rewritten(r, frame_seconds=float("inf")), "attribute 'frame_seconds' is .*inf"),
        (lambda r: rewritten(r, layer="first"), "attribute 'layer' is 'first'"),
        (lambda r: r.drop_attrs(deep=False).assign_attrs({**r.attrs, "source": 3}), "attribute 'source' is"),
        (lambda r: r.drop_vars("class_name"), "variable 'class_name' is missing, which 'score' needs"),
    ],
)
def test_what_no_view_can_draw(record, change, said, tmp_path):
    changed = change(record)
    texts = {name: values.astype(object) for name, values in changed.variables.items() if values.dtype.kind == "U"}
    changed.assign(texts).to_zarr(tmp_path / "odd", consolidated=False)
    with pytest.raises(RecordError, match=rf"odd: {said}.*write the record again") as caught:
        open_record(tmp_path / "odd")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["clip", "source", "features_sha256", "labels", "label_names", "frame_seconds"])
def test_a_missing_attribute_is_named(record, name, tmp_path):
    attributes = {key: value for key, value in record.attrs.items() if key != name}
    changed = record.drop_attrs(deep=False).assign_attrs(attributes)
    with pytest.raises(RecordError, match=f"attribute '{name}' is None"):
        open_record(save_record(changed, tmp_path / "x.nc"))


def test_a_score_beyond_1_in_netcdf(record, tmp_path):
    with pytest.raises(RecordError, match=r"x\.nc: variable 'score' has 3e\+07"):
        open_record(save_record(scored(record, 3e7), tmp_path / "x.nc"))


def test_a_joined_record_may_lack_scores(tmp_path):
    first, second = (inspect_clip(small_model(kind), small_clip(7), parts=["score"]) for kind in ("gate-op", "none"))
    joined = combine_models([first, second.isel({"class": slice(3)})])
    assert joined["score"].isnull().any()
    assert open_record(save_record(joined, tmp_path / "x.nc")).identical(joined)


def test_a_record_of_too_few_parts_for_the_overview(record, tmp_path):
    path = save_record(record, tmp_path / "few.nc")
    with pytest.raises(RecordError, match=r"few\.nc: has no 'label', which the overview draws; write it with the p"):
        saved_records([path])
