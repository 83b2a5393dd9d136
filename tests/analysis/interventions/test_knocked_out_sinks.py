"""Keys that take all of the weight are knocked out as if the module had masked them; masks of large numbers stay."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from analysis import KnockOut, run_module_with
from analysis.capture import TokenLayout
from analysis.interventions.edits import EditError

FRAMES, DIM = 7, 8
BOUNDS = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 2e-2}


class Sink(nn.Module):
    """Attention in which some numbers are added to the scores, in one of several ways to write it."""

    def __init__(self, form, added, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(0)
        self.form, self.qkv, self.head = form, nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, 3)
        self.to(dtype).added = added.to(dtype)

    def forward(self, x):
        query, key, value = self.qkv(x).chunk(3, -1)
        if self.form == "fused":
            contexts = F.scaled_dot_product_attention(query, key, value, attn_mask=self.added)
        elif self.form == "fused heads":
            parts = (each.unflatten(-1, (2, -1)).transpose(1, 2) for each in (query, key, value))
            contexts = F.scaled_dot_product_attention(*parts, attn_mask=self.added).transpose(1, 2).flatten(2)
        else:
            scores = query @ key.mT / DIM**0.5 + self.added
            contexts = WRITTEN[self.form](scores, value)
        return self.head(contexts.mean(1))


WRITTEN = {
    "written out": lambda scores, value: scores.softmax(-1) @ value,
    "in float32": lambda scores, value: scores.softmax(-1, dtype=torch.float32).to(scores.dtype) @ value,
    "keys first": lambda scores, value: (value.mT @ scores.mT.softmax(-2)).mT,
    "turned": lambda scores, value: torch.einsum("bkq,bkd->bqd", scores.softmax(-1).mT, value),
    "one by one": lambda scores, value: (scores.softmax(-1)[..., None] * value[:, None]).sum(-2),
    "logarithms": lambda scores, value: scores.log_softmax(-1).exp() @ value,
    "in another shape": lambda scores, value: scores[:, None].softmax(-1).flatten(0, 1) @ value,
}
FORMS = ("fused", "fused heads", *WRITTEN)


def sink(gap):
    return torch.zeros(FRAMES, FRAMES).index_fill(1, torch.tensor([0]), gap)


def without(module, keys):
    """What the module returns where its first keys are masked by hand."""
    module.added = module.added.masked_fill(torch.arange(FRAMES) < keys, -torch.inf)
    with torch.no_grad():
        return module(clip(module))


def clip(module):
    return torch.randn(1, FRAMES, DIM, generator=torch.Generator().manual_seed(1)).to(module.added)


def knocked_out(module, keys, queries=None):
    edit = KnockOut("attention/0/global/weights", keys=(0.0, float(keys)), queries=queries)
    return run_module_with(module, clip(module), [edit], layout=TokenLayout(FRAMES)).output


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("gap", [4.0, 20.0, 110.0])
@pytest.mark.parametrize("form", FORMS)
def test_a_key_that_takes_all_is_taken_out_as_by_a_mask(form, gap, dtype):
    module = Sink(form, sink(gap), dtype)
    result = knocked_out(module, 1)
    torch.testing.assert_close(result, without(module, 1), rtol=0, atol=BOUNDS[dtype])


@pytest.mark.parametrize("large", [-torch.inf, -1e9, -1e4, -100.0])
@pytest.mark.parametrize("form", ["fused", "fused heads", "written out"])
def test_what_the_module_masks_stays_masked(form, large):
    """Frames 0 to 2 may attend to each other alone, and lose them: nothing is left to hand on."""
    blocks = torch.zeros(FRAMES, FRAMES)
    blocks[:3, 3:] = blocks[3:, :3] = large
    module = Sink(form, blocks)
    result = knocked_out(module, 3)
    blocks[:3] = -torch.inf
    query, key, value = module.qkv(clip(module)).chunk(3, -1)
    heads = 2 if form == "fused heads" else 1
    parts = [each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (query, key, value)]
    scores = parts[0] @ parts[1].mT / (DIM / heads) ** 0.5 + blocks
    contexts = (scores.softmax(-1).nan_to_num() @ parts[2]).transpose(1, 2).flatten(2)
    torch.testing.assert_close(result, module.head(contexts.mean(1)), rtol=0, atol=1e-5)


def test_a_bias_that_falls_with_the_distance_is_no_mask():
    distance = (torch.arange(FRAMES)[:, None] - torch.arange(FRAMES)).abs()
    module = Sink("fused", -30.0 * distance)
    result = knocked_out(module, 4, queries=(0.0, 1.0))
    module.added = (-30.0 * distance).index_put((torch.tensor([0]), torch.arange(4)), torch.tensor(-torch.inf))
    with torch.no_grad():
        torch.testing.assert_close(result, module(clip(module)), rtol=0, atol=1e-5)


class Unknown(Sink):
    """Its map is picked again by an index of slices, so that its scores are not kept."""

    def forward(self, x):
        query, key, value = self.qkv(x).chunk(3, -1)
        weights = (query @ key.mT / DIM**0.5 + self.added).softmax(-1)[:, None][:, 0, :]
        return self.head((weights @ value).mean(1))


@pytest.mark.parametrize(("gap", "dtype"), [(110.0, torch.float32), (20.0, torch.float16)])
def test_so_little_left_of_unknown_scores_is_an_error(gap, dtype):
    with pytest.raises(EditError, match=r"what is left .* cannot be divided by its sum"):
        knocked_out(Unknown("", sink(gap), dtype), 1)
    module = Unknown("", sink(4.0), dtype)
    result = knocked_out(module, 1)
    torch.testing.assert_close(result, without(module, 1), rtol=0, atol=BOUNDS[dtype])
