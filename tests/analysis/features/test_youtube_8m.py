"""YouTube-8M's own spaces: the PCA steps on the golden files of their authors, loading on files made here."""

import numpy as np
import pytest
import torch
from frozen_graphs import inception_graph
from safetensors.torch import save_file

from analysis.features.log_mel import log_mel_spectrogram
from analysis.features.youtube_8m import Inception, VGGish, pca_of_sound, read_picture_pca
from gmsa_models.data.clip import dequantize, quantize
from gmsa_models.data.spaces import RGB
from gmsa_models.data.spaces import VGGISH as VGGISH_SPACE
from gmsa_models.errors import ConfigError

CPU = torch.device("cpu")
random = np.random.default_rng(0)


def reflection(vector):
    """Turns every vector over the plane that the given one stands on; orthogonal."""
    unit = vector / np.linalg.norm(vector)
    return np.eye(len(vector)) - 2 * np.outer(unit, unit)


def write_picture_pca(folder, original, pca):
    """PCA files by which one known vector becomes another known one; all else about them is random.

    The rows of `eigenvecs` are the rows of an orthogonal matrix that is not symmetric.
    """
    values = random.uniform(0.05, 0.5, 2048)
    target = np.zeros(2048)
    target[:1024] = pca * np.sqrt(values[:1024] + 1e-4)
    direction = random.standard_normal(2048)
    target[1024:] = random.standard_normal(1024)
    length = np.linalg.norm(target)
    mean = original - direction * length / np.linalg.norm(direction)
    turned = np.roll(original - mean, 1)  # a rotation of the coordinates, which is not its own inverse
    vectors = reflection(turned - target) @ np.roll(np.eye(2048), 1, 0)
    for name, array in {"mean": mean[:, None], "eigenvals": values[:, None], "eigenvecs": vectors}.items():
        np.save(folder / f"{name}.npy", array)


def test_the_pca_of_pictures_gives_the_golden_vector(tmp_path, shared_data):
    golden = np.load(shared_data / "yt8m_golden" / "sports1m_frame_inception_pca_golden.npz")
    write_picture_pca(tmp_path, golden["original"], golden["pca"])
    result = read_picture_pca(tmp_path)(golden["original"][None])[0]
    assert np.abs(result - golden["pca"]).max() < 1e-5
    # What 8 bits leave: at most half a step, of 4 / 255, inside [-2, 2].
    inside = np.abs(golden["pca"]) < 1.98
    assert inside.mean() > 0.9
    assert np.abs(dequantize(quantize(result)) - golden["pca"])[inside].max() < 2 / 255 + 1e-5


def test_the_pca_of_pictures_by_hand(tmp_path):
    write_picture_pca(tmp_path, random.standard_normal(2048), random.standard_normal(1024))
    pca = read_picture_pca(tmp_path)
    mean, values, vectors = (np.load(tmp_path / f"{name}.npy") for name in ("mean", "eigenvals", "eigenvecs"))
    vector = random.standard_normal(2048)
    for direction in (0, 7, 1023):
        expected = vectors[direction] @ (vector - mean[:, 0]) / (values[direction, 0] + 1e-4) ** 0.5
        assert pca(vector[None])[0, direction] == pytest.approx(expected, abs=1e-4)


def test_the_pca_of_sound_is_the_published_one(shared_data):
    arrays = np.load(shared_data / "models" / "vggish_pca_params.npz")
    mean, directions = arrays["pca_means"].reshape(-1), arrays["pca_eigen_vectors"]
    vectors = random.uniform(0, 1, (3, 128))
    result = pca_of_sound(vectors, mean, directions)
    slow = [[sum(directions[row, k] * (vector[k] - mean[k]) for k in range(128)) for row in range(128)]
            for vector in vectors]  # fmt: skip
    np.testing.assert_allclose(result, np.clip(slow, -2, 2), atol=1e-5)
    # AudioSet's last step cuts (x + 2) * 255 / 4 to a whole number; ours is the nearest of what stands for it.
    cut = ((np.clip(slow, -2, 2) + 2) * (255 / 4)).astype(np.uint8)
    assert np.abs(quantize(result).astype(int) - cut).max() <= 1
    assert (quantize(result) == cut).mean() > 0.98


@pytest.fixture(scope="module")
def pictures_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("yt8m")
    inception_graph(2048).write(folder / "classify_image_graph_def.pb")
    write_picture_pca(folder, random.standard_normal(2048), random.standard_normal(1024))
    return folder


