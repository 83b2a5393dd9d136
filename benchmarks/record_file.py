"""How fast a record is written to NetCDF-4 and read again: ours beside xarray's engine, the same work, in one run.

The record is of a demo video and a trained model, with every default part. The files are on the temporary disk; the
numbers are milliseconds of processor time (median) and the median over the rounds of the ratio in each. That all four
give the same record is checked first.

    python benchmarks/record_file.py [--rounds 9]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import xarray as xr
from measuring import interleaved, ratio

from analysis import inspect_clip
from analysis.record.netcdf_files import read_netcdf, write_netcdf
from gmsa_models import load, read_clips


def by_xarray(path: Path) -> xr.Dataset:
    """What xarray's engine reads."""
    with xr.open_dataset(path, engine="h5netcdf", decode_times=False) as opened:
        return opened.load()


def main() -> None:
    """Print the milliseconds of each way, and how many times as long xarray takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    record = inspect_clip(load("gate-op-tp30"), next(read_clips("demo:0")))
    packed = {name: {"zlib": True, "complevel": 1} for name, value in record.items() if value.dtype.kind == "f"}
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "ours.nc"), Path(folder, "theirs.nc")
        ways = {
            "write, ours": lambda: write_netcdf(record, ours),
            "write, xarray": lambda: record.to_netcdf(theirs, engine="h5netcdf", encoding=packed),
            "read, ours": lambda: read_netcdf(ours),
            "read, xarray": lambda: by_xarray(theirs),
        }
        ways["write, ours"]()
        ways["write, xarray"]()
        for path in (ours, theirs):
            xr.testing.assert_identical(read_netcdf(path), record)
            xr.testing.assert_identical(by_xarray(path), record)
        times = interleaved(ways, rounds)
        print(f"{len(record.variables)} variables, {ours.stat().st_size} and {theirs.stat().st_size} bytes")
    for name, each in times.items():
        print(f"{name:14} {1000 * statistics.median(each.processor):7.1f} ms")
    for what in ("write", "read"):
        print(f"{what}: {ratio(times[f'{what}, xarray'].processor, times[f'{what}, ours'].processor):.1f} times")


if __name__ == "__main__":
    main()
