"""What is drawn again when something is chosen: the lanes only where one of them depends on it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import xarray as xr

from figures.inspector import write_html
from tests.browser import SCREEN, settle, started_browser
from tests.inspector_records import made_record

ROOT = "document.querySelector('.gmsa-inspector').inspector"
# Times that the lanes' picture was drawn while the keys were pressed, a painted frame after each.
COUNT = """async (keys) => {
  const { inspector } = document.querySelector('.gmsa-inspector'), { lanes } = inspector, draw = lanes.draw;
  const painted = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  await painted();
  let times = 0;
  lanes.draw = function (...words) { times += 1; return draw.apply(this, words); };
  for (const key of keys) {
    inspector.root.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
    await painted();
  }
  delete lanes.draw;
  return times;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator:
    yield from started_browser()


def with_a_lane_by_head(record: xr.Dataset) -> xr.Dataset:
    """A record with a lane of which each head has its own line."""
    shape = record["attention"].shape
    values = np.random.default_rng(1).uniform(size=(shape[0], shape[2], shape[3])).astype(np.float32)
    by_head = xr.DataArray(values, dims=("modality", "head", "frame"), attrs={"lane": "line", "long_name": "by head"})
    return record.assign(by_head=by_head)


@pytest.mark.parametrize(
    ("change", "keys", "times"),
    [
        (None, ["ArrowDown", "ArrowDown", "ArrowRight", "s"], 0),
        (None, ["m", "m"], 2),
        (None, ["p", "ArrowDown", "ArrowRight"], 3),  # the pinned frame's row is of the head
        (with_a_lane_by_head, ["ArrowDown", "ArrowDown", "ArrowRight"], 2),
    ],
)
def test_lanes_are_drawn_again_where_one_depends_on_what_is_chosen(browser, tmp_path, change, keys, times):
    record = made_record()
    path = write_html(change(record) if change else record, tmp_path / "view.html", precision="float32")
    page = browser.new_page(viewport=SCREEN)
    page.goto(path.as_uri())
    page.wait_for_selector(".gmsa-inspector footer")
    settle(page)
    head = page.evaluate(f"{ROOT}.state.head")
    assert page.evaluate(COUNT, keys) == times
    if "ArrowDown" in keys:
        assert page.evaluate(f"{ROOT}.state.head") != head
    page.close()


def test_the_strip_has_the_colour_of_each_frame(browser, tmp_path):
    path = write_html(made_record(), tmp_path / "view.html", precision="float32")
    page = browser.new_page(viewport=SCREEN)
    page.goto(path.as_uri())
    page.wait_for_selector(".gmsa-inspector footer")
    settle(page)
    drawn, expected = page.evaluate(
        f"""(() => {{
          const {{ lanes, scene, state }} = {ROOT}, at = lanes.place(state), ratio = lanes.ratio;
          const lane = lanes.lanes.find(({{ kind }}) => kind === "strip"), context = lanes.base.getContext("2d");
          const y = (lane.box.y + lane.box.height / 2) * ratio;
          const pixels = [...Array(scene.frames).keys()].map((frame) =>
            [...context.getImageData(at(frame + 0.5) * ratio, y, 1, 1).data.slice(0, 3)]);
          return [pixels.flat(), [...scene.payload.array(`strip/${{lane.modality}}`)]];
        }})()"""
    )
    assert drawn == expected
    page.close()
