"""Edits of edges are refused where a map is used elsewhere than in its product with the values."""

import pytest
import torch
from torch import nn

from analysis.capture import TokenLayout
from analysis.interventions.edits import EditError, KnockOut, ScaleHead
from analysis.interventions.modules import run_module_with

FRAMES, DIM = 5, 6
EDGES = KnockOut("attention/*/global/weights", keys=(0.0, 1.0))


class Attending(nn.Module):
    """An attention, and what else is made of its map: `use` takes map, contexts and input, and gives contexts."""

    def __init__(self, use):
        super().__init__()
        torch.manual_seed(0)
        self.use = use
        self.attention = nn.MultiheadAttention(DIM, 2, batch_first=True)
        self.head = nn.Linear(DIM, 4)

    def forward(self, frames):
        if self.use is None:
            contexts, weights = self.attention(frames, frames, frames)
            return self.head(contexts * weights.amax(-1, keepdim=True)).mean(1)
        weights = (frames @ frames.mT).softmax(-1)
        return self.head(self.use(self, weights, weights @ frames, frames)).mean(1)


def logarithm(module, weights, contexts, frames):
    surprise = (frames @ frames.mT).log_softmax(-1)
    return contexts + (surprise.exp() @ frames) * surprise[..., :1]


def written(frames, weights):
    room = torch.zeros_like(frames)
    room[0, :, :1].copy_(weights[0].amax(-1, keepdim=True).clamp(max=0.0))
    return room


USES = {
    "gate": lambda module, weights, contexts, frames: contexts * weights.mean(-2)[..., None],
    "gate, detached": lambda module, weights, contexts, frames: contexts * weights.detach().amax(-1, keepdim=True),
    "place of the largest": lambda module, weights, contexts, frames: (
        contexts + frames.gather(1, weights.argmax(-1, keepdim=True).expand_as(frames))
    ),
    "frame of the most weight": lambda module, weights, contexts, frames: (
        contexts + frames[:, weights.mean(1).argmax(-1)[0]][:, None]
    ),
    "written into a view": lambda module, weights, contexts, frames: contexts + written(frames, weights),
    "above a threshold": lambda module, weights, contexts, frames: (
        contexts + (weights > 2).any(-1, keepdim=True).float()
    ),
    "a choice": lambda module, weights, contexts, frames: contexts * 2 if (weights > 2).any() else contexts,
    "number": lambda module, weights, contexts, frames: contexts * float(weights.numpy()[0, 0, 0]),
    "logarithm": logarithm,
    "weights that a fused call returns": None,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_map_that_is_used_elsewhere_too_is_not_edited(use):
    frames = torch.randn(1, FRAMES, DIM, generator=torch.Generator().manual_seed(1))
    with pytest.raises(EditError, match="its map is used elsewhere than in its product with the values"):
        run_module_with(Attending(use), frames, [EDGES], layout=TokenLayout(FRAMES))


def test_contexts_of_such_a_map_are_scaled():
    frames = torch.randn(1, FRAMES, DIM, generator=torch.Generator().manual_seed(1))
    module = Attending(USES["gate"])
    edit = ScaleHead("attention/0/global/contexts[head 0]", factor=0.0)
    output = run_module_with(module, frames, [edit], layout=TokenLayout(FRAMES)).output
    torch.testing.assert_close(output, module.head.bias.detach().expand(1, -1))


KEPT = []


def keep(module, weights, contexts, frames):
    KEPT[:] = [-(weights * weights.log()).sum(-1)]
    return contexts


def test_a_map_that_is_kept_or_scaled_for_its_product_is_edited():
    frames = torch.randn(1, FRAMES, DIM, generator=torch.Generator().manual_seed(1))
    module = Attending(keep)
    output = run_module_with(module, frames, [EDGES], layout=TokenLayout(FRAMES)).output
    scores = (frames @ frames.mT).index_fill(-1, torch.tensor([0]), -torch.inf)
    with torch.no_grad():
        expected = module.head(scores.softmax(-1) @ frames).mean(1)
    torch.testing.assert_close(output, expected)
    weights = (frames @ frames.mT).softmax(-1)
    torch.testing.assert_close(KEPT[0], -(weights * weights.log()).sum(-1))
