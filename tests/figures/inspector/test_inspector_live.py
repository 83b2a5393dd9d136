"""A live file: the page itself makes the edited passes, opened from disk, without a kernel and without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

import numpy as np
import pytest

from analysis import EditEngine, inspect_clip
from analysis.inspect.live import live_model
from analysis.interventions.edit_texts import GRAMMAR
from analysis.record.edits import record_edits
from figures.inspector import write_html
from gmsa_models import load, read_clips
from tests.browser import SCREEN, started_browser
from tests.figures.inspector.test_inspector_what_if import ROOT, Page

# One of each kind, in the order of the grammar.
EDITS = (
    "knock-out */0/local/weights[heads 0, 2] queries 5..70 keys 10..40 after-softmax",
    "patch visual/0/global/values from mean at 20..60",
    "force-gate */0/gate to 0.25 branch local at 10..80",
    "neighbourhood */0/local/neighbourhood as TD9x3",
    "scale audio/0/global/contexts[head 1] by -1.5",
    "drop visual/input at 30..60",
    "move */input at 30..60 to 2",
)


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


def test_python_of_each_kind_of_edit_gives_the_logits_of_the_page(browser, tmp_path):
    assert [text.split()[0] for text in EDITS] == [form.split()[0] for form in GRAMMAR]
    model, clip = load("gate-op-tp30"), next(iter(read_clips("demo:3")))
    record = inspect_clip(model, clip)
    path = write_html([record], tmp_path / "live.html", live=[live_model(model, clip)])
    context = browser.new_context(viewport=SCREEN)
    page = context.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector(".gmsa-inspector footer .live")
    view = Page(page, EditEngine(model, clip))
    view.settle()
    for text in EDITS:
        view.evaluate(f"{ROOT}.whatIf.list.set([{{ edit: {json.dumps(text)}, on: true }}])")
        view.settle()
        logits = np.array(view.evaluate(f"[...{ROOT}.whatIf.pass.answer.logits]"))
        assert np.abs(logits - record["logit"].values).max() > 1e-3, text
        page.get_by_role("button", name="Copy the edits as Python").click()
        namespace: dict = {}
        exec(compile(page.input_value(".code"), text, "exec"), namespace)
        assert record_edits(namespace["edited"].attrs) == (text,)
        np.testing.assert_allclose(namespace["edited"]["logit"].values, logits, rtol=0, atol=1e-4, err_msg=text)
        namespace["inspector"].close()
    context.close()
