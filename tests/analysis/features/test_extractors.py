"""Extractors by name, and a video as a clip: which frame sees and hears what."""

import pytest
import torch

from analysis.features.log_mel import LogMel
from analysis.features.registry import AUDIO, VISUAL, name_of_space, open_audio, open_visual
from gmsa_models.data.spaces import RGB, VGGISH, FeatureSpace
from gmsa_models.errors import ArgumentError, UnknownNameError

CPU = torch.device("cpu")


def test_an_unknown_name_lists_the_known():
    with pytest.raises(UnknownNameError, match="unknown extractor 'resnet'; --visual knows: efficientnet-lite0, tra"):
        open_visual("resnet", CPU)
    with pytest.raises(UnknownNameError, match="--audio knows: log-mel, yamnet, vggish"):
        open_audio("efficientnet-lite0", CPU)


def test_weights_are_given_where_they_are_needed_and_only_there():
    with pytest.raises(ArgumentError, match=r"yamnet needs yamnet_audio.*: give --audio yamnet=PATH"):
        open_audio("yamnet", CPU)
    with pytest.raises(ArgumentError, match=r"log-mel takes no weights; received 'x\.bin': give --audio log-mel"):
        open_audio("log-mel=x.bin", CPU)


def test_a_space_names_its_extractor():
    assert name_of_space(LogMel.space) == ("log-mel", "")
    assert [name_of_space(space)[0] for space in (RGB, VGGISH)] == ["youtube-8m", "vggish"]
    assert name_of_space(FeatureSpace("transformers-ViTModel", 768))[0] == "transformers"
    with pytest.raises(UnknownNameError, match=r"no extractor makes features of the space 'own' \(3-d\); known: eff"):
        name_of_space(FeatureSpace("own", 3))
    assert not {each.space for each in VISUAL.values()} & {each.space for each in AUDIO.values()}
