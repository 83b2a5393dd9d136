"""Logarithms of mel spectra, as VGGish and YAMNet hear sound; their statistics are features that need no weights."""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Float

from gmsa_models.data.spaces import FeatureSpace
from gmsa_models.data.video.decode import SAMPLE_RATE
from gmsa_models.errors import ArgumentError

__all__ = ["BANDS", "HIGHEST", "LOWEST", "LogMel", "log_mel_spectrogram", "magnitudes", "mel_matrix"]

WINDOW, HOP, TRANSFORM = 400, 160, 512  # samples: 25 ms, 10 ms, length of the Fourier transform
BANDS, LOWEST, HIGHEST = 64, 125.0, 7500.0  # bands, and their range in Hz
OFFSET = 0.01  # added to magnitudes before the logarithm


def magnitudes(
    windows: Float[np.ndarray, "frames samples"],
) -> Float[np.ndarray, "frames steps bins"]:
    """Magnitudes of the short-time Fourier transform: Hann windows of 25 ms, periodic, every 10 ms.

    Only whole windows count; the last samples may be in none.

    Raises:
        ArgumentError: fewer samples than a window.
    """
    if windows.shape[1] < WINDOW:
        raise ArgumentError(
            f"frames of {windows.shape[1]} samples of sound; expected at least {WINDOW}: choose a lower rate"
        )
    steps = np.lib.stride_tricks.sliding_window_view(windows, WINDOW, axis=1)[:, ::HOP]
    hann = (0.5 - 0.5 * np.cos(2 * np.pi / WINDOW * np.arange(WINDOW))).astype(np.float32)
    return np.abs(np.fft.rfft(steps * hann, TRANSFORM)).astype(np.float32)


@cache
def mel_matrix() -> Float[np.ndarray, "bins bands"]:
    """Weight of each frequency in each band: triangles on the HTK mel scale, none on the constant part.

    Source:
        `spectrogram_to_mel_matrix` of AudioSet's VGGish (`mel_features.py`).
    """
    bins = TRANSFORM // 2 + 1
    mels = _mel(np.linspace(0, SAMPLE_RATE / 2, bins))
    edges = np.linspace(_mel(LOWEST), _mel(HIGHEST), BANDS + 2)
    rising = (mels[:, None] - edges[None, :-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[None, 2:] - mels[:, None]) / (edges[2:] - edges[1:-1])
    matrix = np.maximum(0.0, np.minimum(rising, falling))
    matrix[0] = 0.0
    return matrix.astype(np.float32)


def log_mel_spectrogram(
    windows: Float[np.ndarray, "frames samples"], offset: float = OFFSET
) -> Float[np.ndarray, "frames steps bands"]:
    """Natural logarithm of the mel spectrum of magnitudes, every 10 ms.

    Args:
        windows: 16,000 samples a second in [-1, 1].
        offset: added before the logarithm; VGGish has 0.01.
    """
    return np.log(magnitudes(windows) @ mel_matrix() + np.float32(offset))


class LogMel:
    """Mean and standard deviation, over a frame's sound, of its log mel spectrum."""

    space = FeatureSpace("log-mel-64-mean-deviation", 2 * BANDS)
    window: int | None = None
    quantized = False

    def __call__(self, windows: Float[np.ndarray, "frames samples"]) -> Float[np.ndarray, "frames dim"]:
        """Vectors: 64 means, then 64 standard deviations."""
        spectra = log_mel_spectrogram(windows)
        return np.concatenate([spectra.mean(1), spectra.std(1)], 1)


def _mel(hertz: np.ndarray | float) -> Float[np.ndarray, "*numbers"]:
    return np.asarray(1127.0 * np.log(1.0 + np.asarray(hertz) / 700.0))
