"""Small shards and models on disk for the tests of sweeps, and a program that sweeps them and can be killed."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from small_models import small_clip, small_model

from analysis.sweep import ANALYSES, SweepSettings, run_sweep
from analysis.sweep.plan import ShardTask
from gmsa_models import save, write_clips

LENGTHS = ((13, 5, 23, 9), (7, 19, 11), (3, 17))  # frames of the clips of each shard
SETTINGS = SweepSettings(analyses=tuple(ANALYSES), batch_size=2)


def write_shards(folder: Path, lengths=LENGTHS) -> list[Path]:
    """Shards `part0.tfrecord` and so on."""
    paths, seed = [], 0
    for number, shard in enumerate(lengths):
        clips = [small_clip(frames, seed + place) for place, frames in enumerate(shard)]
        seed += len(shard)
        paths.append(folder / f"part{number}.tfrecord")
        write_clips(paths[-1], clips)
    return paths


def write_models(folder: Path, kinds=("gate-op", "share-att", "gate-att", "baseline", "none")) -> list[str]:
    """Checkpoints of small untrained models."""
    return [str(save(small_model(kind), folder / f"{kind}.safetensors")) for kind in kinds]


class DeadlyTask(ShardTask):
    """A shard that kills the process that does it."""

    def provenance(self) -> dict:
        """Ends whoever asks."""
        os.kill(os.getpid(), signal.SIGKILL)
        return {}


def sizes(table: pd.DataFrame) -> list[int]:
    """Rows a shard, in the order of the table."""
    return table.groupby("shard", sort=False).size().tolist()


def damage(path: Path, at: int) -> None:
    """Flip a bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def as_earlier_version(path: Path) -> None:
    """Rewrite a shard's table as the version before checksums did."""
    table = pq.read_table(path).drop_columns("model_sha256").replace_schema_metadata(None)
    made = json.loads(pq.read_metadata(path).metadata[b"gmsa_sweep"])
    del made["checksums"], made["data"]["source_id"]
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({b"gmsa_sweep": json.dumps(made)})


if __name__ == "__main__":  # model, folder of shards, out, engine: sweeps, and waits to be killed after one shard
    model, folder, out, engine = sys.argv[1:]

    class Told:
        """Says that a shard is done, and stops in the middle of the next."""

        said = False

        def begin(self, size: int, left: int) -> None:
            """Nothing."""

        def advance(self, videos: int, size: int) -> None:
            """Waits, after the first shard."""
            if self.said:
                time.sleep(600)

        def end_shard(self, outcome) -> None:
            """A line for the first shard."""
            self.advance(0, 0)
            print(outcome.task.shard.name, flush=True)
            self.said = True

    run_sweep([model], [f"{folder}/*.tfrecord"], out, SETTINGS, engine=engine, watch=Told())
