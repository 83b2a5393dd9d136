"""Whether a stream computes what its classes say, so that parts of its pass may be taken over by faster ones."""

from __future__ import annotations

from torch import nn
from torch.nn.modules import module as torch_module

from analysis.explanations.stream import Stream
from gmsa_models.attention import Baseline, GateAtt, GateOp, GateOpScales, Local, ShareAtt
from gmsa_models.classifier import Encoder, EncoderLayer

__all__ = ["is_as_written"]

OURS = (Encoder, EncoderLayer, Baseline, Local, ShareAtt, GateAtt, GateOp, GateOpScales)
OF_TORCH = (nn.Linear, nn.LayerNorm, nn.GELU, nn.Sequential, nn.Dropout, nn.Identity, nn.ModuleList, nn.ModuleDict)


def is_as_written(stream: Stream) -> bool:
    """Whether all modules of a stream's encoder are of the classes of this library and torch, without changes.

    False with a block or layer of a class of one's own (a wrapper, a parametrisation), with hooks of the forward pass,
    and with methods of single modules put in place of their class's.
    """
    if torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks:
        return False
    return all(_is_plain(each) for each in stream.encoder.modules())


def _is_plain(module: nn.Module) -> bool:
    own = vars(module)
    changed = own["_forward_hooks"] or own["_forward_pre_hooks"] or any(_replaces_method(module, name) for name in own)
    return type(module) in (*OURS, *OF_TORCH) and not changed


def _replaces_method(module: nn.Module, name: str) -> bool:
    return callable(vars(module)[name]) and hasattr(type(module), name)
