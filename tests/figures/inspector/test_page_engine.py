"""The engine of a live page, in a real browser: its passes are the model's, and its edits those of `run_with`."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import pytest
import xarray as xr
from small_models import moved, small_clip, small_model

from analysis import inspect_clip
from analysis.inspect.live import live_model
from analysis.interventions.edit_texts import edits_from_texts
from analysis.interventions.edits import EditError
from analysis.interventions.running import run_with
from analysis.interventions.sites import SiteError
from figures.inspector.live import pack_live
from figures.inspector.modules import FOLDER, join, live_module_text
from figures.inspector.payload import pack
from gmsa_models import Clip, load, read_clips
from gmsa_models.checkpoints.files import ZOO
from gmsa_models.masks import BlockDiagonal, ChangePoints, Toeplitz, ToeplitzDilated
from tests.browser import started_browser
from tests.unpacked import Unpacked

ADDRESS = "http://live.test/"
ENGINE = join({"page_engine": (FOLDER / "page_engine.js").read_text(encoding="utf-8")})
PAGE = f"""<!doctype html><script id="live" type="text/plain">{{module}}</script><script type="module">
{ENGINE}
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const letters = (array) => {{
  const parts = [], all = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  for (let at = 0; at < all.length; at += 32768) parts.push(String.fromCharCode(...all.subarray(at, at + 32768)));
  return [array.constructor.name, btoa(parts.join(""))];
}};
const packed = (answer) => Object.fromEntries(Object.entries(answer).map(([name, value]) => [name, letters(value)]));
window.open = async (weights, module) => {{
  window.engine?.close();
  window.engine = new PageEngine(module ?? document.getElementById("live").textContent, bytes(weights).buffer);
  return window.engine.ready;
}};
const read = ({{ logits, probabilities, variables }}) => packed({{ logits, probabilities, ...variables }});
window.answers = (lists, shown) => Promise.all(
  lists.map((edits) => window.engine.answer(edits, shown).then(read, (error) => error.message)));
