"""Small files that would take much memory, or never end: each is one clear error, within 200 MB."""

import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
from hostile_records import HANGING, NETCDF, ZARR
from hostile_states import STATES
from hostile_sweeps import SWEEPS
from hostile_tables import NPZ, PARQUET, TABLES
from metered import Outcome, meter, size_of

ALLOWED = 200_000_000  # bytes of memory beside the file's size
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measures memory by /proc and forks")
# Format -> its faults, the ends of their names, what reads them.
FORMATS = {
    "netcdf": (NETCDF, ".nc", "hostile_records", "hostile_records.open_to_the_end(path)"),
    "hanging": (HANGING, ".nc", "hostile_records", "hostile_records.open_within_a_second(path)"),
    "zarr": (ZARR, ".zarr", "hostile_records", "hostile_records.open_to_the_end(path)"),
    "catalogue": (
        PARQUET,
        ".parquet",
        "gmsa_models.data.catalog.catalog",
        "list(gmsa_models.data.catalog.catalog.read_rows(path))",
    ),
    "clip": (
        PARQUET,
        ".parquet",
        "gmsa_models.data.catalog.catalog",
        "gmsa_models.data.catalog.catalog.open_clip(path, 'a')",
    ),
    "sweep": (SWEEPS, ".sweep", "analysis.sweep", "analysis.sweep.read_sweep(path)"),
    "vectors": (
        NPZ,
        ".npz",
        "gmsa_models.data.montage.video_vectors",
        "gmsa_models.data.montage.video_vectors.read_video_vectors(path)",
    ),
    "tables": (TABLES, ".npz", "figures.pipeline.table_files", "figures.pipeline.table_files.load_tables(path)"),
    "state": (
        STATES,
        ".pt",
        "pathlib, gmsa_models.training.state",
        "gmsa_models.training.state.load_state(pathlib.Path(path), {}, '')",
    ),
}


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory):
    """All faults of a format, made and read; a process that has the libraries forks for each."""

    made: dict[int, list[Path]] = {}  # two formats may have the same files

    @cache
    def read(name: str) -> Mapping[str, tuple[int, Outcome]]:
        faults, suffix, module, call = FORMATS[name]
        if (paths := made.get(id(faults))) is None:
            folder = tmp_path_factory.mktemp(name)
            paths = made[id(faults)] = [folder / f"x{number}{suffix}" for number in range(len(faults))]
            for path, (make, _, _) in zip(paths, faults.values(), strict=True):
                make(path)
        found = reader.read(module, call, paths)
        sizes = [size_of(path) for path in paths]
        return dict(zip(faults, zip(sizes, found, strict=True), strict=True))

    with meter() as reader:
        yield read


@pytest.mark.parametrize(
    ("name", "fault"), [(name, fault) for name, (faults, *_) in FORMATS.items() for fault in faults]
)
def test_a_hostile_file_is_one_error_within_its_memory(name, fault, outcomes):
    (_, kind, said), (size, outcome) = FORMATS[name][0][fault], outcomes(name)[fault]
    assert outcome.kinds[:1] == (kind,), outcome
    assert re.search(rf"x\d+\{FORMATS[name][1]}.*({said})", outcome.message), outcome
    assert len(outcome.message) < 800
    assert outcome.bytes <= ALLOWED + size, outcome
