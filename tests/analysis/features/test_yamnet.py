"""YAMNet read from its TFLite file, against the TFLite interpreter where that is installed."""

import warnings

import numpy as np
import pytest
import torch

from analysis.features.log_mel import mel_matrix
from analysis.features.yamnet import SAMPLES, YamNet
from gmsa_models.errors import ConfigError

CPU = torch.device("cpu")
MEL, LOG_MEL, POOLED = 22, 25, 115  # numbers of the file's tensors


@pytest.fixture(scope="module")
def path(shared_data):
    return shared_data / "models" / "yamnet_audio_classifier_with_metadata.tflite"


@pytest.fixture(scope="module")
def windows(shared_data):
    av = pytest.importorskip("av", reason="PyAV, of the extra video, is not installed")
    resampler, parts = av.AudioResampler(format="flt", layout="mono", rate=16_000), []
    for name in ("robin", "trumpet"):
        with av.open(str(shared_data / "audio" / f"librosa_{name}.ogg")) as file:
            parts += [
                part.to_ndarray().reshape(-1) for each in file.decode(audio=0) for part in resampler.resample(each)
            ]
    sound = np.concatenate(parts)
    return np.stack([sound[start : start + SAMPLES] for start in range(0, len(sound) - SAMPLES, 16_000)])


@pytest.fixture(scope="module")
def interpreter(path):
    """(windows) -> the rounded vectors of the interpreter, and the step of their rounding."""
    lite = pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the memory that keeping all tensors takes
        made = lite.Interpreter(str(path), experimental_preserve_all_tensors=True)
        made.allocate_tensors()
    return made


def test_vectors_are_those_of_the_interpreter(path, windows, interpreter):
    details = {each["index"]: each for each in interpreter.get_tensor_details()}
    step, zero = details[POOLED]["quantization"]
    expected = []
    for window in windows:
        interpreter.set_tensor(0, window)
        interpreter.invoke()
        expected.append((interpreter.get_tensor(POOLED).reshape(-1).astype(int) - zero) * step)
    vectors = YamNet(path, CPU)(windows)
    steps = np.abs(vectors - np.stack(expected)) / step
    assert vectors.shape == (len(windows), 1024)
    assert (steps < 0.5).mean() > 0.95  # equal; 0.976 over all of the shared sounds
    assert steps.mean() < 0.06
    assert steps.max() < 6.5
    assert np.abs(vectors).max() > 20 * step


def test_the_files_filter_bank_is_ours(interpreter):
    np.testing.assert_allclose(interpreter.get_tensor(MEL).T, mel_matrix(), atol=1e-7)


def test_a_vector_does_not_depend_on_the_others(path, windows):
    network = YamNet(path, CPU)
    np.testing.assert_allclose(network(windows[:3])[1:2], network(windows[1:2]), atol=1e-6)


def test_another_file_is_refused(tmp_path):
    (tmp_path / "a.tflite").write_bytes(b"0000TFL3" + bytes(100))
    with pytest.raises(ConfigError, match=r"a\.tflite: its SHA-256 is .*; expected 10c95ea3.*fetch it again"):
        YamNet(tmp_path / "a.tflite", CPU)
    with pytest.raises(FileNotFoundError):
        YamNet(tmp_path / "none", CPU)
