"""The payload in two parts: the first view is drawn before the other maps have come."""

from __future__ import annotations

import asyncio
import base64

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from figures.inspector import Inspector, write_html
from figures.inspector.payload import pack, pack_in_parts
from tests.browser import SCREEN, started_browser
from tests.inspector_records import made_record
from tests.lab import ROOT, write_notebook
from tests.unpacked import Unpacked

VIEW = {"modality": "visual", "branch": "local", "head": 2, "model": "gate-op-tp30", "against": ""}
EXECUTED = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import xarray
from figures.inspector import Inspector
inspector = Inspector(xarray.open_dataset("record.nc").load())
inspector
"""
# The page's inspector again, in an element of its own, with the first part only; then the rest.
IN_PARTS = """async () => {
  const settled = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const whole = document.querySelector('.gmsa-inspector').inspector, { payload } = whole.scene;
  const cut = payload.start + payload.header.first, root = document.createElement('div');
  document.body.append(root);
  const later = new whole.constructor(root, new payload.constructor(payload.buffer.slice(0, cut)));
  const pixels = (panel) => {
    const { width, height } = panel.base;
    return panel.base.getContext('2d').getImageData(0, 0, width, height).data.join();
  };
  const alike = (name) => pixels(whole[name]) === pixels(later[name]);
  const same = () => ['left', 'first', 'lanes', 'predictions'].filter(alike);
  await settled();
  const maps = [later.left.maps.length, later.first.maps.length];
  later.set({ pinned: true, hover: { panel: 'first', map: 0, query: 3, key: 4 } });
  await settled();
  const before = { maps, same: same(), told: later.controls.readout.textContent };
  later.set({ pinned: false, hover: null });
  later.complete(payload.buffer.slice(cut));
  await settled();
  return { before, after: same() };
}"""


def names_in_first(first: bytes) -> set[str]:
    unpacked = Unpacked(first)
    size = unpacked.header["first"]
    assert len(unpacked.body) == size
    about = unpacked.header["arrays"]
    about = {name: about[place["same"]] if "same" in place else place for name, place in about.items()}
    return {name for name, place in about.items() if place["offset"] + place["bytes"] <= size}


def test_the_first_part_holds_what_the_view_shows_and_the_two_are_the_payload():
    record = made_record()
    first, rest = pack_in_parts(record, "float32", VIEW)
    there = names_in_first(first)
    maps = {name for name in there if name.startswith("similarity") or "/attention/" in name}
    assert maps == {"similarity/visual", "0/attention/visual/local/2"}
    assert {
        "0/neighbourhood",
        "0/score",
        "0/lane/profile/audio/local",
        "0/lane/gradient_norm/visual",
        "strip/audio",
    } <= there
    assert not {"0/gradient/audio", "0/gate/visual"} & there
    joined, whole = Unpacked(first + rest), Unpacked(pack(record))
    assert set(joined.header["arrays"]) == set(whole.header["arrays"])
    for name in joined.header["arrays"]:
        np.testing.assert_array_equal(joined[name], whole[name])


@pytest.mark.parametrize(
    ("change", "there", "absent"),
    [
        ({"head": -1}, "0/attention/visual/local/3", "0/attention/audio/local/3"),
        ({"left": "gate"}, "0/gate/visual", "0/gate/audio"),
        ({"against": "other"}, "1/attention/visual/local/2", "1/attention/visual/local/1"),
        ({"branch": "combined"}, "0/attention/visual/combined/3", "0/attention/visual/global/3"),
    ],
)
def test_the_first_part_follows_the_view(change, there, absent):
    records = [made_record(branches=("global", "local", "combined")), made_record(name="other", seed=1)]
    values = records[0]["attention"].values
    values[:, 2, 3] = values[:, 1, 3]  # the combined map of head 4 is the local one: stored once, under that name
    change = change | ({"head": 3} if "branch" in change else {})
    assert there in names_in_first(pack_in_parts(records, "float32", VIEW | change)[0])
    assert absent not in names_in_first(pack_in_parts(records, "float32", VIEW | change)[0])
    assert there not in names_in_first(pack_in_parts(records, "float32", VIEW)[0])


def test_the_rest_follows_when_the_loop_is_free_and_at_once_where_there_is_none():
    record = made_record()

    async def cell() -> tuple[bytes, bytes]:
        inspector = Inspector(record)
        at_first = inspector.rest
        await asyncio.sleep(0)
        return at_first, inspector.rest

    at_first, later = asyncio.run(cell())
    inspector = Inspector(record)
    assert at_first == b""
    assert later == inspector.rest != b""
    whole = Unpacked(inspector.payload + inspector.rest)
    np.testing.assert_array_equal(whole["0/attention/audio/local/3"], record["attention"].values[1, 1, 3])


def test_a_notebook_that_is_executed_keeps_both_parts(tmp_path):
    made_record().to_netcdf(tmp_path / "record.nc", engine="h5netcdf")
    write_notebook(tmp_path / "show.ipynb", [EXECUTED])
    notebook = nbformat.read(tmp_path / "show.ipynb", 4)
    NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}, store_widget_state=True).execute()
    state = notebook.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    sent = [
        {each["path"][0]: base64.b64decode(each["data"]) for each in one.get("buffers", [])} for one in state.values()
    ]
    (buffers,) = [each for each in sent if each]
    inspector = Inspector(made_record())
    assert buffers == {"payload": inspector.payload, "rest": inspector.rest}


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_view_without_its_maps_says_so_and_completes(tmp_path, precision):
    browsers = started_browser()
    page = next(browsers).new_page(viewport=SCREEN)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(write_html(made_record(), tmp_path / "view.html", None, precision).as_uri())
    page.wait_for_selector(".gmsa-inspector footer")
    found = page.evaluate(IN_PARTS)
    next(browsers, None)
    assert problems == []
    assert found["before"]["maps"] == [0, 0]
    assert found["before"]["same"] == ["lanes", "predictions"]
    assert found["before"]["told"] == ""
    assert found["after"] == ["left", "first", "lanes", "predictions"]
