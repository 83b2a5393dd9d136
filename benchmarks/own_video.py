"""From video files to features, records and pages: processor seconds of each part, and memory over many videos.

Each video goes through one process, one after another: decoded alone, one picture a second; to features (EfficientNet
and log mel spectra) with thumbnails, the time inside the extractors apart; to a record of every default part by a model
of GateOp with random weights; to a page with the thumbnails.
Then features of a video of an hour, made of the first one by repeating its packets; and features of a hundred videos,
the resident size after each. With `--one-file` instead: one file of 60 s in 720p, joined of those that have so many
rows.

    python benchmarks/own_video.py 'videos/*.mp4' [--minutes 60] [--videos 100] [--one-file] [--write]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import av
import torch
from joined_video import Part, joined
from measuring import machine, report
from record_memory import resident_mib

from analysis import inspect_clip
from analysis.features.clip import video_clip, video_spaces
from analysis.features.efficientnet import EfficientNetLite0
from analysis.features.log_mel import LogMel
from figures.inspector.html import write_html
from figures.inspector.media import ClipMedia
from gmsa_models.data.paths import expand
from gmsa_models.data.spaces import spaces_to_dict
from gmsa_models.data.video.decode import VideoFile
from gmsa_models.data.video.thumbnails import ThumbnailSheet
from gmsa_models.variants import build

RESULTS = Path(__file__).parent / "results" / "own_video.md"
RATE = 1.0
SETTLED = 10  # videos after which the resident size counts
ROWS, SECONDS, ROUNDS = 720, 60, 5  # of the file that is joined of several videos


class Timed:
    """An extractor that counts the processor seconds of its calls."""

    def __init__(self, extractor: Any) -> None:
        self.extractor, self.seconds = extractor, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.extractor, name)

    def __call__(self, values: Any) -> Any:
        begun = time.process_time()
        try:
            return self.extractor(values)
        finally:
            self.seconds += time.process_time() - begun


@dataclass(frozen=True)
class Row:
    """Processor seconds of one video; see the table's heading."""

    name: str
    seconds: float
    size: str
    decode: float
    features: float
    extractors: float
    record: float
    page: float

    @property
    def ratio(self) -> float:
        """All of the way to a record by decoding alone and what the extractors take."""
        return (self.features + self.record) / (self.decode + self.extractors)


