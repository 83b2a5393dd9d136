"""Vertical lines: found by hand, and each planted kind recovered."""

import numpy as np
import pytest
import torch

from analysis.attention.sinks import find_lines, line_values
from analysis.statistics.intervals import resample_counts
from analysis.statistics.line_verdicts import (
    BROADCAST,
    NO_LINES,
    NO_OP_SINK,
    SALIENT,
    UNDECIDED,
    head_verdict,
    shared_parts,
)
from gmsa_models.masks import Toeplitz, neighbourhood_mask

FRAMES, WIDTH, VIDEOS = 41, 17, 11
PLANTED = (5, 23)


def planted(kind: str, heads: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps and values (video, head, ...) of heads with two lines of a kind in every video, at other frames in each."""
    random = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    appeal, values = 0.5 * noise(VIDEOS, heads, FRAMES, FRAMES), noise(VIDEOS, heads, FRAMES, WIDTH)
    values += noise(1, heads, 1, WIDTH)  # what all values of the head have in common, as a bias gives it
    constant = noise(1, heads, WIDTH)
    for video in range(VIDEOS):
        for frame in PLANTED:
            place = (frame + 3 * video) % FRAMES
            appeal[video, :, :, place] += 3.0
            match kind:
                case "no-op":
                    values[video, :, place] *= 0.05
                case "broadcast":
                    values[video, :, place] = 3 * constant[0] + 0.3 * noise(heads, WIDTH)
    return appeal.softmax(-1), values


def verdicts(weights: torch.Tensor, values: torch.Tensor) -> list[str]:
    lines = find_lines(weights)
    each = line_values(lines, weights, values)
    counts = resample_counts(len(weights), 400)
    sizes, at_lines, elsewhere = (part.numpy() for part in (each.norm_ratio, each.at_lines, each.elsewhere))
    shared = [shared_parts(at_lines[:, head], elsewhere[:, head]) for head in range(weights.shape[1])]
    return [head_verdict(sizes[:, head], one, counts).verdict for head, one in enumerate(shared)]


@pytest.mark.parametrize(("kind", "verdict"), [("salient", SALIENT), ("no-op", NO_OP_SINK), ("broadcast", BROADCAST)])
def test_planted_lines_of_each_kind_are_recovered(kind, verdict):
    weights, values = planted(kind, heads=61, seed=3)
    lines = find_lines(weights).line
    for video in range(VIDEOS):
        places = sorted((frame + 3 * video) % FRAMES for frame in PLANTED)
        assert lines[video].sum(-1).double().mean() == pytest.approx(2, abs=0.05)
        assert lines[video][:, places].double().mean() > 0.98
    assert np.mean([each == verdict for each in verdicts(weights, values)]) >= 0.95


def test_lines_by_hand():
    weights = torch.full((1, 1, 5, 5), 0.05)
    weights[..., 2] = 0.8
    lines = find_lines(weights)
    assert lines.ratio[0, 0].tolist() == pytest.approx([1, 1, 16, 1, 1])
    assert lines.reach[0, 0].tolist() == [0, 0, 1, 0, 0]
    assert lines.line[0, 0].tolist() == [False, False, True, False, False]
    assert float(lines.sink_rate) == pytest.approx(0.2)


def test_a_key_that_one_query_alone_attends_to_is_no_line():
    weights = torch.full((1, 1, 5, 5), 0.2)
    weights[0, 0, 0] = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0])
    weights[0, 0, 1:, 2] = 0.199
    weights[0, 0, 1:, 3] = 0.201
    assert not find_lines(weights).line.any()


def test_uniform_attention_has_no_lines_under_any_mask_and_with_padding():
    valid = torch.arange(13)[None] < torch.tensor([[13], [9]])
    for mask in (None, neighbourhood_mask(Toeplitz(4), 13)):
        support = (valid[:, :, None] & valid[:, None]) & (True if mask is None else mask)
        weights = support.float()[:, None] / support.sum(-1).clamp(min=1)[:, None, :, None]
        lines = find_lines(weights, mask, valid)
        assert not lines.line.any()
        assert lines.ratio[1, 0, 9:].isnan().all()
        torch.testing.assert_close(lines.ratio[0, 0], torch.ones(13))


def test_padding_and_order_change_nothing():
    weights, values = planted("broadcast", heads=3, seed=0)
    weights, values = weights[:2], values[:2]
    order = torch.randperm(FRAMES, generator=torch.Generator().manual_seed(1))
    plain, turned = find_lines(weights), find_lines(weights[:, :, order][..., order])
    torch.testing.assert_close(turned.ratio, plain.ratio[..., order])
    padded = torch.nn.functional.pad(weights, (0, 4, 0, 4))
    valid = (torch.arange(FRAMES + 4) < FRAMES).expand(2, -1)
    lines = find_lines(padded, None, valid)
    assert torch.equal(lines.line[..., :FRAMES], plain.line)
    one = line_values(plain, weights, values)
    other = line_values(lines, padded, torch.nn.functional.pad(values, (0, 0, 0, 4), value=7.0), valid)
    for name in ("lines", "norm_ratio", "at_lines", "elsewhere", "first_direction"):
        torch.testing.assert_close(getattr(other, name), getattr(one, name), rtol=1e-4, atol=1e-6)
    scaled = line_values(plain, weights, 5 * values)
    torch.testing.assert_close(scaled.norm_ratio, one.norm_ratio)


def test_one_value_at_all_lines_makes_an_output_of_one_direction():
    weights, values = planted("broadcast", heads=2, seed=0)
    values[:, 0] = values[:, 0, :1] * torch.rand(FRAMES, 1, dtype=torch.float64)
    share = line_values(find_lines(weights), weights, values).first_direction
    torch.testing.assert_close(share[:, 0], torch.ones(VIDEOS))
    assert (share[:, 1] < 0.99).all()


def test_too_little_is_undecided_and_says_why():
    counts = resample_counts(3, 50)
    nothing = head_verdict(np.full(3, np.nan), np.full(3, np.nan), counts)
    assert (nothing.verdict, nothing.videos) == (NO_LINES, 0)
    alone = np.array([[1.0, 2.0], [np.nan, np.nan], [np.nan, np.nan]])
    assert np.isnan(shared_parts(alone, np.ones((3, 2)))).all()
    one = head_verdict(np.array([1.0, np.nan, np.nan]), np.full(3, np.nan), counts)
    assert (one.verdict, one.videos) == (UNDECIDED, 1)
    assert np.isnan(one.norm_ratio.low)


def test_what_videos_share_by_hand():
    at_lines, elsewhere = np.array([[2.0, 1.0], [2.0, 1.0], [1.0, 2.0]]), np.array([[1.0, 0.0], [1.0, 2.0], [1.0, 1.0]])
    # Less the typical value (1, 1): (1, 0), (1, 0) and (0, 1).
    assert shared_parts(at_lines, elsewhere) == pytest.approx([0.5, 0.5, 0.0])
    assert shared_parts(2 - at_lines[:2], np.ones((2, 2))) == pytest.approx([1.0, 1.0])
    opposite = shared_parts(np.array([[2.0, 1.0], [0.0, 1.0]]), np.ones((2, 2)))
    assert opposite == pytest.approx([-1.0, -1.0])
