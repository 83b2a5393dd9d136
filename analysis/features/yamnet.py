"""YAMNet, trained on AudioSet: its published TFLite file read as a torch network; the file itself is never run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from analysis.features.flatbuffer import Table, root_table
from analysis.features.log_mel import log_mel_spectrogram
from gmsa_models.data.spaces import FeatureSpace
from gmsa_models.errors import ConfigError, ContentError

__all__ = ["SAMPLES", "YamNet"]

SHA256 = "10c95ea3eb9a7bb4cb8bddf6feb023250381008177ac162ce169694d05c317de"
SAMPLES, OFFSET = 15_600, 0.001  # of a window, 0.975 s; added to magnitudes before the logarithm
# Codes of the operators, places of fields and codes of activations, of TFLite's schema.fbs.
CONVOLUTION, DEPTHWISE, MEAN = 3, 4, 40
_SAME, _RELU, _RELU6 = 0, 1, 3


@dataclass(frozen=True, eq=False)
class _Rounding:
    """How the numbers of an activation are rounded: to whole multiples of a scale, in 8 bits."""

    scale: float
    zero: int

    def __call__(self, values: Tensor) -> Tensor:
        whole = (values / self.scale).round_().add_(self.zero).clamp_(-128, 127)
        return whole.sub_(self.zero).mul_(self.scale)


@dataclass(frozen=True, eq=False)
class _Layer:
    """One convolution and the rounding of what it gives."""

    weight: Float[Tensor, "out in rows columns"]
    bias: Float[Tensor, " out"]
    stride: tuple[int, int]
    groups: int
    highest: float
    rounding: _Rounding

    def __call__(self, values: Float[Tensor, "windows in rows columns"]) -> Float[Tensor, "windows out _ _"]:
        values = functional.conv2d(
            _padded(values, self.weight, self.stride), self.weight, self.bias, self.stride, groups=self.groups
        )
        return self.rounding(values.clamp_(0.0, self.highest))


class YamNet:
    """The mean over places of the last feature map: 1024 numbers for 0.975 s of sound.

    Weights are the file's 8-bit numbers times their scales, and activations are rounded as the file says, so that
    results are those of the TFLite interpreter but for the rounding of ties.

    Args:
        path: of `yamnet_audio_classifier_with_metadata.tflite`, as TensorFlow published it.
        device: where it runs.

    Raises:
        ConfigError: another file.
        OSError: no such file, or one that cannot be read.
    """

    window: int | None = SAMPLES
    quantized = False

    def __init__(self, path: Path, device: torch.device) -> None:
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if digest != SHA256:
            raise ConfigError(
                f"{path}: its SHA-256 is {digest}; expected {SHA256}, of yamnet_audio_classifier_with_metadata.tflite "
                "as TensorFlow published it: fetch it again"
            )
        self.device = device
        self.space = FeatureSpace("yamnet-embedding", 1024, weights=digest)
        try:
            self._input, self._layers, self._pooled = _network(root_table(data, b"TFL3"), device)
        except ContentError as error:
            raise ConfigError(f"{path}: {error}") from None

    @torch.inference_mode()
    def __call__(self, windows: Float[np.ndarray, "frames samples"]) -> Float[np.ndarray, "frames dim"]:
        """One vector for each window of 15,600 samples."""
        spectra = torch.from_numpy(log_mel_spectrogram(windows, OFFSET))[:, None]
        values = self._input(spectra.to(self.device))
        for layer in self._layers:
            values = layer(values)
        return self._pooled(values.mean((2, 3))).cpu().numpy()


def _network(model: Table, device: torch.device) -> tuple[_Rounding, list[_Layer], _Rounding]:
    """Rounding of the input, the convolutions in order, rounding of the pooled vector."""
    codes = [max(each.number(0, "int8"), each.number(3, "int32")) for each in model.tables(1)]
    (graph,) = model.tables(2)
    buffers, tensors = model.tables(4), graph.tables(0)
    layers, first, last = [], None, None
    for operator in graph.tables(3):
        code = codes[operator.number(0, "uint32")]
        inputs, outputs = operator.array(1, "<i4").tolist(), operator.array(2, "<i4").tolist()
        if code in (CONVOLUTION, DEPTHWISE):
            first = first or _rounding(tensors[inputs[0]])
            layers.append(_layer(operator, code, [tensors[each] for each in (*inputs, outputs[0])], buffers, device))
        elif code == MEAN:
            last = _rounding(tensors[outputs[0]])
    if first is None or last is None:
        raise ContentError("no convolution, or no mean after them; expected YAMNet")
    return first, layers, last


def _layer(operator: Table, code: int, tensors: list[Table], buffers: list[Table], device: torch.device) -> _Layer:
    source, weights, biases, result = tensors
    options = operator.table(4)
    if options is None or options.number(0, "int8") != _SAME:
        raise ContentError("a convolution without padding; expected YAMNet")
    scales = torch.from_numpy(_quantization(weights).array(2, "<f4").copy())
    values = torch.from_numpy(_values(weights, buffers, "i1").astype(np.float32))
    depthwise = code == DEPTHWISE
    # (1, rows, columns, out) or (out, rows, columns, in) -> torch's (out, in, rows, columns)
    weight = (values.permute(3, 0, 1, 2) if depthwise else values.permute(0, 3, 1, 2)) * scales.reshape(-1, 1, 1, 1)
    bias = torch.from_numpy(_values(biases, buffers, "<i4").astype(np.float64)).mul(
        scales.double() * _rounding(source).scale
    )
    activation = options.number(4 if depthwise else 3, "int8")
    if activation not in (_RELU, _RELU6):
        raise ContentError(f"an activation of code {activation}; expected YAMNet")
    stride = options.number(2, "int32"), options.number(1, "int32")
    return _Layer(
        weight.contiguous().to(device), bias.float().to(device), stride,
        len(weight) if depthwise else 1, 6.0 if activation == _RELU6 else torch.inf, _rounding(result),
    )  # fmt: skip


def _quantization(tensor: Table) -> Table:
    quantization = tensor.table(4)
    if quantization is None:
        raise ContentError(f"tensor {tensor.text(3)!r:.100} is not quantised; expected YAMNet")
    return quantization


def _rounding(tensor: Table) -> _Rounding:
    quantization = _quantization(tensor)
    return _Rounding(float(quantization.array(2, "<f4")[0]), int(quantization.array(3, "<i8")[0]))


def _values(tensor: Table, buffers: list[Table], dtype: str) -> np.ndarray:
    shape = tensor.array(0, "<i4").tolist()
    return buffers[tensor.number(2, "uint32")].array(0, "u1").view(dtype).reshape(shape)


def _padded(values: Tensor, weight: Tensor, stride: tuple[int, int]) -> Tensor:
    """TensorFlow's padding "SAME": the odd place of padding goes behind."""
    rows, columns = (
        max((-(-size // step) - 1) * step + kernel - size, 0)
        for size, step, kernel in zip(values.shape[2:], stride, weight.shape[2:], strict=True)
    )
    return functional.pad(values, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
