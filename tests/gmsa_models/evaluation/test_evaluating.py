"""A model is analysed without being touched: modes, gradients, hooks and weights, alone and in several threads."""

import contextlib
import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from small_models import small_clip, small_model
from torch import nn

from analysis import (
    Replacer,
    ablate_clip,
    ablation_scores,
    context_means,
    explain,
    explain_all,
    explanation_scores,
    head_taxonomy,
    inspect_clip,
    rank_correlation_with_shuffled,
)
from analysis.gmsa_view import view_clips
from analysis.sensitivity.norms import frame_gradient_norms
from analysis.study.scores import score_models
from analysis.workers import map_in_threads, one_thread_each
from gmsa_models.evaluating import evaluating, evaluation_replica, standard_contexts
from gmsa_models.evaluation.scoring import evaluate, predict
from gmsa_models.masks import Toeplitz

CLIP = small_clip()
USES = {
    "record": lambda model: inspect_clip(model, CLIP),
    "explanation part": lambda model: inspect_clip(model, CLIP, parts=["explanation"]),
    "explain": lambda model: explain(model, CLIP, 2, "saliency"),
    "explain all": lambda model: explain_all(model, CLIP, 2),
    "curves": lambda model: Replacer(model, CLIP, 2).curves(torch.arange(13.0)),
    "explanation scores": lambda model: explanation_scores(model, [CLIP], ["saliency"]),
    "shuffled": lambda model: rank_correlation_with_shuffled(model, CLIP, 2, "saliency"),
    "gradients": lambda model: frame_gradient_norms(model, CLIP, "visual"),
    "gradients of the encoder": lambda model: frame_gradient_norms(model, CLIP, "visual", at="encoder"),
    "means": lambda model: context_means(model, [CLIP]),
    "ablations": lambda model: ablation_scores(model, [CLIP]),
    "ablations of a clip": lambda model: ablate_clip(model, CLIP),
    "taxonomy": lambda model: head_taxonomy(model, [CLIP]),
    "evaluate": lambda model: evaluate(model, [CLIP]),
    "predict": lambda model: predict(model, [CLIP]),
    "score models": lambda model: score_models({"one": model}, [CLIP]),
    "sweep": lambda model: view_clips(model, [CLIP], chosen=Toeplitz(3)),
}


def training_model(kind="gate-op", **changes):
    """In training, but for one module that its owner holds in evaluation, and one frozen parameter."""
    model = small_model(kind, dropout=0.5, **changes).train()
    model.encoders["visual"].layers[0].norm_feed_forward.eval()
    model.classifier.bias.requires_grad_(False)
    model.classifier.weight.grad = torch.ones_like(model.classifier.weight)
    return model


def state(model):
    modes = [each.training for each in model.modules()]
    return modes, [(id(each), each.requires_grad, each.grad is None) for each in model.parameters()]


@pytest.mark.parametrize("use", USES)
def test_every_module_and_parameter_is_left_as_it_is_also_by_an_error(use, monkeypatch):
    model = training_model()
    before = state(model)
    USES[use](model)
    assert state(model) == before

    def fail(*_, **__):
        raise RuntimeError("a pass that fails")

    monkeypatch.setattr(nn.LayerNorm, "forward", fail)
    with pytest.raises(RuntimeError, match="a pass that fails"):
        USES[use](model)
    assert state(model) == before