</script>"""
PARTS = ("attention", "neighbourhood", "profile", "gate", "contribution", "score")
KINDS = ("baseline", "share-att", "gate-att", "gate-op")
NEIGHBOURHOODS = (BlockDiagonal(4), Toeplitz(5), ToeplitzDilated(8, 2))
TYPES = {"Float32Array": np.float32, "Uint8Array": np.uint8}


class Engine:
    """A page with the engine in it."""

    def __init__(self, page) -> None:
        self.page = page

    def open(self, model, clip: Clip, records: Sequence[xr.Dataset] = (), module: str | None = None) -> dict:
        record = inspect_clip(model, clip, parts=("score",), layers="all")
        weights = pack_live(live_model(model, clip), [*records, record])
        return self.page.evaluate("([weights, module]) => window.open(weights, module)", [_base64(weights), module])

    def answers(self, lists: Sequence[Sequence[str]], shown: Sequence[str] | None = None) -> list:
        """Arrays by name of each list of edits, or the message where it was refused."""
        answers = self.page.evaluate("([lists, shown]) => window.answers(lists, shown)", [lists, shown])
        return [each if isinstance(each, str) else _arrays(each) for each in answers]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _arrays(answer: dict) -> dict[str, np.ndarray]:
    return {name: np.frombuffer(base64.b64decode(text), TYPES[kind]) for name, (kind, text) in answer.items()}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    browsers, problems = started_browser(), []
    page = next(browsers).new_page()
    page.on("pageerror", lambda error: problems.append(str(error)))
    text = PAGE.replace("{module}", live_module_text())
    page.route("**/*", lambda route: route.fulfill(body=text, content_type="text/html; charset=utf-8"))
    page.goto(ADDRESS)
    yield Engine(page)
    next(browsers, None)
    assert problems == []


def check_variables(answer: dict[str, np.ndarray], record: xr.Dataset) -> None:
    """Logits to 1e-4, maps to 1e-5, lines likewise by their size; under all the names that the payload has of them."""
    np.testing.assert_allclose(answer.pop("logits"), record["logit"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(answer.pop("probabilities"), record["score"], rtol=0, atol=1e-5)
    payload = Unpacked(pack(record))
    names = {name for name in payload.header["arrays"] if name[0].isdigit()}
    assert set(answer) == names
    for name in names:
        expected = payload[name].ravel()
        atol = 1e-5 * max(1.0, float(np.abs(expected).max())) if "lane" in name else 1e-5
        np.testing.assert_allclose(answer[name], expected, rtol=0, atol=atol, err_msg=name)


@cache
def long_clip(frames: int) -> Clip:
    """Frames of two demo videos, one after the other."""
    pair = [next(iter(read_clips(f"demo:{number}"))) for number in (3, 5)]
    features = {name: np.concatenate([each.features[name] for each in pair])[:frames] for name in ("visual", "audio")}
    return Clip(id="long", features=features, labels=(), source="made", dataset=pair[0].dataset)


def lists_of(model, frames: int) -> list[list[str]]:
    """No edit, several, and moved frames; the last of the frames that the model takes are among them."""
    end = min(frames, model.config.max_frames)
    edits = ["drop */input at 3..9"] if frames > 9 else []
    if model.config.attention != "none" and frames > 1:
        edits += [
            f"scale */0/global/contexts[head 1] by -1.5 at 0..{end - 1}",
            f"knock-out */0/*/weights keys {end - 2}..{end - 1}",
        ]
    move = [["move */input at 3..9 to 20"]] if end > 30 else []
    return [[], edits, *move] if edits else [[]]


@pytest.mark.parametrize("name", sorted(path.stem for path in ZOO.glob("*.safetensors")))
def test_the_pass_of_every_shipped_model(engine, name):
    model = load(name)
    for frames in (1, 2, 37):
        lists = lists_of(model, frames)
        engine.open(model, long_clip(frames))
        for edits, answer in zip(lists, engine.answers(lists), strict=True):
            check_variables(answer, inspect_clip(model, long_clip(frames), edits=edits, parts=PARTS))
    lists, shown = lists_of(model, 310), ["0/attention/audio/global/1", "0/attention/audio/local/3"]
    assert engine.open(model, long_clip(310)) == {"products": "VectorProducts"}
    for edits, answer in zip(lists, engine.answers(lists, shown), strict=True):
        trace = run_with(model, long_clip(310), edits)
        np.testing.assert_allclose(answer["logits"], trace.logits[0], rtol=0, atol=1e-4)
        weights = {branch: each[0] for branch, each in trace.layer("audio").weights.items()}
        assert {each for each in answer if "attention" in each} == {
            each for each in shown if each.split("/")[3] in weights
        }
        for branch in ("global", "local"):
            if branch in weights:
                values = answer[f"0/attention/audio/{branch}/{1 if branch == 'global' else 3}"]
                np.testing.assert_allclose(
                    values, weights[branch][1 if branch == "global" else -1].ravel(), rtol=0, atol=1e-5
                )


def edit_lists(kind: str) -> list[list[str]]:
    """Every kind of edit, at every kind of site, alone and together; of a model of two layers and 13 frames."""
    branch = "global" if kind == "baseline" else "local"
    lists = [
        [],
        [f"knock-out visual/0/{branch}/weights[heads 2, 3] queries 1..5 keys 2..6"],
        [f"knock-out visual/1/{branch}/weights[head 3] queries 1..5 keys 2..6 after-softmax"],
        ["knock-out visual/0/*/weights[head 3] keys 0..30"],
        ["knock-out */*/global/weights", "drop audio/input at 4..6"],
        [f"scale audio/0/*/contexts[head 3] by -2 at 2..6; scale visual/1/{branch}/contexts by 0.5"],
        ["drop */input at 2..4"],
        [
            "drop visual/input at 0..1",
            "drop visual/input at 7..13",
            f"knock-out visual/0/{branch}/weights[head 2] keys 2..3",
        ],
        ["move visual/input at 1..3 to 4"],
        ["move */input at 7..13 to 0"],
        ["patch visual/input from zero at 3..9; patch audio/input from mean at 0..4"],
        ["patch audio/input from own at 3..5 start 8.2"],
        ["patch visual/pooled from zero"],
        [f"scale visual/0/{branch}/contexts[head 2] by 3; patch visual/0/{branch}/contexts[head 2] from zero at 1..4"],
        [
            f"scale visual/0/{branch}/contexts[head 2] by 3",
            f"patch visual/0/{branch}/contexts[head 2] from mean at 1..4",
        ],
        ["patch visual/pooled from mean"],
        ["patch audio/1/output from mean at 2..4"],
        *([f"patch */{layer}/{quantity} from zero at 1..4"] for layer, quantity in ((0, "input"), (1, "encoded"))),
        *(
            [f"patch visual/{number % 2}/{branch}/{quantity}[head 2] from {source} at 1..4"]
            for number, quantity in enumerate(("queries", "keys", "values", "logits", "contexts"))
            for source in ("mean", "own start 6")[number % 2 :]
        ),
        ["patch visual/0/global/weights[head 1] from own start 3 at 1..4"],
    ]
    if kind != "baseline":
        lists += [[f"neighbourhood visual/*/local/neighbourhood as {text}"] for text in ("BD3", "TP7", "TD8x3", "TP1")]
        lists += [["neighbourhood */*/local/neighbourhood as TP9", "knock-out */0/local/weights keys 2..5"]]
    if kind in ("gate-att", "gate-op"):
        lists += [
            ["force-gate visual/1/gate to 0.3 branch local at 2..5"],
            ["force-gate */*/gate to 0"],
            ["patch visual/0/gate from mean at 1..3"],
            [
                "scale visual/1/local/contexts[head 0] by 3",
                "knock-out visual/0/global/weights[head 1] keys 0..2",
                "patch visual/0/global/values from zero at 3..5",
                "force-gate audio/0/gate to 0.25 branch local",
                "move visual/input at 1..3 to 4",
                "knock-out visual/0/global/weights[head 1] keys 5..6 after-softmax",
            ],
        ]
    return lists + ([["force-gate visual/1/gate[head 2] to 1"]] if kind == "gate-att" else [])


def test_answers_are_handed_over_and_not_copied_once_more(engine):
    count = """const post = self.postMessage.bind(self);