def test_pictures_go_through_the_graph_and_the_pca(pictures_folder):
    extractor = Inception(pictures_folder, CPU)
    pictures = list(random.integers(0, 256, (2, 13, 17, 3)).astype(np.uint8))
    hidden = extractor.hidden(pictures[1])
    assert hidden.shape == (1, 2048)
    vectors = extractor(pictures)
    np.testing.assert_allclose(vectors[1:], read_picture_pca(pictures_folder)(hidden.numpy()), atol=1e-5)
    assert extractor.quantized
    assert extractor.space.is_same(RGB)
    assert len(extractor.space.weights) == 64


def test_a_folder_without_a_file_says_which(pictures_folder, tmp_path):
    with pytest.raises(ConfigError, match=r"has no classify_image_graph_def\.pb, mean\.npy, eigenvals\.npy"):
        Inception(tmp_path, CPU)
    for file in pictures_folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "mean.npy").unlink()
    np.save(tmp_path / "mean.npy", np.ones(2048))
    with pytest.raises(ConfigError, match=r"mean\.npy: float64 of shape \(2048,\); expected floats of \(2048, 1\)"):
        Inception(tmp_path, CPU)
    (tmp_path / "mean.npy").write_bytes(b"no")
    with pytest.raises(ConfigError, match=r"mean\.npy: no array that can be read"):
        Inception(tmp_path, CPU)


@pytest.fixture(scope="module")
def sound_folder(tmp_path_factory, vggish_state):
    folder = tmp_path_factory.mktemp("vggish")
    save_file(vggish_state, folder / "vggish.safetensors")
    np.savez(folder / "vggish_pca_params.npz", pca_means=random.standard_normal((128, 1)),
             pca_eigen_vectors=random.standard_normal((128, 128)))  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def vggish_state():
    """Random weights with the names and shapes of torchvggish."""
    generator = torch.Generator().manual_seed(0)
    shapes = {}
    for place, (before, after) in {0: (1, 64), 3: (64, 128), 6: (128, 256), 8: (256, 256), 11: (256, 512),
                                   13: (512, 512)}.items():  # fmt: skip
        shapes |= {f"features.{place}.weight": (after, before, 3, 3), f"features.{place}.bias": (after,)}
    for place, (before, after) in {0: (12288, 4096), 2: (4096, 4096), 4: (4096, 128)}.items():
        shapes |= {f"embeddings.{place}.weight": (after, before), f"embeddings.{place}.bias": (after,)}
    return {
        name: torch.randn(shape, generator=generator) * (0.5 / np.prod(shape[1:]) ** 0.5 if len(shape) > 1 else 0.05)
        for name, shape in shapes.items()
    }


def test_sound_goes_through_vggish_as_torchvggish_has_it(sound_folder, vggish_state):
    extractor = VGGish(sound_folder, CPU)
    windows = random.uniform(-1, 1, (2, extractor.window)).astype(np.float32)
    values = torch.from_numpy(log_mel_spectrogram(windows))[:, None]
    assert values.shape == (2, 1, 96, 64)
    for place in (0, 3, 6, 8, 11, 13):
        weight, bias = vggish_state[f"features.{place}.weight"], vggish_state[f"features.{place}.bias"]
        values = torch.nn.functional.conv2d(values, weight, bias, padding=1).relu()
        values = values if place in (6, 11) else torch.nn.functional.max_pool2d(values, 2)
    values = values.transpose(1, 3).transpose(1, 2).reshape(2, -1)  # as torchvggish flattens
    for place in (0, 2, 4):
        values = (
            values @ vggish_state[f"embeddings.{place}.weight"].T + vggish_state[f"embeddings.{place}.bias"]
        ).relu()
    arrays = np.load(sound_folder / "vggish_pca_params.npz")
    expected = np.clip((values.numpy() - arrays["pca_means"].T) @ arrays["pca_eigen_vectors"].T, -2, 2)
    vectors = extractor(windows)
    np.testing.assert_allclose(vectors, expected, atol=1e-3)
    assert np.abs(vectors).max() <= 2
    assert extractor.space.is_same(VGGISH_SPACE)


def test_other_weights_are_refused(sound_folder, tmp_path):
    (tmp_path / "vggish_pca_params.npz").symlink_to(sound_folder / "vggish_pca_params.npz")
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "vggish.pth")
    with pytest.raises(ConfigError, match=r"vggish\.pth: not the weights of VGGish"):
        VGGish(tmp_path, CPU)
    (tmp_path / "vggish.pth").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(ConfigError, match=r"vggish\.pth: not the weights of VGGish"):
        VGGish(tmp_path, CPU)
