"""Frames of traced layers and CKA between them: by hand, against the slow definition, by invariances."""

import numpy as np
import pandas as pd
import pytest
import references.frames as slow
import torch
from small_models import KINDS, small_clip, small_model

from analysis.attention.representations import (
    REPRESENTATIONS,
    cka_table,
    head_contexts,
    traced_frames,
    traced_similarity,
)
from gmsa_models import Batch
from gmsa_models.errors import ArgumentError, UnknownNameError


def traced(kind: str, **changes):
    return small_model(kind, **changes).trace(Batch.from_clips([small_clip(13), small_clip(7, seed=1)]))


@pytest.mark.parametrize("kind", KINDS[:-1])
@pytest.mark.parametrize("at", REPRESENTATIONS)
def test_frames_are_the_real_ones_of_the_layer_and_their_similarity_is_the_slow_one(kind, at):
    trace = traced(kind, layers=2)
    frames = traced_frames(trace, "audio", at, layer=1, clip=1)
    assert frames.shape == (7, {"gate-op": 16}.get(kind, 8) if at == "context" else 8)
    if at != "context":
        torch.testing.assert_close(frames, getattr(trace.layer("audio", 1), at)[1, :7])
    expected = slow.cosine_similarity(frames.double().numpy())
    similarity = traced_similarity(trace, "audio", at, layer=1, clip=1)
    np.testing.assert_allclose(similarity, expected, atol=1e-5)
    centred = slow.cosine_similarity((frames - frames.mean(0)).double().numpy())
    np.testing.assert_allclose(traced_similarity(trace, "audio", at, layer=1, clip=1, centred=True), centred, atol=1e-4)


def test_a_context_is_heads_side_by_side():
    trace = traced("baseline")
    context = trace.layer("visual").contexts["global"][0]
    frames = traced_frames(trace, "visual", "context")
    torch.testing.assert_close(frames[4], torch.cat([context[head, 4] for head in range(4)]))
    heads = head_contexts(trace, "visual", "global")
    assert list(heads) == ["head 0", "head 1", "head 2", "head 3"]
    torch.testing.assert_close(heads["head 2"], context[2])


def test_padding_does_not_matter():
    model = small_model("gate-att")
    alone = model.trace(Batch.from_clips([small_clip(7, seed=1)]))
    together = model.trace(Batch.from_clips([small_clip(13), small_clip(7, seed=1)]))
    torch.testing.assert_close(
        traced_similarity(together, "visual", clip=1), traced_similarity(alone, "visual"), atol=1e-5, rtol=1e-5
    )


def test_cka_between_heads_layers_and_models():
    one, two = traced("gate-att", layers=2), traced("baseline")
    sides = head_contexts(one, "visual", "local") | {
        "layer 1": traced_frames(one, "visual", "encoded", layer=1),
        "baseline": traced_frames(two, "visual"),
    }
    table = cka_table(sides)
    assert list(table.index) == list(table.columns) == [*(f"head {head}" for head in range(4)), "layer 1", "baseline"]
    for first in sides:
        for second in sides:
            expected = slow.linear_cka(sides[first].double().numpy(), sides[second].double().numpy())
            assert table.loc[first, second] == pytest.approx(expected, abs=1e-5)


def test_cka_by_hand_and_its_invariances():
    line, corner = torch.tensor([[-1.0], [0.0], [1.0]]), torch.tensor([[1.0], [0.0], [0.0]])
    # Centred: (-1, 0, 1) and (2, -1, -1) / 3; product -1, so 1 / (2 * 2/3) = 3/4.
    table = cka_table({"line": line, "corner": corner, "moved": 7 * line.flip(0) + 3})
    expected = [[1, 0.75, 1], [0.75, 1, 0.75], [1, 0.75, 1]]
    np.testing.assert_allclose(table, expected, rtol=1e-6)
    order = torch.tensor([2, 0, 1])
    again = cka_table({"line": line[order], "corner": corner[order], "moved": line[order]})
    pd.testing.assert_frame_equal(again, table, atol=1e-6)


def test_the_bias_that_the_docstring_states():
    generator = torch.Generator().manual_seed(0)
    table = cka_table({name: torch.randn(170, 1024, generator=generator) for name in ("one", "two")})
    assert table.loc["one", "two"] == pytest.approx(0.86, abs=0.01)


def test_what_is_not_there_is_said():
    trace = traced("none")
    with pytest.raises(UnknownNameError, match=r"no representation 'middle'; known: input, context, output, encoded"):
        traced_frames(trace, "visual", "middle")
    with pytest.raises(KeyError, match=r"the control \(attention 'none'\) has none"):
        traced_frames(trace, "visual", "context")
    with pytest.raises(UnknownNameError, match=r"no branch 'local' in this layer; it has none"):
        head_contexts(trace, "visual", "local")
    with pytest.raises(UnknownNameError, match=r"no branch 'local' in this layer; it has global"):
        head_contexts(traced("baseline"), "visual", "local")
    with pytest.raises(ArgumentError, match=r"frame 0 has norm 0"):
        traced_similarity(trace, "visual", "output")
    with pytest.raises(ArgumentError, match=r"'a' has 3 frames, 'b' has 2; expected the same frames"):
        cka_table({"a": torch.eye(3), "b": torch.eye(2)})
    with pytest.raises(ArgumentError, match=r"'a' and 'b': second representation: constant over its 3 frames"):
        cka_table({"a": torch.eye(3), "b": torch.ones(3, 2)})
