"""Checksums of a sweep's tables: damage is refused, with the file's name and what to do, before a value is used."""

import json
import random
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from sweep_shards import write_models, write_shards

from analysis.errors import SweepError
from analysis.sweep import SweepSettings, read_sweep, run_sweep, sweep_contents
from analysis.sweep.store import finished_parts

ROOT = Path(__file__).parents[3]
FLIPS = 400


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The file of a sweep, and its table."""
    folder = tmp_path_factory.mktemp("flips")
    run_sweep(write_models(folder, ("gate-op",)), [str(path) for path in write_shards(folder, ((7, 5),))],
              folder / "out", SweepSettings(("scores", "gates", "profiles")))  # fmt: skip
    return folder / "out", finished_parts(folder / "out")[0].read_bytes(), read_sweep(folder / "out")


def test_every_flipped_bit_is_refused_or_harmless(whole, tmp_path):
    """In a process of its own, which a hang cannot outlive."""
    _, data, table = whole
    (tmp_path / "whole.parquet").write_bytes(data)
    table.to_pickle(tmp_path / "expected")
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path), str(FLIPS)], capture_output=True, text=True, timeout=600,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    refused, harmless = (int(word) for word in done.stdout.split())
    assert refused + harmless == FLIPS
    assert refused > 0.9 * FLIPS


def test_what_is_said_of_a_damaged_file(whole, tmp_path):
    data = bytearray(whole[1])
    data[200] ^= 4
    (tmp_path / "part0.parquet").write_bytes(data)
    with pytest.raises(SweepError, match=r"part0\.parquet is damaged \(.*checksum.*\); remove it and sweep again"):
        read_sweep(tmp_path)
    data = bytearray(whole[1])
    data[-100] ^= 4
    (tmp_path / "part0.parquet").write_bytes(data)
    with pytest.raises(SweepError, match=r"part0\.parquet was not written by a sweep, or is damaged"):
        sweep_contents(tmp_path)


def test_some_columns_are_read_whatever_became_of_others(whole, tmp_path):
    column = next(
        pq.read_metadata(whole[0] / "part0.parquet").row_group(0).column(number)
        for number in range(20)
        if pq.read_schema(whole[0] / "part0.parquet").names[number] == "top_scores"
    )
    data = bytearray(whole[1])
    data[column.data_page_offset + 30] ^= 1
    (tmp_path / "part0.parquet").write_bytes(data)
    assert read_sweep(tmp_path, ["frames"])["frames"].tolist() == [7, 5]
    with pytest.raises(SweepError, match="column 'top_scores' does not match its checksum"):
        read_sweep(tmp_path, ["top_scores"])


def test_the_file_says_that_it_has_checksums(whole):
    made = json.loads(pq.read_metadata(whole[0] / "part0.parquet").metadata[b"gmsa_sweep"])
    assert made["checksums"] is True


def flip(folder: Path, count: int) -> None:
    """Flip a bit at a time, and print how many are refused and how many change nothing."""
    data, expected = (folder / "whole.parquet").read_bytes(), pd.read_pickle(folder / "expected")
    generator, refused = random.Random(8), 0
    places = [generator.randrange(len(data)) for _ in range(count // 2)]  # and as many in the footer
    places += [generator.randrange(len(data) - 8 - int.from_bytes(data[-8:-4], "little"), len(data))
               for _ in range(count - count // 2)]  # fmt: skip
    warnings.simplefilter("error")
    (folder / "sweep").mkdir()
    for at in places:
        damaged = bytearray(data)
        damaged[at] ^= 1 << generator.randrange(8)
        (folder / "sweep" / "part0.parquet").write_bytes(damaged)
        try:
            found = read_sweep(folder / "sweep")
        except SweepError as error:
            if not re.search(r"part0\.parquet .*remove it and sweep again", str(error)):
                raise
            refused += 1
        else:
            pd.testing.assert_frame_equal(found, expected)
            assert found.attrs == expected.attrs
    print(refused, count - refused)


if __name__ == "__main__":
    flip(Path(sys.argv[1]), int(sys.argv[2]))
