"""A live file: the page itself makes the edited passes, opened from disk, without a kernel and without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

import numpy as np
import pytest

from analysis import EditEngine, inspect_clip
from analysis.inspect.live import live_model
from figures.inspector import write_html
from gmsa_models import load, read_clips
from tests.browser import SCREEN, started_browser
from tests.figures.inspector.test_inspector_what_if import ROOT, Page


@pytest.fixture(scope="module")
def browser() -> Iterator:
    yield from started_browser()


def test_a_live_file_needs_no_kernel_and_no_network(browser, tmp_path):
    model, clip = load("share-att-tp"), next(iter(read_clips("demo:3"))).cut(90)
    engine, records = EditEngine(model, clip), [inspect_clip(model, clip)]
    path = write_html(records, tmp_path / "live.html", {"branch": "local", "head": 3}, live=[live_model(model, clip)])
    texts = ["scale audio/0/global/contexts by 0.3", "neighbourhood visual/0/local/neighbourhood as TP9"]
    context, problems = browser.new_context(viewport=SCREEN), []
    page = context.new_page()
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
    page.goto(f"{path.as_uri()}#edits={quote(json.dumps(texts))}")
    page.wait_for_selector(".effect >> text=logit")
    view = Page(page, engine)
    assert view.edits() == texts
    for text in ("knock-out visual/0/local/weights[head 3] keys 20..40", "drop */input at 50..60"):
        view.write(text)
        edited = view.record()
        scores = view.evaluate(f"[...{ROOT}.whatIf.pass.answer.probabilities]")
        np.testing.assert_allclose(scores, edited["score"].values, atol=1e-5)
        expected = edited["attention"].sel(modality="visual", branch="local", head=3).values
        np.testing.assert_allclose(view.map(), expected, atol=1e-5)
    view.write("knock-out visual/0/local/weights keys 400..500")
    assert view.page.text_content(".problem") == "no frame starts in 400 to 500 s; the clip has 90 frames of 1 s"
    context.close()
    assert problems == []
