"""Effects of knocking out and patching: against a pass a cell, by finite steps, and on a planted circuit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fifth_block import HeadGate
from small_models import moved, small_clip, small_model
from xarray import Dataset

from analysis.interventions import window_contexts
from analysis.interventions.cells import DIRECTIONS, effect_edits, effect_units, taken_spans, windows_of
from analysis.interventions.edits import EditError
from analysis.interventions.effects import attribution_agreement, effect_map
from analysis.interventions.running import logits_with, run_with
from gmsa_models.attention import ATTENTION
from gmsa_models.data.clip import Clip
from gmsa_models.errors import ArgumentError
from gmsa_models.masks import BlockDiagonal, Toeplitz

BLOCKS = ("baseline", "share-att", "gate-att", "gate-op", "head-gate")
WINDOWS = ((0.0, 4.0), (9.0, 13.0), (3.0, 10.0))


@pytest.fixture(autouse=True)
def fifth(monkeypatch):
    monkeypatch.setitem(ATTENTION, "head-gate", HeadGate)


def model_of(kind, **changes):
    neighbourhood = None if kind == "baseline" else Toeplitz(5)
    return moved(small_model(kind, neighbourhood=neighbourhood, **changes).double(), 0.3)


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize(
    ("source", "norm", "layers"), [(None, "pre", 1), ("mean", "pre", 1), (None, "post", 1), ("clip", "pre", 2)]
)
def test_every_cell_is_a_pass_of_its_own(kind, source, norm, layers):
    model, clip = model_of(kind, norm=norm, layers=layers), small_clip(13)
    source = small_clip(13, 5) if source == "clip" else source
    found = effect_map(model, clip, 2, windows=WINDOWS, source=source)
    quantity = "weights" if source is None else "values"
    cells = [
        (stream, unit) for stream in model.encoders for unit in effect_units(model.encoders[stream].layers[0].attention)
    ]
    sites = [unit.site(stream, 0, quantity) for stream, unit in cells]
    base = logits_with(model, clip, [effect_edits(site, [(0.0, 13.0)], source) for site in sites])[:, 2]
    clean = logits_with(model, clip, [[]])[0, 2]
    np.testing.assert_allclose(found["clean"], clean, rtol=1e-9)
    np.testing.assert_allclose(found["base"].values.flatten(), base, rtol=1e-8, atol=1e-9)
    for direction in DIRECTIONS:
        lists = [
            effect_edits(site, taken_spans(window, direction, 13.0), source) for site in sites for window in WINDOWS
        ]
        after = logits_with(model, clip, lists)[:, 2].reshape(len(sites), -1)
        expected = after - (clean if direction == "noising" else base[:, None])
        effect = found["effect"].sel(direction=direction).values.reshape(len(sites), -1)
        np.testing.assert_allclose(effect, expected, rtol=1e-7, atol=1e-9)
        assert np.abs(effect).max() > 1e-3
    np.testing.assert_allclose(found["error"], found["attribution"] - found["effect"])


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("source", [None, "mean"])
def test_a_window_of_layers_is_taken_in_all_of_them(kind, source):
    """Against passes in which every layer's edits are written out; and it is not the sum of its layers."""
    model, clip = model_of(kind, layers=3), small_clip(13)
    found = effect_map(model, clip, 2, windows=WINDOWS, source=source, layer=(1, 2))
    assert found.attrs["layer"] == "1-2"
    assert "attribution" not in found
    clean, quantity = float(run_with(model, clip).logits[0, 2]), "weights" if source is None else "values"
    spans = [[(0.0, 13.0)], *(taken_spans(each, direction, 13.0) for direction in DIRECTIONS for each in WINDOWS)]

    def logits(stream, unit) -> np.ndarray:
        """With everything taken, then after each window, a row a direction."""
        sites = [unit.site(stream, layer, quantity) for layer in (1, 2)]
        lists = [[edit for site in sites for edit in effect_edits(site, some, source)] for some in spans]
        return logits_with(model, clip, lists)[:, 2].numpy()

    for row, stream in enumerate(model.encoders):
        for place, unit in enumerate(effect_units(model.encoders[stream].layers[1].attention)):
            cell = found.isel(modality=row, unit=place)
            base, *after = logits(stream, unit)
            assert float(cell["base"]) == pytest.approx(base, rel=1e-9)
            expected = np.reshape(after, (len(DIRECTIONS), -1)) - [[clean], [base]]
            effect = cell["effect"].transpose("direction", "window").sel(direction=list(DIRECTIONS))
            np.testing.assert_allclose(effect, expected, rtol=1e-7, atol=1e-9)
    alone = [effect_map(model, clip, 2, windows=WINDOWS, source=source, layer=layer)["effect"] for layer in (1, 2)]
    assert float(np.abs(found["effect"] - alone[0] - alone[1]).max()) > 1e-4
    one = effect_map(model, clip, 2, windows=WINDOWS, source=source, layer=(np.int64(2), 2))
    np.testing.assert_array_equal(one["effect"], alone[1])
    assert one.attrs["layer"] == 2


