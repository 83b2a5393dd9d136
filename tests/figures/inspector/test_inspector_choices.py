"""Which views the records allow: refused values, and the nearest view, in Python and in the page alike."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import traitlets

from figures.inspector import Inspector, write_html
from figures.inspector.choices import Choices
from figures.inspector.still import draw_view
from gmsa_models.errors import ArgumentError
from tests.browser import SCREEN, started_browser
from tests.inspector_records import explained_record, layered_record, made_record

PAGE = "document.querySelector('.gmsa-inspector').inspector"


def records() -> list:
    """Models that differ in all that can differ: a shared split of heads, one branch less, no attention, no methods."""
    shared = explained_record(frames=13, heads=5, branches=("global", "local"))
    shared["attention"].values[:, 0, 2:] = np.nan
    shared["attention"].values[:, 1, :2] = np.nan
    single = made_record(13, 3, name="single", branches=("global",), seed=1).drop_vars(["gate", "gate_map"])
    heard = made_record(13, 2, name="heard", branches=("combined", "local"), modalities=("audio",), seed=2)
    bare = made_record(13, name="control", seed=3).drop_vars(["attention", "gate_map", "gradient_norm"])
    return [shared, single, heard, bare.drop_dims("branch")]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("frame", 13, "frame is 13; these records have frames 0 to 12"),
        ("frame", -1, "frame is -1"),
        ("head", 99, "head is 99; these records have heads 0 to 4, and -1 for all"),
        ("head", -2, "head is -2"),
        ("span", [3, 14], r"span is \[3, 14\]; expected .* 0 to 13"),
        ("span", [7, 7], r"span is \[7, 7\]"),
        ("span", [9, 2], r"span is \[9, 2\]"),
        ("modality", "smell", "modality is 'smell'; these records have 'visual', 'audio'"),
        ("branch", "far", "branch is 'far'; these records have 'global', 'local', 'combined', ''"),
        ("model", "other", "model is 'other'; these records have 'gate-op-tp30', 'single', 'heard', 'control'"),
        ("against", "other", "against is 'other'"),
        ("against", "gate-op-tp30", "against is 'gate-op-tp30', the model shown; expected another"),
        ("class_", 4, "class_ is 4; expected -1"),
        ("explanation", "lime", "explanation is 'lime'; these records have 'saliency', 'rollout', ''"),
    ],
)
def test_what_no_record_has_is_refused(name, value, message, tmp_path):
    inspector = Inspector(records())
    before = inspector.current_view()
    with pytest.raises(traitlets.TraitError, match=message):
        setattr(inspector, name, value)
    assert inspector.current_view() == before
    with pytest.raises(traitlets.TraitError, match=message):
        Inspector(records(), **{name: value})
    with pytest.raises(ArgumentError, match=message):
        write_html(records(), tmp_path / "view.html", {"model": "gate-op-tp30", name: value})
    assert not list(tmp_path.iterdir())


def test_a_map_beside_that_no_record_has_is_refused():
    bare = made_record().drop_vars(["gate_map", "gradient_norm"])
    for left in ("gate", "gradient"):
        with pytest.raises(traitlets.TraitError, match=f"left is '{left}'; these records have 'similarity'"):
            Inspector(bare, left=left)


@pytest.mark.parametrize(
    ("start", "change", "expected"),
    [
        ({"head": 1}, {"branch": "local"}, {"head": 2}),
        ({"branch": "local", "head": 4}, {"branch": "global"}, {"head": 1}),
        ({"head": -1}, {"branch": "local"}, {"head": -1}),
        ({}, {"head": 3}, {"head": 1}),
        ({"branch": "local", "head": 4}, {"model": "single"}, {"branch": "global", "head": 2, "explanation": ""}),
        ({"left": "gate"}, {"model": "single"}, {"left": "similarity"}),
        ({"against": "heard"}, {"model": "heard"}, {"modality": "audio", "branch": "combined", "against": ""}),
        ({}, {"model": "control"}, {"branch": "", "head": 0, "explanation": ""}),
        ({"model": "single"}, {"model": "gate-op-tp30"}, {"explanation": "saliency"}),
    ],
)
def test_what_does_not_go_with_a_choice_becomes_the_nearest(start, change, expected):
    inspector = Inspector(records(), **start)
    for name, value in change.items():
        setattr(inspector, name, value)
    assert expected.items() <= inspector.current_view().items()
    if "against" not in start:  # a model held against itself is refused at the start
        assert Inspector(records(), **start | change).current_view() == inspector.current_view()
    assert inspector.figure().axes


@pytest.mark.parametrize(("head", "view"), [(4, "side"), (4, "difference"), (-1, "difference")])
def test_every_pair_of_models_has_a_figure(head, view):
    """The second model lacks what the first one shows: a branch, heads, a modality, attention."""
    given, choices = records(), Choices(records())
    for model, other in itertools.permutations(choices.models, 2):
        shown = choices.nearest(choices.start() | {"model": model, "against": other, "head": head, "view": view})
        assert draw_view(given, shown).axes


def test_page_and_python_choose_the_same(tmp_path):
    choices, page_views = Choices(records()), []
    models = [*choices.models]
    for model, modality, branch, head, left, explanation in itertools.product(
        models,
        ("visual", "audio"),
        ("", "global", "local", "combined"),
        (-1, 0, 2, 4),
        ("similarity", "gate"),
        ("", "rollout"),
    ):
        against = models[(len(page_views) % 5) - 1]
        view = choices.start() | {"model": model, "modality": modality, "branch": branch, "head": head, "left": left,
                                  "explanation": explanation, "against": against}  # fmt: skip
        page_views.append(view)
    browsers = started_browser()
    page = next(browsers).new_page(viewport=SCREEN)
    page.goto(write_html(records(), tmp_path / "view.html").as_uri())
    page.wait_for_selector(".gmsa-inspector footer")
    found = page.evaluate(
        f"(views) => views.map((view) => {PAGE}.scene.valid({{...{PAGE}.state, ...view}}))", page_views
    )
    first = page.evaluate(f"{PAGE}.state")
    next(browsers, None)
    for one, view in zip(found, page_views, strict=True):
        near = choices.nearest(view)
        assert {name: one[name] for name in near} == near, json.dumps(view)
    assert {name: first[name] for name in choices.start()} == choices.start()


def test_a_layer_that_the_model_lacks_becomes_its_first():
    several = layered_record(3, frames=13).isel(layer=[1, 2])
    plain = made_record(13, name="single", seed=5)
    inspector = Inspector([several, plain], layer=2)
    assert (inspector.layer, inspector.choices.start()["layer"]) == (2, 1)
    with pytest.raises(traitlets.TraitError, match="layer is 3; these records have 1, 2, 0"):
        inspector.layer = 3
    inspector.model = "single"
    assert inspector.layer == 0
    inspector.model = "gate-op-tp30"
    assert inspector.layer == 1
    inspector.layer, inspector.against = 2, "single"
    figure = inspector.figure()
    assert ", layer 2 and 0 of 1, 2" in figure.get_suptitle()
    drawn = {axes.get_title(): axes.images[0].get_array() for axes in figure.axes if axes.images}
    (title,) = (title for title in drawn if "TP30" in title and "global" in title)
    expected = several["attention"].sel(layer=2, modality="visual", branch="global", head=0)
    np.testing.assert_array_equal(drawn[title], expected)
