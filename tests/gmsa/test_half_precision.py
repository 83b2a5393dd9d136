"""Every command of the workbench takes a model whose weights are in half precision."""

import json

import pytest
import torch
from test_command_line import run

from analysis.record.files import open_record
from gmsa_models import load, save


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with four montages of a few seconds, and a run of two steps in bfloat16 on them."""
    folder = tmp_path_factory.mktemp("half")
    made = run("montage", "--out", folder / "clips", "--count", 4, "--frames", 12, 16, "--events", 1, 1)
    assert made.exit_code == 0, made.output
    done = run("train", "--data", folder / "clips/*.tfrecord", "--out", folder / "bfloat16", "--steps", 2,
               "--batch-size", 2, "--max-frames", 16, "--precision", "bf16-true", "--accelerator", "cpu")  # fmt: skip
    assert done.exit_code == 0, done.output
    model = load(folder / "bfloat16/model.safetensors").to(torch.float16)
    model.card["name"] = "float16"
    save(model, folder / "float16/model.safetensors")
    return folder


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.usefixtures("pages_left_empty")
def test_each_command_takes_it(trained, tmp_path, dtype):
    model, clips = trained / dtype / "model.safetensors", trained / "clips/*.tfrecord"
    assert {str(each.dtype) for each in load(model).parameters()} == {f"torch.{dtype}"}
    done = run("inspect", clips, "--model", model, "--explain", "--device", "cpu", "--out", tmp_path / "inspected")
    assert done.exit_code == 0, done.output
    (path,) = (tmp_path / "inspected").glob("*.nc")
    record = open_record(path)
    assert (record.attrs["weights_type"], record.attrs["computed_in"]) == (dtype, "float32")
    assert record["faithfulness"].sel(measure="deletion").notnull().all()
    done = run("evaluate", "--model", model, "--data", clips, "--device", "cpu", "--json")
    assert json.loads(done.stdout)["videos"] == 4
    done = run("sweep", "--model", model, "--data", clips, "--out", tmp_path / "swept")
    assert done.exit_code == 0, done.output
    items = ("figure-7-evidence", "table-1-results")
    done = run("figures", "--models", model, "--data", clips, "--only", ",".join(items), "--explained", 1, "--formats",
               "png", "--out", tmp_path / "drawn")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert all(f"{item}: drawn" in done.output for item in items)
