"""Log mel spectra against a slow Fourier transform, and the filter bank against that of transformers."""

import numpy as np
import pytest

from analysis.features.log_mel import BANDS, HIGHEST, LOWEST, LogMel, log_mel_spectrogram, magnitudes, mel_matrix
from gmsa_models.errors import ArgumentError


def sound(frames=3, samples=1000):
    return np.random.default_rng(0).uniform(-1, 1, (frames, samples)).astype(np.float32)


def test_magnitudes_are_those_of_a_slow_transform():
    windows = sound(2, 731)
    result = magnitudes(windows)
    assert result.shape == (2, 3, 257)  # 400 samples every 160: at 0, 160, 320
    hann = np.array([np.sin(np.pi * n / 400) ** 2 for n in range(400)])
    turns = np.exp(-2j * np.pi * np.outer(np.arange(257), np.arange(400)) / 512)
    for frame, step in ((0, 0), (1, 2)):
        expected = np.abs(turns @ (hann * windows[frame, 160 * step : 160 * step + 400]))
        np.testing.assert_allclose(result[frame, step], expected, atol=1e-4)


def test_the_filter_bank_is_that_of_transformers():
    audio = pytest.importorskip("transformers.audio_utils", reason="transformers, of the extra models, is absent")
    expected = audio.mel_filter_bank(
        257, BANDS, LOWEST, HIGHEST, 16_000, mel_scale="kaldi", triangularize_in_mel_space=True
    )
    np.testing.assert_allclose(mel_matrix(), expected, atol=1e-6)


def test_a_tone_is_loudest_in_its_band():
    for hertz in (440.0, 3000.0):
        tone = np.sin(2 * np.pi * hertz * np.arange(16_000) / 16_000).astype(np.float32)[None]
        spectrum = log_mel_spectrogram(tone)[0].mean(0)
        edges = 700 * np.expm1(np.linspace(*(1127 * np.log1p(np.array([LOWEST, HIGHEST]) / 700)), BANDS + 2) / 1127)
        band = int(spectrum.argmax())
        assert edges[band] < hertz < edges[band + 2]


def test_vectors_are_means_and_deviations():
    extractor, windows = LogMel(), sound()
    vectors = extractor(windows)
    spectra = log_mel_spectrogram(windows)
    assert vectors.shape == (3, extractor.space.width)
    np.testing.assert_allclose(vectors[:, :64], spectra.mean(1), rtol=1e-5)
    np.testing.assert_allclose(vectors[:, 64:], spectra.std(1), rtol=1e-4)
    silence = extractor(np.zeros((1, 16_000), np.float32))[0]
    np.testing.assert_allclose(silence, np.repeat([np.log(0.01), 0.0], 64), atol=1e-5)


def test_too_short_a_frame_is_refused():
    with pytest.raises(ArgumentError, match="frames of 399 samples of sound; expected at least 400"):
        LogMel()(sound(1, 399))
