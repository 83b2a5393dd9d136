"""inspect_module: records of modules that are no GMSA model; G against jacrev; adapters; the page that explains it."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from foreign_models import FOREIGN
from independent_gmsa import Classifier
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from analysis import inspect_module, open_record, save_record
from analysis.capture import CaptureError, GivenAttention, TokenLayout, capture, capture_adapted
from analysis.errors import RecordError
from analysis.module_sites import Probes
from analysis.module_view import ModuleClip, _log_odds
from analysis.sensitivity.norms import local_sensitivity
from gmsa_models.masks import Toeplitz

PAGE = Path(__file__).parents[3] / "docs" / "any_model.md"
EXACT = Probes(None)
CLASS_TOKEN = TokenLayout(31, 2, front=1)  # as if the first of 63 tokens were one


def classifier(name: str, **sizes: int) -> nn.Module:
    """A small transformers classifier in training mode, of random weights far from uniform attention."""
    kinds = {"TimeSformer": ("Timesformer", "Video"), "VideoMAE": ("VideoMAE", "Video"), "AST": ("AST", "Audio")}
    kind, what = kinds[name]
    config = getattr(transformers, f"{kind}Config")(**{**FOREIGN[name].sizes, **sizes}, num_labels=5)
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForVideoClassification" if what == "Video" else "ASTForAudioClassification")(
        config
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return model.train()


@pytest.mark.parametrize("name", ["VideoMAE", "TimeSformer", "AST"])
def test_a_record_holds_what_was_captured_and_opens_again(name, tmp_path):
    model, values = classifier(name), FOREIGN[name].example(1)
    record = inspect_module(
        model, values, layer=1, neighbourhood=Toeplitz(2), clip=ModuleClip("a video", 2.0, 10.0), probes=Probes(2)
    )
    assert model.training
    model.eval()
    with torch.no_grad(), capture(model, reduce="frames") as captured:
        logits = model(values).logits
    calls = {"temporal": captured.calls[-2], "attention": captured.calls[-1]}
    assert list(record.modality.values) == (["temporal", "attention"] if name == "TimeSformer" else ["attention"])
    for modality in record.modality.values:
        frames = calls[modality].frames
        maps = record.attention.sel(modality=modality, branch="global")
        np.testing.assert_array_equal(maps, frames.weights[0])
        if modality == "temporal":
            assert np.isnan(record.attention_outside.sel(modality=modality)).all()
        elif "attention_outside" in record:
            total = maps.sum("key") + record.attention_outside.sel(modality=modality, branch="global")
            np.testing.assert_allclose(total, 1, atol=1e-5)
    np.testing.assert_allclose(record.score, logits[0].softmax(0), atol=1e-6)
    assert list(record.class_name.values) == [f"LABEL_{index}" for index in range(5)]
    assert list(record.frame.values) == [10 + 2 * step for step in range(7)]
    assert {"profile", "verticality", "gradient_norm", "gradient_norm_error", "sensitivity"} <= set(record)
    assert not {"gate", "certificate", "contribution_share"} & set(record)
    save_record(record, tmp_path / "record.nc")
    assert open_record(tmp_path / "record.nc").identical(record)


def test_a_record_of_all_layers_opens_again(tmp_path):
    record = inspect_module(
        classifier("VideoMAE"), FOREIGN["VideoMAE"].example(1), layers="all", probes=Probes(2), layout=CLASS_TOKEN
    )
    assert record.attention_outside.dims[0] == record.gradient_norm_error.dims[0] == "layer"
    save_record(record, tmp_path / "record.nc")
    assert open_record(tmp_path / "record.nc").identical(record)


def test_all_layers_and_chosen_streams():
    model = classifier("TimeSformer")
    record = inspect_module(
        model, FOREIGN["TimeSformer"].example(1), layers="all", parts=["attention"],
        streams={"time": "*temporal*"}, class_names=list("abcde"), activation="sigmoid",
    )  # fmt: skip
    assert record.attention.dims[:2] == ("layer", "modality")
    assert (list(record.layer.values), list(record.modality.values)) == ([0, 1], ["time"])


def jacobian_norms(function, tokens, places):
    """|dY_i / dX_j| by jacrev, over all numbers of the tokens of each frame."""
    jacobian = torch.func.jacrev(function)(tokens)  # (*output, *input)
    flat = jacobian.reshape(tokens.shape[0] * tokens.shape[1], -1, tokens.shape[0] * tokens.shape[1], tokens.shape[2])
    norms = torch.empty(len(places), len(places))
    for i, of_query in enumerate(places):
        for j, of_key in enumerate(places):
            norms[i, j] = flat[of_query][:, :, of_key].square().sum().sqrt()
    return norms


@pytest.mark.parametrize("name", ["VideoMAE", "TimeSformer", "AST"])
def test_gradient_norms_are_those_of_jacrev(name):
    torch.manual_seed(0)
    if name == "AST":
        model, values = classifier(name, max_length=10, num_mel_bins=7).eval(), torch.randn(1, 10, 7)
    else:
        frames = {"VideoMAE": 6, "TimeSformer": 3}[name]
        model = classifier(name, image_size=10, num_frames=frames).eval()
        values = torch.randn(1, frames, 3, 10, 10)
    record = inspect_module(model, values, neighbourhood=Toeplitz(1), probes=EXACT)
    attention = {
        "VideoMAE": lambda: model.videomae.encoder.layer[0].attention.attention,
        "TimeSformer": lambda: model.timesformer.encoder.layer[0].temporal_attention.attention,
        "AST": lambda: model.audio_spectrogram_transformer.layers[0].attention,
    }[name]()
    given = []
    hook = attention.register_forward_hook(lambda module, args, output: given.append(args[0]))
    with torch.no_grad():
        model(values)
    hook.remove()
    numbers = torch.arange(12)
    # VideoMAE: 4 patches of the first tubelet, then of the next; TimeSformer: 3 frames of the first patch, and so on;
    # AST likewise, of 2 patches, behind 2 tokens that are of none.
    ast = torch.cat([torch.tensor([-1, -1]), torch.arange(6) % 3])
    step = {"VideoMAE": numbers // 4, "TimeSformer": numbers % 3, "AST": ast}[name]
    places = [(step == each).nonzero().flatten() for each in range(3)]
    with sdpa_kernel(SDPBackend.MATH):  # the fused one has no rule for many gradients at once
        expected = jacobian_norms(lambda x: attention(x)[0], given[0], places)
    norms = torch.from_numpy(record.gradient_norm.values[0])
    torch.testing.assert_close(norms, expected, rtol=1e-4, atol=1e-6)
    shares = local_sensitivity(expected[None], Toeplitz(1))[0]
    torch.testing.assert_close(torch.from_numpy(record.sensitivity.values[0]), shares, rtol=1e-4, atol=1e-6)
    assert "gradient_norm_error" not in record


def test_sampled_gradient_norms_are_within_their_errors():
    model = classifier("VideoMAE", image_size=10, num_frames=6)
    values = torch.randn(1, 6, 3, 10, 10)
    parts = ["sensitivity", "attention"]
    exact = inspect_module(model, values, parts=parts, probes=EXACT).gradient_norm
    sampled = inspect_module(model, values, parts=parts, probes=Probes(40, seed=1))
    gap = np.abs(sampled.gradient_norm - exact) / sampled.gradient_norm_error
    assert (sampled.gradient_norm_error > 0).all()
    assert (gap < 4).all()
    assert float(gap.mean()) > 0.3  # an error that is never reached says too much


@pytest.mark.parametrize("batch_first", [True, False])
def test_multi_head_attention_of_torch_is_differentiated_with_its_tokens_in_place(batch_first):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.attention = nn.MultiheadAttention(6, 3, batch_first=batch_first)

        def forward(self, x):
            tokens = x if batch_first else x.transpose(0, 1)
            tokens, _ = self.attention(tokens, tokens, tokens)
            return (tokens if batch_first else tokens.transpose(0, 1)).mean(1)

    model, frames = Model().eval(), torch.randn(1, 5, 6)
    record = inspect_module(model, frames, layout=TokenLayout(5), probes=EXACT)

    def attend(x):
        tokens = x if batch_first else x.transpose(0, 1)
        tokens = model.attention(tokens, tokens, tokens)[0]
        return tokens if batch_first else tokens.transpose(0, 1)

    expected = jacobian_norms(attend, frames, [torch.tensor([step]) for step in range(5)])
    torch.testing.assert_close(torch.from_numpy(record.gradient_norm.values[0]), expected, rtol=1e-4, atol=1e-6)


def test_a_gmsa_of_somebody_elses_has_a_stream_a_branch():
    torch.manual_seed(0)
    model, frames = Classifier(6, 3, reach=2).eval(), torch.randn(1, 11, 6)
    record = inspect_module(model, frames, layout=TokenLayout(11), probes=EXACT, activation="sigmoid")
    everywhere, nearby = record.attention.sel(branch="global").values
    far = np.abs(np.subtract.outer(np.arange(11), np.arange(11))) > 1
    assert (nearby[:, far] == 0).all()
    assert (everywhere > 0).all()
    np.testing.assert_allclose(record.logit, model(frames)[0].detach(), atol=1e-6)
    attend = model.encoders[0].attend
    expected = jacobian_norms(attend, frames, [torch.tensor([step]) for step in range(11)])
    for norms in record.gradient_norm.values:
        torch.testing.assert_close(torch.from_numpy(norms), expected, rtol=1e-4, atol=1e-6)


def linear_page():
    """What the page's example defines."""
    code = re.search(r"<!-- run by .*? -->\n```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL).group(1)
    names = {
        "torch": torch, "numpy": np, "GivenAttention": GivenAttention, "TokenLayout": TokenLayout,
        "inspect_module": inspect_module,
    }  # fmt: skip
    torch.manual_seed(0)
    exec(compile(code, str(PAGE), "exec"), names)
    return names


def test_the_example_of_the_page_runs():
    names = linear_page()
    record = names["record"]
    assert record.attention.shape == (1, 1, 1, 7, 7)
    np.testing.assert_allclose(record.attention.sum("key"), 1, atol=1e-6)
    assert "gradient_norm" not in record
    assert record.score.sum() == pytest.approx(1)


def test_every_other_code_of_the_page_is_python():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        compile(block, str(PAGE), "exec")


class Wrong:
    """An adapter that gives other weights than those that made the output."""

    def __init__(self, adapter, change):
        self.adapter, self.change = adapter, change

    def attention(self, module, inputs):
        for given in self.adapter.attention(module, inputs):
            yield GivenAttention(given.module, self.change(given.weights), given.value, given.output)

    def logits(self, module, inputs):
        return self.adapter.logits(module, inputs)


def test_an_adapter_is_verified_too():
    names = linear_page()
    module, inputs, adapter = names["Linear"](), torch.randn(1, 7, 5), names["LinearAdapter"]()
    captured = capture_adapted(module, inputs, adapter, queries=[2, 0])
    assert captured.calls[0].kind == "adapter"
    assert captured.calls[0].weights.shape == (1, 1, 2, 7)
    for change, message in (
        (lambda weights: weights * 1.01, r"call 0 of 'linear' \(adapter\): the recomputed map does not explain"),
        (lambda weights: weights[:, :, :, :5], r"have shapes \(1, 1, 7, 5\), \(1, 1, 7, 5\) and \(1, 1, 7, 5\)"),
    ):
        with pytest.raises(CaptureError, match=message):
            capture_adapted(module, inputs, Wrong(adapter, change))
    with pytest.raises(CaptureError, match="maps between frames need a layout"):
        capture_adapted(module, inputs, adapter, reduce="frames")
    with pytest.raises(CaptureError, match="gave no attention call of Linear to keep"):
        capture_adapted(module, inputs, adapter, layers=["other"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": torch.randn(2, 14, 3, 15, 15)}, "a batch of 2 clips; a record is of one"),
        ({"class_names": ["one"]}, "1 class names; the module has 5 classes"),
        ({"activation": "relu"}, "activation is 'relu'; expected one of 'softmax', 'sigmoid'"),
        ({"streams": {"a": "*layer.0.*", "b": "*"}}, r"\{'a': 1, 'b': 2\} layers.*recorded were videomae\.encoder"),
        ({"streams": {"a": "none"}}, r"\{'a': 0\} layers; expected as many in each, at least one"),
        ({"features": {"attention": np.ones((3, 2))}}, r"features have \{'attention': 3\} rows; expected 7"),
        ({"layer": 2}, "layer is 2; the model has layers 0 to 1"),
        ({"layout": TokenLayout(3, 7)}, "has 63 query tokens in a batch of 1; the layout has 21 tokens"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {"inputs": FOREIGN["VideoMAE"].example(1), "probes": Probes(2)} | change
    with pytest.raises(ValueError, match=message):
        inspect_module(classifier("VideoMAE"), **arguments)


def test_a_model_without_logits_is_refused():
    with pytest.raises(RecordError, match=r"VideoMAEModel returned BaseModelOutput of .*; expected logits \(1, cl"):
        inspect_module(FOREIGN["VideoMAE"].build(), FOREIGN["VideoMAE"].example(1))


def test_features_that_are_not_known_are_asked_for():
    class Model(nn.Module):
        def forward(self, x):
            return (torch.softmax(x @ x.mT, -1) @ x).mean(2)

    frames = torch.randn(1, 5, 3)
    with pytest.raises(RecordError, match=r"features=\{'attention': array \(time steps, dim\)\}"):
        inspect_module(nn.Sequential(nn.Flatten(0, 0), Model(), nn.Flatten(0, 0)), frames, layout=TokenLayout(5))
    record = inspect_module(Model(), frames, layout=TokenLayout(5), features={"attention": np.eye(5)})
    assert record.sizes["frame"] == 5


class Positioned(nn.Module):
    """Queries and keys have positions, values have none."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.register_buffer("positions", torch.randn(6, 8))

    def forward(self, values):
        moved = values + self.positions
        return self.attention(moved, moved, values)[0].mean(1)


def test_no_norms_by_queries_alone_where_values_are_another_tensor():
    values = torch.randn(1, 6, 8)
    with pytest.raises(RecordError, match="one tensor of them"):
        inspect_module(Positioned(), values, layout=TokenLayout(6), neighbourhood=Toeplitz(2), probes=EXACT)
    features = {"attention": values[0].numpy()}
    record = inspect_module(
        Positioned(), values, layout=TokenLayout(6), neighbourhood=Toeplitz(2), probes=EXACT, features=features
    )
    assert "attention" in record
    assert not {"sensitivity", "gradient_norm"} & set(record)


def test_log_odds_of_a_class_that_is_all_but_certain_are_whole():
    logits = torch.tensor([[900.0, -40.0, 3.0]], requires_grad=True)
    odds = _log_odds(logits)
    expected = [[897.0, -940.0, -897.0]]
    torch.testing.assert_close(odds, torch.tensor(expected))
    (gradient,) = torch.autograd.grad(odds[0, 0], logits)
    torch.testing.assert_close(gradient, torch.tensor([[1.0, 0.0, -1.0]]))
    usual = torch.tensor([[0.3, -0.2, 0.1]])
    torch.testing.assert_close(_log_odds(usual), torch.logit(usual.softmax(1)))


class OwnAttention(nn.Module):
    """Attends twice in one call: everywhere, and nearby."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        scores = self.q(x) @ self.k(x).mT
        steps = torch.arange(x.shape[1])
        near = scores.masked_fill((steps[:, None] - steps).abs() > 1, -torch.inf)
        return scores.softmax(-1) @ self.v(x) + near.softmax(-1) @ self.v(x)


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(OwnAttention() for _ in range(2))

    def forward(self, x):
        for layer in self.layers:
            x = x + layer(x)
        return x.mean(1)


class TwoTowers(nn.Module):
    """Returns its logits in the form asked for."""

    def __init__(self, form: str = "tensor") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.visual, self.audio, self.form = Tower(), Tower(), form

    def forward(self, visual, audio):
        logits = torch.cat([self.visual(visual), self.audio(audio)], 1)
        forms = {
            "tensor": logits, "tuple": (logits, visual), "dict": {"logits": logits, "hidden": logits[:, :2]},
            "two": (logits, logits[:, :2]), "none": {"hidden": visual},
        }  # fmt: skip
        return forms[self.form]


TOWER_INPUTS = {"visual": torch.ones(1, 6, 8).cumsum(1), "audio": torch.ones(1, 6, 8)}


def test_streams_are_named_by_what_not_all_paths_have():
    record = inspect_module(TwoTowers(), TOWER_INPUTS, layout=TokenLayout(6), layers="all", parts=["attention"])
    assert list(record.modality.values) == ["visual", "visual#1", "audio", "audio#1"]
    assert record.sizes["layer"] == 2
    near = record.attention.sel(modality="audio#1").isel(layer=1, branch=0, head=0).values
    assert (near[0, 2:] == 0).all()
    assert (near[0, :2] > 0).all()
    assert list(inspect_module(Tower(), TOWER_INPUTS["visual"], layout=TokenLayout(6)).modality.values) == [
        "attention", "attention#1",
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["tuple", "dict"])
def test_logits_are_found_in_a_tuple_and_in_a_dictionary(form):
    parts = ["score", "explanation"]
    plain = inspect_module(TwoTowers(), TOWER_INPUTS, layout=TokenLayout(6), parts=parts)
    other = inspect_module(TwoTowers(form), TOWER_INPUTS, layout=TokenLayout(6), parts=parts)
    np.testing.assert_array_equal(other.score, plain.score)
    np.testing.assert_array_equal(other.explanation, plain.explanation)


@pytest.mark.parametrize(
    ("form", "message"),
    [("two", r"TwoTowers returned tuple of \(1, 16\), \(1, 2\); expected logits \(1, classes\)"),
     ("none", r"TwoTowers returned dict of \(1, 6, 8\); expected logits")],
)  # fmt: skip
def test_logits_that_are_not_told_apart_are_refused(form, message):
    with pytest.raises(RecordError, match=message):
        inspect_module(TwoTowers(form), TOWER_INPUTS, layout=TokenLayout(6))


def test_inputs_that_do_not_fit_are_refused():
    with pytest.raises(
        RecordError, match=r"TwoTowers takes \(visual, audio\), .* missing a required argument: 'audio'"
    ):
        inspect_module(TwoTowers(), TOWER_INPUTS["visual"], layout=TokenLayout(6))
    with pytest.raises(RecordError, match=r"unexpected keyword argument 'sound'"):
        inspect_module(TwoTowers(), TOWER_INPUTS | {"sound": torch.ones(1, 6, 8)})


class MaskedEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
        self.head = nn.Linear(8, 3)

    def forward(self, frames, mask):
        hidden = self.encoder(frames, src_key_padding_mask=~mask)
        return self.head((hidden * mask[..., None]).sum(1) / mask.sum())


def test_a_module_that_needs_a_mask():
    inputs = {"frames": TOWER_INPUTS["visual"].sin(), "mask": torch.ones(1, 6, dtype=torch.bool)}
    model = MaskedEncoder()
    record = inspect_module(model, inputs, layout=TokenLayout(6), neighbourhood=Toeplitz(2))
    assert {"attention", "similarity", "gradient_norm"} <= set(record)
    model.eval()
    np.testing.assert_allclose(record.score, model(**inputs).softmax(1)[0].detach(), atol=1e-6)
    assert torch.backends.mha.get_fastpath_enabled()
    inputs["mask"] = torch.arange(6)[None] < 4
    with pytest.raises(RecordError, match=r"time step 4 of 6 has no tokens, as where a clip is padded; a record is of"):
        inspect_module(model, inputs, layout=TokenLayout(6, lengths=(4,)))