@pytest.mark.parametrize("layer", [3, (1, 3), (2, 1), (-1, 0), (0, 1, 2), True])
def test_layers_that_the_model_lacks_are_refused(layer):
    with pytest.raises(ArgumentError, match="expected one of the layers 0 to 2, or the first and the last"):
        effect_map(model_of("gate-op", layers=3), small_clip(13), 2, layer=layer)


@pytest.mark.parametrize("kind", BLOCKS)
def test_attribution_is_exact_for_small_changes(kind):
    """Patches with nearly the clip's own values: the error falls with the square of the change."""
    model, clip = model_of(kind), small_clip(13)
    errors = []
    for step in (1.0, 0.1):
        features = {name: clip.floats(name) + np.float32(0.02 * step) for name in clip.features}
        other = Clip(id="near", features=features, labels=())
        found = effect_map(model, clip, 2, windows=WINDOWS, source=other).sel(direction="noising")
        errors.append(np.abs(found["error"]).max() / np.abs(found["effect"]).max())
    assert float(errors[1]) < 0.2 * float(errors[0]) + 1e-6
    assert float(errors[1]) < 0.02


@pytest.mark.parametrize("kind", ["baseline", "gate-att"])
def test_a_window_that_takes_nearly_all_attention_loses_no_digits(kind):
    """Float32: what is left of a query's weights is summed anew, not what is left after subtracting."""
    model, clip = model_of(kind).float(), small_clip(13)
    with torch.no_grad():
        for encoder in model.encoders.values():
            encoder.layers[0].attention.query.weight *= 30
    found = effect_map(model, clip, 2, windows=WINDOWS)
    exact = effect_map(model.double(), clip, 2, windows=WINDOWS)
    weights = run_with(model, clip).layer("visual").weights["global"]
    assert float(weights[..., 3:10].sum(-1).max()) > 1 - 1e-6
    np.testing.assert_allclose(found["effect"], exact["effect"], atol=2e-5 * float(np.abs(exact["effect"]).max()))


@pytest.mark.parametrize("kind", ["baseline", "gate-att"])
def test_a_window_that_takes_nothing_is_a_softmax_of_its_own(kind):
    """Weights that underflow cannot be divided by their sum: they come from the logits."""
    model, clip = model_of(kind), small_clip(13)
    with torch.no_grad():
        for encoder in model.encoders.values():
            encoder.layers[0].attention.query.weight *= 3e4
    assert float(run_with(model, clip).layer("visual").weights["global"][..., :4].sum(-1).min()) == 0
    found = effect_map(model, clip, 2, windows=WINDOWS)
    unit = effect_units(model.encoders["visual"].layers[0].attention)[0]
    lists = [effect_edits(unit.site("visual", 0, "weights"), taken_spans(each, "denoising", 13.0)) for each in WINDOWS]
    after = logits_with(model, clip, lists)[:, 2]
    cells = found.sel(direction="denoising", modality="visual").isel(unit=0)
    np.testing.assert_allclose(cells["base"] + cells["effect"], after, rtol=1e-7)


@pytest.mark.parametrize("kind", ["gate-att", "gate-op"])
def test_windows_that_go_through_together_give_what_each_alone_gives(kind, monkeypatch):
    model, clip = model_of(kind), small_clip(13)
    together = effect_map(model, clip, 2, windows=WINDOWS)
    monkeypatch.setattr(window_contexts, "NUMBERS_TOGETHER", 1)
    alone = effect_map(model, clip, 2, windows=WINDOWS)
    for name in ("effect", "attribution"):
        np.testing.assert_allclose(together[name], alone[name], rtol=1e-9, atol=1e-12)


