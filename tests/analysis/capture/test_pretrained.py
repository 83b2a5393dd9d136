"""load_pretrained: models from a local folder; what is refused."""

import json

import pytest
import torch
import transformers
from foreign_models import FOREIGN
from safetensors.torch import load_file, save_file

from analysis.capture import CaptureError, load_pretrained

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture
def folder(tmp_path):
    """A small VideoMAE classifier, whose biases are not zeros."""
    config = transformers.VideoMAEConfig(**FOREIGN["VideoMAE"].sizes, num_labels=5)
    torch.manual_seed(0)
    model = transformers.VideoMAEForVideoClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape))
    model.save_pretrained(tmp_path)
    return tmp_path


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_folder_gives_the_model_that_was_saved(folder):
    model = load_pretrained(folder)
    assert not model.training
    saved = load_file(folder / "model.safetensors")
    numbers = sorted(float(values.double().sum()) for values in saved.values())
    assert sorted(float(values.double().sum()) for values in model.state_dict().values()) == pytest.approx(numbers)
    with torch.no_grad():
        assert model(FOREIGN["VideoMAE"].example(1)).logits.shape == (1, 5)


def test_biases_that_did_not_load_are_refused(folder, monkeypatch):
    """As in a release of transformers, which loaded the biases of queries and values as zeros and said nothing."""
    load = transformers.VideoMAEForVideoClassification.from_pretrained.__func__

    def without_biases(kind, *args, **kwargs):
        model, report = load(kind, *args, **kwargs)
        names = [name for name, _ in model.named_parameters() if "layer.1" in name and name.endswith("bias")]
        with torch.no_grad():
            model.get_parameter(names[0]).zero_()
        return model, report

    monkeypatch.setattr(transformers.VideoMAEForVideoClassification, "from_pretrained", classmethod(without_biases))
    with pytest.raises(CaptureError, match=r"1 tensors of the files did not load, .*layer\.1\..*bias \(\d+,\)"):
        load_pretrained(folder)


def test_weights_that_did_not_all_load_are_refused_by_name(folder):
    saved = load_file(folder / "model.safetensors")
    lost = {name: saved.pop(name) for name in ("classifier.bias", "classifier.weight")}
    saved["head.weight"] = lost["classifier.weight"] + 1
    save_file(saved, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CaptureError, match=(
        r"2 weights of the model are missing in the files: classifier\.bias, classifier\.weight; "
        r"1 tensors of the files did not load, since .*: head\.weight \(5, \d+\)\. Save the model again"
    )):  # fmt: skip
        load_pretrained(folder)
    saved["classifier.bias"], saved["classifier.weight"] = lost["classifier.bias"][:3], lost["classifier.weight"]
    save_file(saved, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CaptureError, match=r"classifier\.bias.*head\.weight"):
        load_pretrained(folder)


def test_weights_that_are_not_finite_are_refused_by_name(folder):
    saved = load_file(folder / "model.safetensors")
    saved["classifier.bias"][1] = float("nan")
    save_file(saved, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CaptureError, match=r"1 weights have values that are not finite: classifier\.bias\."):
        load_pretrained(folder)


def test_pickles_are_refused(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"not opened")
    with pytest.raises(CaptureError, match=r"only pytorch_model\.bin, which may run code .* refused.*save_pretrained"):
        load_pretrained(folder)


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(CaptureError, match="has no weights in safetensors: none"):
        load_pretrained(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"auto_map": {"AutoModel": "mine.Model"}}, r"asks for code of its own \(auto_map\), which is not run"),
        ({"architectures": ["Mine"]}, "has no model 'Mine'"),
        ({"architectures": ["logging"]}, "has no model 'logging'"),
        ({"architectures": None}, "architectures is None; expected a list of one class name"),
    ],
)
def test_other_configurations_are_refused(folder, values, message):
    change(folder / "config.json", **values)
    with pytest.raises(CaptureError, match=message):
        load_pretrained(folder)


def test_what_is_no_folder_or_no_file_is_refused(folder):
    with pytest.raises(CaptureError, match="is no folder; expected one with config"):
        load_pretrained(folder / "other")
    (folder / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    with pytest.raises(CaptureError, match="the weights cannot be read"):
        load_pretrained(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(CaptureError, match="is no JSON"):
        load_pretrained(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CaptureError, match=r"has no config\.json"):
        load_pretrained(folder)


@pytest.mark.parametrize(("named", "saved"), [("float16", torch.float32), ("float32", torch.bfloat16)])
def test_files_of_another_type_than_the_configuration_names_are_cast(folder, named, saved):
    path = folder / "model.safetensors"
    tensors = {name: values.to(saved) for name, values in load_file(path).items()}
    save_file(tensors, path, {"format": "pt"})
    change(folder / "config.json", dtype=named)
    model = load_pretrained(folder)
    assert {values.dtype for values in model.parameters()} == {getattr(torch, named)}
    values = model.get_parameter("classifier.weight")
    assert torch.equal(values, tensors["classifier.weight"].to(values.dtype))


WRONG = {
    "heads that do not divide": ({"num_attention_heads": 5}, "makes no VideoMAEForVideoClassification of config.json"),
    "a text for a number": ({"num_attention_heads": "2"}, "makes no VideoMAEForVideoClassification of config.json"),
    "no type": ({"dtype": "junk"}, "makes no VideoMAEForVideoClassification of config.json"),
    "no library for it": ({"quantization_config": {"load_in_8bit": True}}, "makes no VideoMAEForVideoClassification"),
    "a tokenizer": ({"architectures": ["BertTokenizer"]}, "has no model 'BertTokenizer'"),
    "a configuration": ({"architectures": ["VideoMAEConfig"]}, "has no model 'VideoMAEConfig'"),
    "the base of all": ({"architectures": ["PreTrainedModel"]}, "has no model 'PreTrainedModel'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_transformers_refuses_is_one_error_that_names_the_folder(folder, name):
    values, message = WRONG[name]
    change(folder / "config.json", **values)
    with pytest.raises(CaptureError, match=message) as refused:
        load_pretrained(folder)
    assert str(folder) in str(refused.value)


def test_an_index_that_is_no_json_is_one_error(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text("{")
    with pytest.raises(CaptureError, match=r"makes no VideoMAEForVideoClassification .*\(JSONDecodeError"):
        load_pretrained(folder)