self.postMessage = (message, moved = []) => {
  const { variables } = message.reply ?? {};
  if (variables) variables.counts = Float32Array.of(moved.length, Object.keys(variables).length + 1);
  post(message, moved);
};
"""
    model = small_deep_model("gate-att")
    engine.open(model, small_clip(13, 0), module=count + live_module_text())
    first, again = engine.answers([[], []])
    moved, arrays = first.pop("counts")
    assert moved == arrays > 40
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])


def small_deep_model(kind: str, **changes):
    neighbourhood = None if kind == "baseline" else NEIGHBOURHOODS[KINDS.index(kind) - 1]
    return moved(small_model(kind, layers=2, neighbourhood=neighbourhood, **changes), 0.3)


@pytest.mark.parametrize("kind", KINDS)
def test_every_edit_is_that_of_run_with(engine, kind):
    check_edits(engine, small_deep_model(kind, widths={"visual": 16, "audio": 8}), edit_lists(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_of_models_with_norms_last_and_without_biases_and_projections(engine, kind):
    check_edits(engine, small_deep_model(kind, norm="post", bias=False), [[], *edit_lists(kind)[1::6]])


@pytest.mark.parametrize("kind", KINDS[1:])
def test_of_models_whose_neighbourhoods_are_the_clips_segments(engine, kind):
    model = moved(small_model(kind, layers=2, neighbourhood=ChangePoints(2)), 0.3)
    check_edits(engine, model, [[], ["neighbourhood */0/local/neighbourhood as SP0-3-4"], *edit_lists(kind)[1::9]])


@pytest.mark.parametrize("frames", [1, 2, 4])
@pytest.mark.parametrize("name", ["gate-op-tp30", "gate-att-tp10"])
def test_heads_of_a_short_clip_that_are_left_nothing(engine, name, frames):
    """Nothing of a map is left to multiply: the product is 0, not what the memory held before."""
    model, clip = load(name), long_clip(frames)
    engine.open(model, clip)
    lists = [
        ["scale visual/0/global/contexts by 3"],
        ["knock-out visual/0/*/weights"],
        ["knock-out audio/0/local/weights"],
    ]
    for edits, answer in zip(lists, engine.answers(lists, []), strict=True):
        expected = inspect_clip(model, clip, edits=edits_from_texts(edits), parts=("score",))["logit"]
        np.testing.assert_allclose(answer["logits"], expected, rtol=0, atol=1e-4)


def check_edits(engine, model, lists: list[list[str]]) -> None:
    clip = small_clip(13, 0)
    engine.open(model, clip)
    answers = engine.answers(lists)
    for edits, answer in zip(lists, answers, strict=True):
        assert not isinstance(answer, str), (edits, answer)
        assert changes(answer, answers[0]) == (edits != [] and edits != ["patch visual/pooled from mean"]), edits
        record = inspect_clip(model, clip, edits=edits_from_texts(edits), layers="all", parts=PARTS)
        check_variables(dict(answer), record)


@pytest.mark.parametrize("layers", [1, 2])
def test_of_models_of_several_scales(engine, layers):
    model = moved(small_model("gate-op-scales", layers=layers), 0.3)
    check_edits(
        engine,
        model,
        [
            [],
            ["force-gate visual/0/gate to 0.25", "force-gate visual/0/gate to 0.5 branch TD9x2 at 2..7"],
            ["force-gate */0/gate to 0 branch BD3"],
            ["patch audio/0/TP5/gate from mean"],
            ["force-gate visual/0/gate to 0.9", "force-gate visual/0/TP5/gate to 0.8"],
            ["knock-out visual/0/TP5/weights[head 1] keys 3..7", "scale */*/TD9x2/contexts by 0.5"],
            ["neighbourhood */0/TP5/neighbourhood as TP1"],
            ["neighbourhood */*/*/neighbourhood as SP0-3-4"],
            ["neighbourhood */*/BD3/neighbourhood as TP3+BD5"],
            ["move */input at 3..9 to 1", "drop audio/input at 2..4"],
        ],
    )


def test_of_a_local_layer_before_a_global_one(engine):
    model = moved(small_model("local-then-global"), 0.3)
    lists = [
        [],
        ["knock-out visual/0/local/weights keys 3..7"],
        ["scale */1/global/contexts[head 2] by -1.5"],
        ["neighbourhood */0/local/neighbourhood as TP5"],
        ["knock-out */*/*/weights queries 2..5 keys 1..9"],
    ]
    check_edits(engine, model, lists)


def test_weight_outside_the_mask_has_no_profile(engine):
    model, clip = small_deep_model("gate-op"), small_clip(13, 0)
    engine.open(model, clip)
    edits = ["patch visual/1/local/weights[head 2] from mean at 1..4"]
    (answer,) = engine.answers([edits])
    np.testing.assert_allclose(answer["logits"], run_with(model, clip, edits).logits[0], rtol=0, atol=1e-4)
    assert "1/lane/profile/visual/local" not in answer
    assert "1/lane/profile/visual/global" in answer


def changes(answer: dict[str, np.ndarray], plain: dict[str, np.ndarray]) -> bool:
    return any(name not in answer or np.abs(answer[name] - values).max() > 1e-4 for name, values in plain.items())


REFUSED = (
    "",
    "knock-out",
    "mute visual/0/local/weights",
    "knock-out visual/0/local/weights keys",
    "knock-out visual/0/local/weights keys 3",
    "knock-out visual/0/local/weights keys 5..3",
    "knock-out visual/0/local/weights keys -1..3",
    "knock-out visual/0/local/weights keys 1..2 keys 3..4",
    "knock-out visual/0/local/weights keys 100..123456789.5",
    "knock-out visual/0/local/contexts",
    "knock-out visual/0/local/weights[head 9]",
    "knock-out */0/*/weights[heads 1, 9]",
    "knock-out visual/3/local/weights",
    "knock-out smell/0/local/weights",
    "knock-out visual//weights",
    "knock-out it's/0/local/weights",
    'knock-out visual/0/local/weights "keys"',
    'knock-out visual/0/local/weights keys "1..2',
    "force-gate visual/0/gate",
    "force-gate visual/0/gate to 1.5",
    "force-gate visual/0/gate to x",
    "force-gate visual/0/gate to 0.5 branch combined",
    "force-gate visual/0/gate to 0.5 branch TP5",
    "force-gate visual/0/gate to 0.5; force-gate */0/gate to 0.25 at 2..4",
    "neighbourhood visual/0/local/neighbourhood as TP",
    "neighbourhood visual/0/local/neighbourhood as TD30",
    "neighbourhood visual/0/local/neighbourhood as BD0",
    "scale visual/0/local/contexts by 1e999",
    "drop visual/0/input at 1..2",
    "drop visual/input at 0..99",
    "drop visual/input at 20..30",
    "drop visual/input",
    "move visual/input at 1..5 to 11.5",
    "move visual/input at 1..5 to -2",
    "move visual/input at 1..5 to 3; patch visual/input from zero at 2..3",
    "patch visual/0/local/values",
    "patch visual/0/local/values from other-clip",
    'patch visual/0/local/values from "a clip; and more"',
    'patch visual/0/local/values from "a\\x"',
    "patch visual/0/local/values from tensor:0123",
    "patch visual/0/local/values from own at 1..3",
    "patch visual/0/local/values from zero at 1..3 start 2",
    "patch visual/0/local/values from own at 1..3 start 12",
    "patch visual/0/local/mask from zero",
    "patch visual/pooled from zero at 1..3",
    "patch visual/pooled from own",
    "patch visual/pooled from own start 3",
    "drop visual/input at 3..5;",
)


def test_what_cannot_be_made_is_refused_in_the_words_of_run_with(engine):
    model, clip = small_deep_model("gate-op"), small_clip(13, 0)
    engine.open(model, clip)
    answers = engine.answers([[text] for text in REFUSED])
    for text, answer in zip(REFUSED, answers, strict=True):
        with pytest.raises((EditError, SiteError)) as error:
            run_with(model, clip, edits_from_texts([text]))
        assert answer == str(error.value), text
    assert isinstance(engine.answers([["drop visual/input at 3..5"]])[0], dict)
