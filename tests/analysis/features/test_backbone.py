"""Vectors by transformers models with random weights are what the models themselves give."""

import numpy as np
import pytest
import torch

transformers = pytest.importorskip("transformers", reason="transformers, of the extra models, is not installed")

from analysis.capture import load_pretrained  # noqa: E402
from analysis.features.backbone import Backbone  # noqa: E402
from analysis.pretrained.preparation import PicturePreparation  # noqa: E402
from benchmarks.random_model import write_model  # noqa: E402
from gmsa_models.errors import ConfigError  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 26}
CPU = torch.device("cpu")


def pictures(count):
    return list(np.random.default_rng(0).integers(0, 256, (count, 23, 31, 3)).astype(np.uint8))


@pytest.mark.parametrize("kind", ["vit", "clip", "swin", "videomae", "vjepa2"])
def test_vectors_are_the_models_own(kind, tmp_path):
    folder = write_model(kind, tmp_path)
    extractor = Backbone(folder, CPU)
    frames = 3
    given = pictures(frames * extractor.pictures)
    vectors = extractor(given)
    values = PicturePreparation.read(folder)(given)
    model = load_pretrained(folder)
    model = getattr(model, "vision_model", model.base_model)
    with torch.inference_mode():
        for frame in range(frames):
            one = values[frame * extractor.pictures : (frame + 1) * extractor.pictures]
            one = one[None] if kind in ("videomae", "vjepa2") else one
            output = model(one)
            pooled = output.pooler_output if getattr(output, "pooler_output", None) is not None else None
            expected = output.last_hidden_state.mean(1) if pooled is None else pooled
            np.testing.assert_allclose(vectors[frame], expected[0], atol=1e-5)
    assert vectors.shape == (frames, extractor.space.width)
    assert extractor.space.name == f"transformers-{type(model).__name__}"


def test_other_weights_or_another_preparation_are_another_space(tmp_path):
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    write_model("vit", folders[0])
    for folder in folders[1:]:
        for file in folders[0].iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
    same, other, prepared = (Backbone(folder, CPU).space for folder in folders)
    assert same == other == prepared
    (path,) = folders[1].glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
    text = (folders[2] / "preprocessor_config.json").read_text()
    (folders[2] / "preprocessor_config.json").write_text(text.replace("0.485", "0.4"))
    changed, prepared = (Backbone(folder, CPU).space for folder in folders[1:])
    assert not changed.is_same(same)
    assert not prepared.is_same(same)


def test_a_model_of_sound_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="a whisper model hears sound; expected one of pictures"):
        Backbone(write_model("whisper", tmp_path), CPU)
