"""Attention of any PyTorch module, recorded call by call, each map verified against what the module computed."""

from analysis.capture.adapter import Adapter, GivenAttention, capture_adapted
from analysis.capture.call import AttentionCall
from analysis.capture.capture import Captured, capture
from analysis.capture.errors import CaptureError, CaptureWarning, LayoutError
from analysis.capture.frame_maps import FrameMap
from analysis.capture.layout import CrossLayout, TokenLayout, TokenTable
from analysis.capture.pretrained import load_pretrained

__all__ = [
    "Adapter",
    "AttentionCall",
    "CaptureError",
    "CaptureWarning",
    "Captured",
    "CrossLayout",
    "FrameMap",
    "GivenAttention",
    "LayoutError",
    "TokenLayout",
    "TokenTable",
    "capture",
    "capture_adapted",
    "load_pretrained",
]
