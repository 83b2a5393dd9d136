"""Arguments of other kinds, compiled graphs and a compiler that begins too late are one error each, before or after."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from analysis import inspect_module, run_module_with
from analysis.capture import CaptureError, TokenLayout, capture, load_pretrained
from analysis.errors import RecordError
from gmsa_models.checkpoints.header import CheckpointError
from gmsa_models.checkpoints.importing import import_state

FRAMES, DIM = 7, 8
CLIP, LAYOUT = torch.randn(1, FRAMES, DIM), TokenLayout(FRAMES)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(DIM, 2, batch_first=True)
        self.head = nn.Linear(DIM, 3)

    def forward(self, x):
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


KINDS = {
    "streams": (["a"], "a dictionary: name -> pattern of module paths"),
    "class_names": ("abc", "a list of names"),
    "features": (np.ones((FRAMES, 3)), "a dictionary: stream -> array"),
    "adapter": (object(), "an object with the methods attention and logits"),
    "clip": ("a", "a ModuleClip"),
    "note": ("a", "a ModelNote"),
    "probes": (16, "Probes"),
    "mask": (torch.ones(FRAMES, FRAMES), "a tensor of booleans"),
    "steps": (torch.arange(float(FRAMES)), "a tensor of whole numbers"),
    "layer": ("0", "the number of a layer"),
    "pinned": ("a", "the number of a time step"),
}


@pytest.mark.parametrize("name", KINDS)
def test_arguments_of_other_kinds_are_named(name, without_checks):
    value, expected = KINDS[name]
    with pytest.raises(RecordError, match=rf"(?s)^{name} is .*; expected {expected}"):
        inspect_module(Model(), CLIP, **{"layout": LAYOUT, name: value})


def test_edits_take_the_same_kinds(without_checks):
    for name, value in (("streams", ["a"]), ("steps", [0, 1])):
        with pytest.raises(RecordError, match=f"^{name} is .*; expected a "):
            run_module_with(Model(), CLIP, layout=LAYOUT, **{name: value})


@pytest.mark.parametrize("module", [None, lambda x: x, Model])
def test_what_is_no_module_is_refused(module, without_checks):
    for run in (inspect_module, run_module_with):
        with pytest.raises(CaptureError, match=r"module is .*; expected a torch\.nn\.Module"):
            run(module, CLIP, layout=LAYOUT)
    with pytest.raises(CaptureError, match=r"module is .*; expected a torch\.nn\.Module"), capture(module):
        pass


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("what", ["TorchScript", "an exported graph"])
def test_compiled_graphs_are_refused_before_anything_runs(what):
    model = Model().eval()
    if what == "TorchScript":
        compiled = torch.jit.script(nn.Linear(DIM, 3))
    else:
        compiled = torch.export.export(model, (CLIP,)).module()
    for run in (inspect_module, run_module_with):
        with pytest.raises(CaptureError, match=rf"is a compiled graph \({what}\)"):
            run(compiled, CLIP, layout=LAYOUT)
    with pytest.raises(CaptureError, match=rf"is a compiled graph \({what}\)"):
        inspect_module(compiled, CLIP, layout=LAYOUT, check="order")


def test_files_and_weights_of_other_kinds_are_refused(without_checks):
    with pytest.raises(CaptureError, match="folder is None; expected the path of a folder"):
        load_pretrained(None)
    with pytest.raises(CheckpointError, match=r"weights is Model; expected .*; give module\.state_dict\(\)"):
        import_state(Model(), "baseline", name="mine")


SCRIPT = """
import torch, warnings
from torch import nn
from analysis.capture import CaptureError, capture
warnings.simplefilter("ignore")
class Flex(nn.Module):
    def forward(self, x):
        from torch.nn.attention.flex_attention import flex_attention
        return flex_attention(x, x, x)
x, module = torch.randn(1, 2, 16, 8), Flex()
for _ in range(2):
    try:
        with torch.no_grad(), capture(module) as captured:
            module(x)
        print(len(captured), "call")
    except CaptureError as error:
        print(error)
"""


def test_a_compiler_that_begins_while_calls_are_seen_is_one_error():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first.startswith("torch's compiler was first loaded while the module ran")
    assert second == "1 call"
