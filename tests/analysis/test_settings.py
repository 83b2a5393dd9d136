"""Whatever the caller's settings of torch and the model's type, an analysis finds what it finds in plain float32."""

from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import torch
from small_models import KINDS, moved, small_clip, small_model

from analysis import Replacer, ablate_clip, context_means, inspect_clip
from analysis.gmsa_view import view_clips
from analysis.sensitivity.norms import frame_gradient_norms
from analysis.study.steps import step_seconds
from analysis.sweep.analyses import ANALYSES
from analysis.sweep.work import computed_columns
from gmsa_models import load, save
from gmsa_models.data.batch import Batch
from gmsa_models.evaluation.scoring import evaluate, predict
from gmsa_models.masks import Toeplitz

CLIP, ORDER = small_clip(), torch.arange(13, dtype=torch.float32)
ATTENDING = [kind for kind in KINDS if kind != "none"]
TYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SETTINGS = {
    "none": lambda: ExitStack(),
    "inference mode": torch.inference_mode,
    "no grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "default float64": lambda: default_dtype(torch.float64),
    "default bfloat16": lambda: default_dtype(torch.bfloat16),
    "default float16": lambda: default_dtype(torch.float16),
    "default device": lambda: torch.device("meta"),
    "deterministic": deterministic,
}


def record_values(record):
    return {name: each.values for name, each in record.items() if each.dtype.kind in "fb"}


def ablation_values(model):
    means = context_means(model, [CLIP])
    found = ablate_clip(model, CLIP, means)
    return {name: found[name].values for name in ("logit", "change", "intact_score")}


def curve_values(model):
    curves = Replacer(model, CLIP, 2).curves(ORDER)
    return {name: np.array(value) for name, value in curves.measures().items()} | {
        "steps": curves.deletion.double().numpy()
    }


def sweep_values(model):
    view = view_clips(model, [CLIP, small_clip(9, 1)], chosen=Toeplitz(5))
    found = dict(computed_columns(view, ANALYSES.values()))
    return {
        name: np.concatenate([np.ravel(np.asarray(each, np.float64)) for each in values])
        for name, values in found.items()
        if name not in ("top_classes", "known_labels")
    }


USES = {
    "record": lambda model: record_values(inspect_clip(model, CLIP)),
    "explanation part": lambda model: record_values(inspect_clip(model, CLIP, parts=["explanation"])),
    "curves": curve_values,
    "ablation": ablation_values,
    "gradients": lambda model: {
        at: frame_gradient_norms(model, CLIP, "visual", at=at).double().numpy() for at in ("attention", "encoder")
    },
    "sampled gradients": lambda model: {
        "norms": frame_gradient_norms(model, CLIP, "visual", method="sampled").double().numpy()
    },
    "evaluate": lambda model: {name: np.array(value) for name, value in evaluate(model, [CLIP]).items()},
    "predict": lambda model: {"scores": predict(model, [CLIP]).scores.astype(float)},
    "sweep row": sweep_values,
}
PLAIN: dict[tuple[str, str], dict[str, np.ndarray]] = {}


def model_of(kind, dtype):
    """Its weights are numbers of bfloat16 and float16 at once, so that each type holds the same model."""
    model = moved(small_model(kind))
    with torch.no_grad():
        for each in model.parameters():
            each.copy_((each * 64).round() / 64)
    return model.to(dtype)


def plain(kind, use):
    if (kind, use) not in PLAIN:
        PLAIN[kind, use] = USES[use](model_of(kind, torch.float32))
    return PLAIN[kind, use]


# Widened weights are the same numbers, so that analyses of half precision differ from those of float32 by nothing but
# float32's rounding; scores are computed in the model's own type: 8 bits of bfloat16, 11 of float16.
ROUNDING = {("predict", "bfloat16"): 2e-2, ("predict", "float16"): 2e-3}
# How much of a certificate's tolerance rounding took, or of a sum; of another size in another type.
LEFT_OVERS = ("certificate_worst", "certificate_tolerance", "explanation_delta")
CASES = [
    # Each use with each setting; blocks and types in turn, so that each use meets each block and each type.
    (use, setting, tuple(TYPES)[(row + first) % len(TYPES)], ATTENDING[(row - first + row // 4) % 4])
    for first, use in enumerate(USES)
    for row, setting in enumerate(SETTINGS)
]


@pytest.mark.filterwarnings("ignore:In CPU autocast")
@pytest.mark.parametrize(("use", "setting", "dtype", "kind"), CASES)
def test_the_same_is_found_whatever_the_settings_and_the_type(use, setting, dtype, kind):
    expected, model = plain(kind, use), model_of(kind, TYPES[dtype])
    with SETTINGS[setting]():
        found = USES[use](model)
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert found[name].shape == values.shape, name
        if name in LEFT_OVERS:
            continue
        scale = np.nanmax(np.abs(values), initial=0.0) if np.isfinite(values).any() else 0.0
        near = ROUNDING.get((use, dtype), 3e-6) * float(scale) + 1e-9
        np.testing.assert_allclose(found[name], values, rtol=0, atol=near, err_msg=name)  # NaN only where NaN is
    assert {each.dtype for each in model.parameters()} == {TYPES[dtype]}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_record_of_half_precision_says_what_it_was_computed_in(dtype):
    record = inspect_clip(model_of("gate-op", TYPES[dtype]), CLIP)
    assert record.attrs["weights_type"] == dtype
    assert record.attrs["computed_in"] == "float32"
    plain_record = inspect_clip(model_of("gate-op", torch.float32), CLIP)
    assert plain_record.attrs["weights_type"] == plain_record.attrs["computed_in"] == "float32"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", ATTENDING)
def test_a_model_of_half_precision_computes_what_its_record_says_within_its_rounding(kind, dtype):
    model = model_of(kind, TYPES[dtype])
    record = inspect_clip(model, CLIP, parts=["score"])
    bound = {"bfloat16": 2e-2, "float16": 2e-3}[dtype]
    np.testing.assert_allclose(predict(model, [CLIP]).scores[0], record["score"], atol=bound)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_gradients_of_a_model_in_half_precision_are_not_coarse(dtype):
    model = model_of("gate-att", TYPES[dtype])
    exact = model_of("gate-att", torch.float64)
    for at in ("attention", "encoder"):
        found, expected = (frame_gradient_norms(each, CLIP, "visual", at=at).double() for each in (model, exact))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_training_step_of_a_model_of_any_type_is_timed(dtype):
    found = step_seconds({"model": model_of("gate-op", TYPES[dtype])}, repeats=1)
    assert found["seconds"].item() > 0


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_checkpoint_loads_the_same_whatever_the_settings_and_can_be_trained(setting, dtype, tmp_path):
    model = model_of("gate-op", TYPES[dtype])
    path = save(model, tmp_path / "model.safetensors")
    with SETTINGS[setting]():
        found = load(path)
    for name, weight in model.state_dict().items():
        assert found.state_dict()[name].dtype == weight.dtype
        assert torch.equal(found.state_dict()[name], weight)
    assert all(each.requires_grad for each in found.parameters())
    batch = Batch.from_clips([CLIP], tuple(found.config.modalities)).to(torch.device("cpu"), TYPES[dtype])
    found.train()(batch).float().sum().backward()
    assert all(each.grad is not None for each in found.classifier.parameters())