def measured(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds of a call, and what it gives."""
    begun = time.process_time()
    result = work()
    return time.process_time() - begun, result


def measure(path: Path, model: Any, visual: Timed, audio: Timed, folder: Path) -> Row:
    """All parts of one video."""
    video = VideoFile(path)
    decode, pictures = measured(lambda: [each.pixels.shape for each in video.frames(RATE)])
    sheet = ThumbnailSheet(len(pictures))
    visual.seconds = audio.seconds = 0.0
    features, clip = measured(lambda: video_clip(path, visual, audio, RATE, on_picture=sheet.add))
    extractors = visual.seconds + audio.seconds
    encoded, thumbnails = measured(sheet.encoded)
    record, made = measured(lambda: inspect_clip(model, clip))
    page, _ = measured(lambda: write_html(made, folder / "page.html", video=ClipMedia(thumbnails), media="thumbnails"))
    size = f"{pictures[0][1]} x {pictures[0][0]}"
    return Row(path.name, video.duration, size, decode, features + encoded, extractors, record, page)


def longer(path: Path, out: Path, minutes: float) -> Path:
    """A video of so many minutes: the packets of a short one, again and again."""
    with av.open(str(path)) as source:
        stream = source.streams.best("video")
        packets = [(bytes(each), each.pts, each.dts, each.is_keyframe) for each in source.demux(stream) if each.size]
        unit = float(stream.time_base)
        period = round(VideoFile(path).duration / unit)
        first = min(each[2] for each in packets)
        with av.open(str(out), "w") as target:
            copied = target.add_stream_from_template(stream)
            for number in range(max(1, round(minutes * 60 / (period * unit)))):
                for content, pts, dts, is_key in packets:
                    packet = av.Packet(content)
                    packet.pts, packet.dts = pts - first + number * period, dts - first + number * period
                    packet.is_keyframe, packet.time_base, packet.stream = is_key, stream.time_base, copied
                    target.mux(packet)
    return out


def resident(paths: list[Path], count: int, visual: Timed, audio: Timed) -> Iterator[float]:
    """Resident MiB after the features of each of so many videos."""
    for path in islice(cycle(paths), count):
        video_clip(path, visual, audio, RATE)
        yield resident_mib()


def table(rows: list[Row]) -> list[str]:
    """Markdown; the last line sums."""
    total = Row("all", *(sum(getattr(each, name) for each in rows) for name in ("seconds",)), "", *(
        sum(getattr(each, name) for each in rows) for name in ("decode", "features", "extractors", "record", "page")
    ))  # fmt: skip
    return [
        "| video | seconds | size | decoding | features, thumbnails | of that extractors | record | page | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {each.name} | {each.seconds:.1f} | {each.size} | {each.decode:.2f} | {each.features:.2f} | "
            f"{each.extractors:.2f} | {each.record:.2f} | {each.page:.2f} | {each.ratio:.2f} |"
            for each in [*rows, total]
        ),
    ]


def large(paths: list[Path]) -> list[Path]:
    """Those with as many rows as a file that is made of several has, or all where there is none."""
    return [path for path in paths if next(VideoFile(path).frames()).pixels.shape[0] == ROWS] or paths


def one_file(paths: list[Path], model: Any, visual: Timed, audio: Timed, folder: Path) -> list[str]:
    """What a file of a minute takes: a table of the rounds."""
    parts = [Part(path) for path in paths]
    path = joined(parts, folder / "minute.mp4", SECONDS, size=(ROWS, ROWS * 16 // 9))
    rows = [measure(path, model, visual, audio, folder) for _ in range(ROUNDS + 1)][1:]  # the first one loads
    return [
        "# One file of a minute in 720p, from video to record", "",
        f"`python benchmarks/own_video.py ... --one-file --write`: {SECONDS} s, {rows[0].size}, H.264 and AAC, joined "
        f"of\n{', '.join(each.name for each in paths)}. Columns as in own_video.md; a row a round.", "",
        *table(rows)[:-1], "",
        f"Median ratio: {statistics.median(each.ratio for each in rows):.2f}.", "", machine(),
    ]  # fmt: skip


def hour(paths: list[Path], minutes: float, visual: Timed, audio: Timed, folder: Path) -> str:
    """What a long video takes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    path = longer(paths[0], folder / f"long{paths[0].suffix}", minutes)
    seconds, clip = measured(lambda: video_clip(path, visual, audio, RATE))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"A video of {clip.frames / 60:.0f} minutes ({paths[0].name} repeated): {seconds:.0f} processor seconds to "
        f"features; the\nprocess's largest size rose from {before:.0f} MiB by {peak - before:.0f} MiB."
    )


def main() -> None:
    """Print the table; `--write` keeps it in `benchmarks/results/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--videos", type=int, default=100)
    parser.add_argument("--one-file", action="store_true", help="one file of a minute in 720p alone")
    parser.add_argument("--write", action="store_true", help="write the table to benchmarks/results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    paths = expand(arguments.paths)
    visual, audio = Timed(EfficientNetLite0(torch.device("cpu"))), Timed(LogMel())
    spaces = video_spaces(visual, audio, RATE)
    model = build(
        "gate-op-tp30", "demo", classes=7, modalities={name: space.width for name, space in spaces.items()},
        widths={"visual": 128, "audio": 64},
    ).eval()  # fmt: skip
    model.card["feature_spaces"] = spaces_to_dict(spaces)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.one_file:
            lines = one_file(large(paths), model, visual, audio, folder)
            return report(lines, RESULTS.with_name("own_video_one_file.md"), arguments.write)
        measure(paths[0], model, visual, audio, folder)  # what is loaded at the first use
        rows = [measure(path, model, visual, audio, folder) for path in paths]
        sizes = list(resident(paths, arguments.videos, visual, audio))
        long = hour(paths, arguments.minutes, visual, audio, folder)
    number = min(SETTLED, len(sizes))
    lines = [
        "# From video files to records and pages", "",
        f"`python benchmarks/own_video.py ... --minutes {arguments.minutes:g} --videos {arguments.videos} --write`: "
        f"{len(paths)} videos, one\npicture a second. Processor seconds; ratio: features, thumbnails and record by "
        "decoding alone and what the\nextractors (EfficientNet-Lite0, log mel spectra) take.", "",
        *table(rows), "",
        f"Features of {len(sizes)} videos one after another: {sizes[number - 1]:.0f} MiB resident after {number}, "
        f"at most {max(sizes[number - 1 :]):.0f} MiB after\nthat, {sizes[-1]:.0f} MiB at the end.", "",
        long, "", machine(),
    ]  # fmt: skip
    report(lines, RESULTS, arguments.write)


if __name__ == "__main__":
    main()
