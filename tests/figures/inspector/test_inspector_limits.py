"""Records that are larger than what a browser can hold: the smaller view, and what says so."""

import numpy as np
import pytest

from figures.inspector import Inspector, write_html
from figures.inspector.choices import Choices
from figures.inspector.limits import LARGEST, LEFT_OUT, fitted_records
from figures.inspector.payload import pack
from figures.inspector.records import split_records
from tests.browser import SCREEN, settle, started_browser
from tests.inspector_records import made_record
from tests.unpacked import Unpacked

FRAMES, HEADS = 29, 8


def maps_of(records, precision="float32"):
    """Bytes of the maps that are sent."""
    arrays = Unpacked(pack(records, precision)).header["arrays"]
    kinds = ("attention", "gradient", "gate", "similarity")
    return sum(about.get("bytes", 0) for name, about in arrays.items() if set(kinds) & set(name.split("/")[:2]))


def test_what_fits_is_as_it_was():
    records = split_records(made_record(FRAMES, HEADS))
    assert all(one is other for one, other in zip(fitted_records(records, "float32"), records, strict=True))


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("share", [0.9, 0.6, 0.35])
def test_the_first_heads_that_fit_are_kept(precision, share):
    records = split_records(
        [made_record(FRAMES, HEADS), made_record(FRAMES, HEADS, name="baseline", branches=("global",))]
    )
    whole = maps_of(records, precision)
    fitted = fitted_records(records, precision, int(share * whole))
    heads = fitted[0].sizes["head"]
    assert [record.sizes["head"] for record in fitted] == [heads, heads]
    assert 1 <= heads < HEADS
    assert fitted[0].attrs[LEFT_OUT].startswith(f"Head{'s 0 to' if heads > 1 else ''} {heads - 1} of {HEADS} ")
    one_head = (whole - maps_of([each.isel(head=slice(0, 1)) for each in records], precision)) / (HEADS - 1)
    assert share * whole - 1.1 * one_head < maps_of(fitted, precision) <= 1.01 * share * whole
    np.testing.assert_array_equal(fitted[0]["attention"], records[0]["attention"][:, :, :heads])


def test_where_not_even_one_head_fits_there_are_no_maps_and_all_curves():
    (record,) = split_records(made_record(FRAMES, HEADS))
    (fitted,) = fitted_records([record], "float32", 20_000)
    assert "attention" not in fitted
    assert "similarity" in fitted
    assert fitted.attrs[LEFT_OUT].startswith("No maps (attention) shown: all maps of 29 frames would take ")
    (bare,) = fitted_records([record], "float32", 1)
    assert not {"attention", "gradient_norm", "similarity"} & set(bare)
    assert Choices([bare]).start()["branch"] == ""
    pack([bare])
    assert {"profile", "sensitivity"} & set(bare) == {"profile", "sensitivity"} & set(record)


def test_page_and_widget_show_the_smaller_view_and_say_so(tmp_path, monkeypatch):
    record, told = made_record(FRAMES, HEADS), []
    monkeypatch.setattr(fitted_records, "__defaults__", (int(0.5 * maps_of([record])),))
    path = write_html(record, tmp_path / "large.html", precision="float32", notify=told.append)
    (line,) = told
    assert line.startswith("Heads 0 to ")
    widget = Inspector(record)
    assert widget.records[0].sizes["head"] == HEADS  # figures are of the whole record
    with pytest.raises(Exception, match="these records have heads 0 to"):
        widget.head = HEADS - 1
    browsers = started_browser()
    page = next(browsers).new_page(viewport=SCREEN)
    page.goto(path.as_uri())
    page.wait_for_selector(".gmsa-inspector footer")
    assert line in page.inner_text(".gmsa-inspector footer")
    next(browsers, None)


def test_a_large_page_stands_before_its_other_maps_have_come(tmp_path, monkeypatch):
    monkeypatch.setattr("figures.inspector.html.AT_ONCE", 0)
    record = made_record(FRAMES, HEADS)
    paths = [write_html(record, tmp_path / "parts.html", precision="float32")]
    monkeypatch.setattr("figures.inspector.html.AT_ONCE", LARGEST)
    paths.append(write_html(record, tmp_path / "whole.html", precision="float32"))
    values = "document.querySelector('.gmsa-inspector').inspector.scene.array('0/attention/visual/global/7')"
    browsers, found = started_browser(), []
    browser = next(browsers)
    for path in paths:
        page = browser.new_page(viewport=SCREEN)
        page.goto(path.as_uri())
        page.wait_for_selector(".gmsa-inspector footer")
        while not page.evaluate(f"Boolean({values})"):
            page.wait_for_timeout(20)
        page.locator(".gmsa-inspector").press("ArrowDown")
        settle(page)
        found.append((page.evaluate(f"[...{values}]"), page.locator(".gmsa-inspector .maps").inner_text()))
        assert bool(page.evaluate("document.getElementById('rest').textContent")) == (path == paths[0])
        page.close()
    next(browsers, None)
    assert found[0] == found[1]
    np.testing.assert_array_equal(
        found[0][0], record["attention"].sel(modality="visual", branch="global")[7].values.ravel()
    )
