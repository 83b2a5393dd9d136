"""From an edit to its answer in a live page, beside torch: shipped models of 300 frames, every kind of edit.

`python benchmarks/live.py`; `--write` keeps the table in benchmarks/results/live.md.
"""

from __future__ import annotations

import argparse
import base64
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from analysis import inspect_clip, run_with
from analysis.inspect.live import live_model
from benchmarks.measuring import machine, report
from figures.inspector.live import pack_live
from figures.inspector.modules import FOLDER, join, live_module_text
from gmsa_models import Clip, GMSAClassifier, load, read_clips
from gmsa_models.checkpoints.files import ZOO
from tests.browser import started_browser

RESULTS = Path(__file__).parent / "results" / "live.md"
FRAMES, LONGEST = 300, 100  # ms: what a 95th percentile may come to
PAGE = """<!doctype html><script id="live" type="text/plain">{live}</script><script type="module">
{engine}
window.open = async (weights) => {{
  window.engine?.close();
  const bytes = Uint8Array.from(atob(weights), (letter) => letter.charCodeAt(0));
  window.engine = new PageEngine(document.getElementById("live").textContent, bytes.buffer);
  return (await window.engine.ready).products;
}};
window.measure = async (lists, shown) => {{
  const times = [];
  for (const edits of lists) {{
    await new Promise((done) => setTimeout(done, 5));
    const began = performance.now();
    await window.engine.answer(edits, shown);
    times.push(performance.now() - began);
  }}
  return times;
}};
</script>"""
# Kind of edit -> its text; {a} and {b} are seconds that differ from time to time.
EDITS = {
    "knock out a head": "knock-out visual/0/{branch}/weights[head 3] queries {a}..{b}",
    "knock out a branch's edges, both streams": "knock-out */0/global/weights keys {a}..{b}",
    "the same after the softmax": "knock-out */0/global/weights keys {a}..{b} after-softmax",
    "scale a head": "scale */0/{branch}/contexts[head 3] by 0.{a}",
    "force the gates": "force-gate */0/gate to 0.3 at {a}..{b}",
    "drop frames": "drop */input at {a}..{b}",
    "move frames": "move */input at {a}..{b} to 7",
    "another neighbourhood": "neighbourhood */0/local/neighbourhood as TP{a}",
}


def edits_of(model: GMSAClassifier) -> Iterator[tuple[str, str]]:
    """Kinds of edit that a model takes, and their texts."""
    attention = model.config.attention
    for kind, text in EDITS.items():
        if attention == "none" and "/0/" in text:
            continue
        if attention == "baseline" and "neighbourhood" in text:
            continue
        if "gate" in text and attention not in ("gate-att", "gate-op"):
            continue
        local = "global" if attention == "baseline" else "local"
        stream = "visual" if "visual" in model.config.modalities else "audio"
        yield kind, text.replace("{branch}", local).replace("visual", stream)


def texts_of(text: str, count: int) -> list[list[str]]:
    """So many lists of one edit, none of them twice."""
    return [[text.format(a=11 + 7 * number % 250, b=41 + 7 * number % 250)] for number in range(count)]


def clip_of(frames: int) -> Clip:
    """Frames of two demo videos, one after the other."""
    pair = [next(iter(read_clips(f"demo:{number}"))) for number in (3, 5)]
    features = {name: np.concatenate([each.features[name] for each in pair])[:frames] for name in ("visual", "audio")}
    return Clip(id="long", features=features, labels=(), source="made", dataset=pair[0].dataset)


def torch_times(model: GMSAClassifier, clip: Clip, lists: Sequence[Sequence[str]]) -> list[float]:
    times = []
    for edits in lists:
        began = time.perf_counter()
        run_with(model, clip, edits)
        times.append(1000 * (time.perf_counter() - began))
    return times


def measured(page, name: str, repeats: int) -> Iterator[str]:
    """A row a kind of edit."""
    model, clip = load(name), clip_of(FRAMES)
    weights = pack_live(live_model(model, clip), [inspect_clip(model, clip, parts=("score",))])
    used = page.evaluate("(weights) => window.open(weights)", base64.b64encode(weights).decode())
    shown = [f"0/attention/{next(iter(model.config.modalities))}/global/{head}" for head in range(model.config.heads)]
    for kind, text in edits_of(model):
        lists = texts_of(text, 2 * repeats)
        page.evaluate("([lists, shown]) => window.measure(lists, shown)", [lists[repeats:], shown])  # compiles
        times = page.evaluate("([lists, shown]) => window.measure(lists, shown)", [lists[:repeats], shown])
        torch_median = float(np.median(torch_times(model, clip, lists[: max(3, repeats // 4)])))
        middle, high = np.quantile(times, 0.5), np.quantile(times, 0.95, method="higher")
        row = f"| {name} | {kind} | {middle:.1f} | **{high:.1f}** | {torch_median:.1f} | {middle / torch_median:.2f} |"
        print(row if used == "VectorProducts" else f"{row} {used}", flush=True)
        yield row


def main() -> None:
    """Print the table; `--write` keeps it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/live.md")
    parser.add_argument("--repeats", type=int, default=20, help="edits of each kind")
    parser.add_argument("--models", nargs="*", help="default: all that take so many frames")
    options = parser.parse_args()
    known = sorted(path.stem for path in ZOO.glob("*.safetensors"))
    names = options.models or [name for name in known if load(name).config.max_frames >= FRAMES]
    engine = join({"page_engine": (FOLDER / "page_engine.js").read_text(encoding="utf-8")})
    text = PAGE.format(engine=engine, live=live_module_text())
    browsers = started_browser()
    page = next(browsers).new_page()
    page.route("**/*", lambda route: route.fulfill(body=text, content_type="text/html; charset=utf-8"))
    page.goto("http://live.test/")
    rows = [row for name in names for row in measured(page, name, options.repeats)]
    next(browsers, None)
    highest = max(float(row.split("**")[1]) for row in rows)
    lines = [
        "# From an edit to its answer in a live page", "",
        f"`python benchmarks/live.py --write`: {FRAMES} frames, {options.repeats} edits a row, headless chromium; from "
        "the question to the answer with all lines over time and the maps of one branch, the way through the worker "
        "included. Torch: `run_with`, the whole pass.", "",
        machine(), "",
        "| model | edit | median ms | p95 ms | torch, median ms | ratio |", "|---|---|---|---|---|---|", *rows, "",
        f"The largest p95 is {highest:.1f} ms; it may come to {LONGEST} ms.",
    ]  # fmt: skip
    report(lines, RESULTS, options.write)


if __name__ == "__main__":
    main()
