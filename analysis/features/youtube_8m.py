"""The spaces of YouTube-8M itself: Inception and VGGish, each with the published PCA, from a user's files.

Google calls the extraction of one's own videos into them approximate: decoding and resizing differ
(https://github.com/google-ai-edge/mediapipe/issues/408).
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from analysis.features.digests import file_digest, joint_digest
from analysis.features.extractor import Picture
from analysis.features.log_mel import log_mel_spectrogram
from analysis.features.tensorflow_graph import FrozenGraph
from gmsa_models.data.arrays import read_arrays
from gmsa_models.data.errors import brief
from gmsa_models.data.spaces import RGB, VGGISH, FeatureSpace
from gmsa_models.errors import ConfigError

__all__ = ["Inception", "VGGish", "pca_of_sound", "read_picture_pca"]

GRAPH = "classify_image_graph_def.pb"
PCA_FILES = ("mean.npy", "eigenvals.npy", "eigenvecs.npy")
SOUND_PCA = "vggish_pca_params.npz"
VGGISH_FILES = ("vggish.safetensors", "vggish.pth", "vggish-10086976.pth")
POOLED, FED = "pool_3/_reshape", "DecodeJpeg"  # nodes of the graph
HIDDEN = 2048  # numbers of Inception's last hidden layer
_FLOOR = 1e-4  # added to the eigenvalues
STEPS, SAMPLES = 96, 15_600  # of a window of sound
_BANDS = 64


class PicturePca:
    """Centred, projected, and each direction divided by its standard deviation.

    Attributes:
        mean: (2048,).
        directions: (2048, 1024), a column an eigenvector.
        values: (1024,) eigenvalues.

    Source:
        `apply_pca` of YouTube-8M's `feature_extractor.py`: (x - mean) V / sqrt(eigenvalues + 1e-4).
    """

    def __init__(
        self,
        mean: Float[np.ndarray, " hidden"],
        directions: Float[np.ndarray, "hidden dim"],
        values: Float[np.ndarray, " dim"],
    ) -> None:
        self.mean, self.directions, self.values = mean, directions, values

    def __call__(self, vectors: Float[np.ndarray, "frames hidden"]) -> Float[np.ndarray, "frames dim"]:
        """Vectors in the published space, float32."""
        return ((vectors - self.mean) @ self.directions / np.sqrt(self.values + _FLOOR)).astype(np.float32)


class Inception:
    """YouTube-8M's visual features: Inception of 2015, its last hidden layer, PCA to 1024, 8 bits.

    Args:
        folder: with `classify_image_graph_def.pb` of inception-2015-12-05.tgz, and `mean.npy`, `eigenvals.npy` and
            `eigenvecs.npy` of yt8m_pca.tgz.
        device: where it runs.

    Raises:
        ConfigError: a file that is missing or is another.
    """

    pictures = 1
    quantized = True

    def __init__(self, folder: Path, device: torch.device) -> None:
        _check_files(folder, (GRAPH, *PCA_FILES))
        self._graph, self._pca = FrozenGraph(folder / GRAPH, device), read_picture_pca(folder)
        self.device = device
        self.space = FeatureSpace(RGB.name, RGB.width, weights=_digest(folder, (GRAPH, *PCA_FILES)))

    def __call__(self, pictures: Sequence[Picture]) -> Float[np.ndarray, "frames dim"]:
        """One vector for each picture."""
        hidden = [self.hidden(each) for each in pictures]
        return self._pca(torch.cat(hidden).cpu().numpy())

    def hidden(self, picture: Picture) -> Float[Tensor, "one hidden"]:
        """Numbers of the last hidden layer."""
        values = self._graph(POOLED, {FED: torch.from_numpy(picture.copy()).to(self.device)}).reshape(1, -1)
        if values.shape[1] != HIDDEN:
            raise ConfigError(f"{self._graph.path}: {POOLED} gives {values.shape[1]} numbers; expected {HIDDEN}")
        return values


class VGGish:
    """YouTube-8M's and AudioSet's audio features: VGGish, PCA to 128, 8 bits.

    Args:
        folder: with the weights of VGGish as torchvggish has them (`vggish-10086976.pth`, or `vggish.safetensors`
            with the same names), and `vggish_pca_params.npz` of AudioSet.
        device: where it runs.

    Raises:
        ConfigError: a file that is missing or is another.
    """

    window: int | None = SAMPLES
    quantized = True

    def __init__(self, folder: Path, device: torch.device) -> None:
        weights = next((name for name in VGGISH_FILES if (folder / name).is_file()), VGGISH_FILES[0])
        _check_files(folder, (weights, SOUND_PCA))
        self.device = device
        self._network = _vggish(folder / weights).to(device)
        self._mean, self._directions = _read_sound_pca(folder / SOUND_PCA)
        self.space = FeatureSpace(VGGISH.name, VGGISH.width, weights=_digest(folder, (weights, SOUND_PCA)))

    @torch.inference_mode()
    def __call__(self, windows: Float[np.ndarray, "frames samples"]) -> Float[np.ndarray, "frames dim"]:
        """One vector for each window of 15,600 samples."""
        spectra = torch.from_numpy(log_mel_spectrogram(windows))[:, None]
        vectors = self._network(spectra.to(self.device)).cpu().numpy()
        return pca_of_sound(vectors, self._mean, self._directions)


def pca_of_sound(
    vectors: Float[np.ndarray, "frames dim"],
    mean: Float[np.ndarray, " dim"],
    directions: Float[np.ndarray, "dim dim"],
) -> Float[np.ndarray, "frames dim"]:
    """VGGish's vectors in the published space, in [-2, 2]; storing them in 8 bits is the last step.

    Source:
        `Postprocessor` of AudioSet's VGGish (`vggish_postprocess.py`): directions (x - mean), clipped.
    """
    return np.clip((vectors - mean) @ directions.T, -2.0, 2.0).astype(np.float32)


def read_picture_pca(folder: Path) -> PicturePca:
    """The PCA of YouTube-8M's pictures.

    Args:
        folder: with `mean.npy` (2048, 1), `eigenvals.npy` (2048, 1) and `eigenvecs.npy` (2048, 2048), a row an
            eigenvector.

    Raises:
        ConfigError: arrays of other shapes, or files that hold none.
    """
    shapes = {"mean.npy": (HIDDEN, 1), "eigenvals.npy": (HIDDEN, 1), "eigenvecs.npy": (HIDDEN, HIDDEN)}
    arrays = []
    for name, shape in shapes.items():
        try:
            values = np.load(folder / name, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ConfigError(f"{folder / name}: no array that can be read: {brief(str(error))}") from None
        if values.shape != shape or values.dtype.kind != "f":
            raise ConfigError(f"{folder / name}: {values.dtype} of shape {values.shape}; expected floats of {shape}")
        arrays.append(values)
    mean, values, vectors = arrays
    return PicturePca(mean[:, 0], vectors.T[:, : RGB.width], values[: RGB.width, 0])


def _read_sound_pca(path: Path) -> tuple[np.ndarray, np.ndarray]:
    arrays = read_arrays(path)
    shapes = {"pca_means": (VGGISH.width,), "pca_eigen_vectors": (VGGISH.width, VGGISH.width)}
    means, vectors = arrays.get("pca_means"), arrays.get("pca_eigen_vectors")
    if means is None or vectors is None or means.size != VGGISH.width or vectors.shape != shapes["pca_eigen_vectors"]:
        received = {name: values.shape for name, values in arrays.items()}
        raise ConfigError(f"{path}: holds {brief(received)}; expected {shapes}")
    return means.reshape(-1), vectors


def _vggish(path: Path) -> nn.Module:
    """The network, with the weights of a file."""
    layers: list[nn.Module] = []
    channels = 1
    for block in ((64,), (128,), (256, 256), (512, 512)):
        for width in block:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(True)]
            channels = width
        layers.append(nn.MaxPool2d(2, 2))
    places = (STEPS // 16) * (_BANDS // 16)
    dense = [nn.Linear(512 * places, 4096), nn.ReLU(True), nn.Linear(4096, 4096), nn.ReLU(True)]
    embeddings = nn.Sequential(*dense, nn.Linear(4096, VGGISH.width), nn.ReLU(True))
    network = nn.Sequential()
    network.add_module("features", nn.Sequential(*layers))
    network.add_module("channels_last", _ChannelsLast())
    network.add_module("embeddings", embeddings)
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        kept = {name: value for name, value in state.items() if name.startswith(("features.", "embeddings."))}
        network.load_state_dict(kept)
    except (
        SafetensorError,
        RuntimeError,
        AttributeError,
        OSError,
        ValueError,
        EOFError,
        pickle.UnpicklingError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{path}: not the weights of VGGish as torchvggish has them: {reason:.300}") from None
    return network.eval()


class _ChannelsLast(nn.Module):
    """Numbers of a feature map in the order of TensorFlow's VGGish: rows, columns, channels."""

    def forward(self, values: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch numbers"]:
        return values.permute(0, 2, 3, 1).flatten(1)


def _check_files(folder: Path, names: Sequence[str]) -> None:
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ConfigError(
            f"{folder} has no {', '.join(missing)}; expected a folder with {', '.join(names)}, which Google publishes"
        )


def _digest(folder: Path, names: Sequence[str]) -> str:
    return joint_digest(file_digest(folder / name) for name in names)
