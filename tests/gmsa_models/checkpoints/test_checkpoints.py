"""Checkpoints: whole round trips, and an error of its own for each way that a file can be wrong."""

import hashlib
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from small_models import KINDS, VOCABULARY, small_clip, small_model

import gmsa_models
from gmsa_models import Batch
from gmsa_models.checkpoints import files as checkpoints
from gmsa_models.checkpoints.files import available, describe, load, save
from gmsa_models.checkpoints.header import FORMAT_VERSION, METADATA_KEY, CheckpointError


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save(small_model(), tmp_path / "small.safetensors")


def rewrite(path: Path, change: Callable[[dict], None]) -> None:
    """Change the header of a checkpoint, leaving the weights."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def rewrite_contents(path: Path, change: Callable[[dict], None]) -> None:
    """Change what the checkpoint says of itself."""

    def changed(header: dict) -> None:
        contents = json.loads(header["__metadata__"][METADATA_KEY])
        change(contents)
        header["__metadata__"][METADATA_KEY] = json.dumps(contents)

    rewrite(path, changed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("modalities", [("visual", "audio"), ("audio", "visual"), ("audio",)])
def test_round_trip(kind: str, modalities: tuple[str, ...], tmp_path: Path) -> None:
    model = small_model(kind, modalities)
    model.card["scores"] = {"gap": 0.5}
    loaded = load(save(model, tmp_path / "sub" / "model.safetensors"))
    batch = Batch.from_clips([small_clip(13), small_clip(7, seed=1)])
    assert torch.equal(loaded(batch), model(batch))
    assert (loaded.config, loaded.vocabulary, loaded.card) == (model.config, VOCABULARY, model.card)
    # The order of the modalities is the order of the classifier's inputs.
    assert list(loaded.config.modalities) == list(modalities)
    assert not loaded.training


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_types_are_kept(dtype: torch.dtype, tmp_path: Path) -> None:
    loaded = load(save(small_model().to(dtype), tmp_path / "model.safetensors"))
    assert {parameter.dtype for parameter in loaded.parameters()} == {dtype}


def test_origin_names_the_file(saved: Path) -> None:
    origin = load(saved).origin
    assert origin == {
        "name": "small-gate-op",
        "path": str(saved),
        "sha256": hashlib.sha256(saved.read_bytes()).hexdigest(),
    }


def test_same_weights_same_bytes(saved: Path, tmp_path: Path) -> None:
    held: dict[str, str] = {}
    again = save(load(saved), tmp_path / "again.safetensors")
    assert again.read_bytes() == saved.read_bytes()
    # safetensors keeps metadata in a hash map, whose order differs between processes: one entry has one order.
    rewrite(again, lambda header: header["__metadata__"].pop(METADATA_KEY) and held.update(header["__metadata__"]))
    assert held == {}


def test_loading_leaves_the_random_state_alone(saved: Path) -> None:
    before = torch.random.get_rng_state()
    load(saved)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_failed_save_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save(small_model("baseline"), saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_describe_reads_no_weights(saved: Path) -> None:
    described = describe(saved)
    assert described.parameters == sum(parameter.numel() for parameter in small_model().parameters())
    assert (described.name, described.format_version) == ("small-gate-op", FORMAT_VERSION)
    assert described.vocabulary == VOCABULARY
    assert described.bytes == saved.stat().st_size


def test_the_zoo_is_found_by_name(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "ZOO", saved.parent)
    for name in ("gate-op-bd20", "baseline", "audioset-baseline"):
        save(small_model(), saved.parent / f"{name}.safetensors")
    assert available() == ["baseline", "gate-op-bd20", "audioset-baseline", "small"]
    assert load("baseline").origin["path"] == str(saved.parent / "baseline.safetensors")
    with pytest.raises(CheckpointError, match=r"'gate-op' is neither.*known: baseline, gate-op-bd20") as caught:
        load("gate-op")
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("name", available())
def test_every_zoo_model_loads(name: str) -> None:
    model = load(name)
    assert len(model.vocabulary) == model.config.classes
    assert Path(model.origin["path"]).stat().st_size <= 3 * 2**20


class TestRefusals:
    """One error a fault."""

    @pytest.mark.parametrize("protocol", range(2, 6))
    def test_pickle_by_content(self, protocol: int, tmp_path: Path) -> None:
        path = tmp_path / "model.safetensors"
        path.write_bytes(pickle.dumps({"weights": [1.0, 2.0]}, protocol))
        with pytest.raises(CheckpointError, match=r"can run any code.*weights_only=True.*gmsa_models.save"):
            load(path)

    @pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.bin", "model.ckpt"])
    def test_pickle_of_torch(self, name: str, tmp_path: Path) -> None:
        torch.save({"weight": torch.zeros(3)}, tmp_path / name)
        with pytest.raises(CheckpointError, match=name):
            load(tmp_path / name)

    def test_a_header_whose_length_looks_like_a_pickle_is_read(self, saved: Path) -> None:
        # 0x..80 little-endian starts with the byte that starts a pickle.
        def pad(header: dict) -> None:
            text = len(json.dumps(header))
            wanted = next(size for size in range(text + 20, 2**20) if size % 65536 in (0x280, 0x380, 0x480, 0x580))
            header["__metadata__"]["pad"] = "x" * (wanted - text - len(', "pad": ""'))

        rewrite(saved, pad)
        assert saved.read_bytes()[0] == 0x80
        assert load(saved).card["name"] == "small-gate-op"

    def test_something_else(self, tmp_path: Path) -> None:
        path = tmp_path / "model.safetensors"
        path.write_text("This is a letter, not a model.")
        with pytest.raises(CheckpointError, match="not a safetensors file"):
            load(path)

    def test_safetensors_of_another_program(self, tmp_path: Path) -> None:
        save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
        with pytest.raises(CheckpointError, match="without the 'gmsa_models' metadata"):
            load(tmp_path / "other.safetensors")

    @pytest.mark.parametrize("kept", [0, 5, 8, 9, 300])
    def test_truncated_in_the_header(self, kept: int, saved: Path) -> None:
        saved.write_bytes(saved.read_bytes()[:kept])
        with pytest.raises(CheckpointError):
            load(saved)

    def test_truncated_in_the_weights(self, saved: Path) -> None:
        saved.write_bytes(saved.read_bytes()[:-1])
        with pytest.raises(CheckpointError, match=r"holds \d+ bytes of weights; its header says \d+"):
            load(saved)

    def test_bytes_too_many(self, saved: Path) -> None:
        saved.write_bytes(saved.read_bytes() + b"more")
        with pytest.raises(CheckpointError, match="4 bytes after the last tensor"):
            load(saved)

    def test_a_header_length_that_lies(self, saved: Path) -> None:
        data = saved.read_bytes()
        saved.write_bytes(struct.pack("<Q", 2**62) + data[8:])
        with pytest.raises(CheckpointError, match=f"claims a header of {2**62} bytes"):
            load(saved)

    def test_a_header_that_is_not_json(self, saved: Path) -> None:
        data = bytearray(saved.read_bytes())
        data[12] = 0xFF
        saved.write_bytes(data)
        with pytest.raises(CheckpointError, match="the header is not JSON"):
            load(saved)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("shape", [2**40, 2**40]),
            ("shape", [-1]),
            ("shape", "wide"),
            ("data_offsets", [0, 1]),
            ("data_offsets", [4]),
            ("data_offsets", [-4, 0]),
            ("dtype", "F8_E4M3"),
        ],
    )
    def test_an_impossible_tensor(self, field: str, value: object, saved: Path) -> None:
        rewrite(saved, lambda header: header["classifier.bias"].update({field: value}))
        with pytest.raises(CheckpointError, match=r"classifier\.bias"):
            load(saved)

    def test_tensors_that_overlap(self, saved: Path) -> None:
        def overlap(header: dict) -> None:
            names = [name for name in header if name != "__metadata__"]
            first, second = sorted(names, key=lambda name: header[name]["data_offsets"])[:2]
            size = header[second]["data_offsets"][1] - header[second]["data_offsets"][0]
            header[second]["data_offsets"] = [header[first]["data_offsets"][0], header[first]["data_offsets"][0] + size]

        rewrite(saved, overlap)
        with pytest.raises(CheckpointError, match="overlap or leave a hole"):
            load(saved)

    def test_newer_format(self, saved: Path) -> None:
        rewrite_contents(saved, lambda contents: contents.update(format_version=FORMAT_VERSION + 1))
        with pytest.raises(CheckpointError, match=f"format version {FORMAT_VERSION + 1}.*Upgrade"):
            load(saved)

    @pytest.mark.parametrize("version", [None, 0, "one"])
    def test_no_version(self, version: object, saved: Path) -> None:
        rewrite_contents(saved, lambda contents: contents.update(format_version=version))
        with pytest.raises(CheckpointError, match="format version"):
            load(saved)

    def test_missing_tensor(self, saved: Path) -> None:
        rewrite_contents(saved, lambda contents: contents["config"].update(layers=2))
        with pytest.raises(CheckpointError, match=r"encoders\.audio\.layers\.1"):
            load(saved)

    def test_more_layers_than_tensors_costs_nothing(self, saved: Path) -> None:
        rewrite_contents(saved, lambda contents: contents["config"].update(layers=10**9))
        with pytest.raises(CheckpointError, match="layers, the file"):
            load(saved)

    def test_unknown_tensor(self, saved: Path) -> None:
        rewrite_contents(saved, lambda contents: contents["config"].update(attention="none", neighbourhood=None))
        with pytest.raises(CheckpointError, match="attention"):
            load(saved)

    def test_wrong_shape(self, saved: Path) -> None:
        rewrite_contents(saved, lambda contents: contents["config"]["modalities"].update(visual=16))
        with pytest.raises(CheckpointError, match=r"has shape \(.*12.*the config makes it \(.*16"):
            load(saved)

    @pytest.mark.parametrize(("width", "error"), [(2**20, CheckpointError), (2**30, CheckpointError)])
    def test_a_config_of_any_size_allocates_nothing(self, width: int, error: type, saved: Path) -> None:
        rewrite_contents(saved, lambda contents: contents["config"]["modalities"].update(visual=width))
        with pytest.raises(error):
            load(saved)

    @pytest.mark.parametrize(
        "change",
        [
            {"config": None},
            {"config": {"attention": "gate-op"}},
            {"vocabulary": {"dataset": "x", "indices": [1, 1], "names": ["a", "b"]}},
            {"card": 3},
        ],
    )
    def test_contents_that_make_no_sense(self, change: dict, saved: Path) -> None:
        rewrite_contents(saved, lambda contents: contents.update(change))
        with pytest.raises(CheckpointError, match="cannot be used"):
            load(saved)

    def test_a_vocabulary_of_another_length(self, saved: Path) -> None:
        rewrite_contents(saved, lambda contents: contents["vocabulary"].update(indices=[1], names=["a"]))
        with pytest.raises(CheckpointError, match="a vocabulary of 1 for 5"):
            load(saved)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_files_raise_checkpoint_errors_only(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = save(small_model(), tmp_path_factory.getbasetemp() / "damaged.safetensors")
    contents = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(contents[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        contents[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(contents[: data.draw(st.integers(0, len(contents)))] if data.draw(st.booleans()) else contents)
    try:
        model = load(path)
    except CheckpointError:
        return
    assert model.config.classes == len(VOCABULARY)


def test_public_names() -> None:
    for name in gmsa_models.__all__:
        assert hasattr(gmsa_models, name)