@pytest.mark.parametrize("place", ["attention", "encoder"])
def test_one_module_in_training_is_enough_for_dropout_and_changes_no_gradient_norm(place):
    model = small_model("gate-att", dropout=0.5)
    expected = frame_gradient_norms(model, CLIP, "visual", at=place)
    model.encoders["visual"].layers[0].dropout.train()
    assert not model.training
    torch.testing.assert_close(frame_gradient_norms(model, CLIP, "visual", at=place), expected, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")  # which are shown is a setting of all threads
def test_threads_on_one_model_with_dropout_each_find_what_one_alone_finds():
    model = training_model()
    before, clips = state(model), [small_clip(seed=seed) for seed in range(8)]
    alone = [inspect_clip(copy.deepcopy(model).eval(), clip) for clip in clips]
    shares = [explain(model, clip, 2, "deep-lift").values for clip in clips]
    with ThreadPoolExecutor(4) as pool:
        records = list(pool.map(lambda clip: inspect_clip(model, clip), clips * 4))
        found = list(pool.map(lambda clip: explain(model, clip, 2, "deep-lift").values, clips * 2))
    assert [one.identical(other) for one, other in zip(records, alone * 4, strict=True)] == [True] * 32
    assert all(torch.equal(one, other) for one, other in zip(found, shares * 2, strict=True))
    assert state(model) == before


def test_training_in_another_thread_keeps_its_dropout_and_its_gradients():
    model, wrong, stop = training_model(), [], threading.Event()
    before = state(model)

    def watch():
        while not stop.is_set():
            if state(model) != before:
                wrong.append(state(model))

    thread = threading.Thread(target=watch)
    thread.start()
    for use in ("record", "explain all", "evaluate", "gradients of the encoder"):
        USES[use](model)
    stop.set()
    thread.join()
    assert not wrong


def test_a_replica_has_the_weights_as_they_are_now_and_gives_none_back():
    model = small_model("share-att")
    replica = evaluation_replica(model)
    assert type(replica) is type(model)
    with torch.no_grad():
        model.classifier.bias += 1.0
    assert torch.equal(replica.classifier.bias, model.classifier.bias)
    replica.double()
    assert model.classifier.bias.dtype == torch.float32
    half = small_model("share-att").to(torch.bfloat16)
    wide = evaluation_replica(half, widen=True)
    assert {each.dtype for each in wide.parameters()} == {torch.float32}
    assert {each.dtype for each in half.parameters()} == {torch.bfloat16}
    assert all(torch.equal(a, b.float()) for a, b in zip(wide.parameters(), half.parameters(), strict=True))


def test_a_block_takes_the_replica_of_the_block_around_it_in_its_thread_alone():
    def taken(given, widen=False):
        with evaluating(given, widen=widen) as replica:
            return replica

    with evaluating(small_model()) as replica:
        assert taken(replica) is replica
        assert taken(replica, widen=True) is not replica
        assert taken(evaluation_replica(replica)) is not replica
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(taken, replica).result() is not replica
        with evaluating(replica, widen=True) as wide:
            assert taken(wide) is wide
        assert taken(replica) is replica
    assert taken(replica) is not replica


def test_parameters_and_modules_that_are_shared_stay_shared_and_hooks_of_a_replica_are_its_own():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    model.append(model[0])
    replica = evaluation_replica(model)
    assert replica[2] is replica[0]
    assert replica[1].weight is replica[0].weight
    replica[0].register_forward_hook(lambda *_: None)
    assert not model[0]._forward_hooks


def test_contexts_hold_again_afterwards_and_gradients_can_be_asked_for_inside():
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
        with standard_contexts():
            with contextlib.suppress(ZeroDivisionError), standard_contexts():
                raise ZeroDivisionError
            assert torch.zeros(1).device.type == "cpu"
            assert not torch.is_autocast_enabled("cpu")
            assert not torch.is_inference_mode_enabled()
            assert not torch.is_grad_enabled()
            with torch.enable_grad():
                assert torch.zeros(1, requires_grad=True).exp().requires_grad
        assert torch.zeros(1).device.type == "meta"
        assert torch.is_autocast_enabled("cpu")
        assert torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()


def test_a_model_made_in_inference_mode_can_be_explained():
    expected = explain(small_model(), CLIP, 2, "saliency").values
    with torch.inference_mode():
        model = small_model()
        found = explain(model, CLIP, 2, "saliency").values
    torch.testing.assert_close(found, expected)
    with evaluating(model) as replica:
        assert not any(each.is_inference() for each in replica.parameters())


def test_evaluating_on_another_device_leaves_the_model_where_it_is():
    model = small_model()
    with pytest.raises(RuntimeError):  # nothing can be computed on the meta device
        predict(model, [CLIP], device="meta")
    assert {each.device.type for each in model.parameters()} == {"cpu"}
    assert np.isfinite(predict(model, [CLIP]).scores).all()


def test_the_number_of_threads_comes_back_whichever_block_ends_first():
    before = torch.get_num_threads()
    entered, leave = threading.Event(), threading.Event()

    def inside():
        with one_thread_each():
            entered.set()
            leave.wait(30)
        return torch.get_num_threads()

    try:
        torch.set_num_threads(2)
        with ThreadPoolExecutor(1) as pool:
            with one_thread_each():
                other = pool.submit(inside)
                entered.wait(30)
                assert map_in_threads(lambda _: torch.get_num_threads(), range(3)) == [1, 1, 1]
            assert torch.get_num_threads() == 2
            leave.set()
            assert other.result() == 2
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