def test_agreement_of_the_first_order_by_hand():
    dims = ("direction", "modality", "unit", "window")
    effect = np.array([[1.0, -2.0], [0.0, 3.0]])[None, None]
    first = np.array([[1.5, 1.0], [0.5, 3.0]])[None, None]
    table = Dataset({"effect": (dims, effect), "attribution": (dims, first)},
                    {"direction": ["noising"], "modality": ["visual"]})  # fmt: skip
    row = attribution_agreement(table).loc["noising", "visual"]
    assert (row["largest_error"], row["largest_effect"]) == (3.0, 3.0)
    assert row["same_sign"] == pytest.approx(2 / 3)
    assert row["correlation"] == pytest.approx(np.corrcoef(effect.ravel(), first.ravel())[0, 1])
    nothing = attribution_agreement(table * 0).loc["noising", "visual"]
    assert np.isnan(nothing["correlation"])
    assert np.isnan(nothing["same_sign"])


def planted(strength: float = 1.0):
    """A model in which frames of marker 1 say the class, and head 2 of the local branch alone carries it.

    Width 4 x 3: component 6 of a frame, in head 2's part, is the marker; values of every other head are 0, and so is
    the global branch's output. Attention is even over the neighbourhood.
    """
    model = small_model("gate-op", ("visual",), neighbourhood=BlockDiagonal(4), classes=2).double()
    block = model.encoders["visual"].layers[0].attention
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
        block.value.weight[6, 6] = strength
        block.output_local.weight[0, 6] = 1.0
        model.encoders["visual"].layers[0].norm_attention.weight.fill_(1.0)
        model.classifier.weight.zero_()
        model.classifier.weight[1, 0] = 1.0
    return model


def planted_clip(at: slice) -> Clip:
    features = np.zeros((16, 12), np.float32)
    features[:, 1] = 1.0
    features[at, 6] = 2.0
    return Clip(id="planted", features={"visual": features}, labels=())


def test_a_planted_circuit_is_found_and_nothing_else():
    found = effect_map(planted(), planted_clip(slice(8, 12)), 1, windows=[(i, i + 4.0) for i in (0.0, 4.0, 8.0, 12.0)])
    noising = found["effect"].sel(direction="noising", modality="visual")
    carrying = (found["branch"] == "local") & found["head"].isin([-1, 2])
    assert float(np.abs(noising.where(~carrying)).max()) < 1e-9
    strongest = noising.where(carrying, drop=True)
    assert (strongest.isel(window=2) < -0.1).all()
    assert strongest.argmin("window").values.tolist() == [2, 2]
    denoising = found["effect"].sel(direction="denoising", modality="visual").where(carrying, drop=True)
    assert denoising.argmax("window").values.tolist() == [2, 2]


def test_nothing_is_found_where_nothing_is_planted():
    found = effect_map(planted(0.0), planted_clip(slice(8, 12)), 1, windows=windows_of(planted_clip(slice(0, 1)), 4))
    assert float(np.abs(found["effect"]).max()) < 1e-9


def test_windows_cover_the_clip_and_errors_are_clear():
    clip = small_clip(13)
    assert windows_of(clip) == ((0.0, 10.0), (10.0, 13.0))
    found = effect_map(model_of("gate-op"), clip, "Food")
    assert found["start"].values.tolist() == [0.0, 10.0]
    assert found.attrs["intervention"] == "knock-out"
    with pytest.raises(EditError, match="expected at least one frame, 1 s"):
        windows_of(clip, 0.5)
    with pytest.raises(EditError, match="no frame starts in 20 to 30 s"):
        effect_map(model_of("gate-op"), clip, 2, windows=[(20.0, 30.0)])
    with pytest.raises(EditError, match="the clip to patch from has 7 frames"):
        effect_map(model_of("gate-op"), clip, 2, source=small_clip(7))
    with pytest.raises(ValueError, match="control"):
        effect_map(small_model("none"), clip, 2)
