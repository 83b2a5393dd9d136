"""Bad files of every kind through the readers and the command line: one clear error each, nothing else lost."""

import json
import re
import resource

import pytest
from bad_files import BOTH, FILES, HARMLESS, UNFIT, between
from small_models import small_model

from gmsa_models import read_clips, save
from gmsa_models.data.skipped import Skipped
from gmsa_models.evaluation.scoring import evaluate
from tests.gmsa.test_command_line import run
from tests.gmsa_models.data.test_sources import ids

ALLOWED_KIB = 100_000  # of memory that a small bad file may take at most


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save(small_model(), tmp_path_factory.mktemp("model") / "mine.safetensors")


@pytest.mark.parametrize("name", FILES)
def test_one_error_names_the_file_and_what_to_do(name, tmp_path):
    fault, path = FILES[name], tmp_path / "x.tfrecord"
    fault.make(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(fault.error, match=fault.said) as caught:
        list(read_clips(path))
    message = str(caught.value)
    assert type(caught.value) is fault.error
    assert message.startswith(str(path))
    assert len(message) < 600
    assert re.search("; |expected", message)  # what to do, or what it should be
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < ALLOWED_KIB
    skipped = Skipped()
    assert tuple(ids(read_clips(path, on_error="skip", on_skip=skipped))) == fault.kept
    assert dict(skipped.counts) == {caught.value.kind: 1}


@pytest.mark.parametrize("name", FILES)
def test_every_command_says_it_in_one_line(name, tmp_path, model):
    fault, path, out = FILES[name], tmp_path / "x.tfrecord", tmp_path / "all.parquet"
    fault.make(path)
    out.write_bytes(b"written before")
    reading = {
        "evaluate": ("evaluate", "--data", path, "--model", model),
        "catalog": ("catalog", path, "--out", out),
        "inspect": ("inspect", path if not fault.kept else f"{path}#bad", "--model", model, "--out", tmp_path / "seen"),
    }
    for command, words in reading.items():
        done = run(*words)
        if command == "inspect" and ("no clip 'bad'" in done.stderr or name == "an id that comes twice"):
            continue  # only records that have the id's bytes are taken apart, and none after the first that has the id
        assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1), (command, done.output)
        assert done.stderr.startswith(f"gmsa: {path}")
        assert re.search(fault.said, done.stderr)
    assert out.read_bytes() == b"written before"
    done = run(*reading["evaluate"], "--on-error", "skip", "--json")
    assert done.exit_code == (0 if fault.kept else 2)
    assert "gmsa: 1 x " in done.stderr
    if fault.kept:
        assert json.loads(done.stdout)["videos"] == len(fault.kept)


@pytest.mark.parametrize("name", UNFIT)
def test_what_a_model_cannot_take_names_the_file(name, tmp_path, model):
    fault, path = UNFIT[name], tmp_path / "x.tfrecord"
    fault.make(path)
    assert ids(read_clips(path)) == ["clip1", "bad", "clip2"]
    with pytest.raises(fault.error, match=rf"x\.tfrecord#bad.*{fault.said}"):
        evaluate(small_model(), str(path))
    for words in (("evaluate", "--data", path), ("inspect", f"{path}#bad", "--out", tmp_path / "seen")):
        done = run(*words, "--model", model)
        assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1), done.output
        assert re.search(rf"x\.tfrecord#bad.*{fault.said}", done.stderr)
    done = run("evaluate", "--data", path, "--model", model, "--on-error", "skip", "--json")
    assert json.loads(done.stdout)["videos"] == 2
    assert "1 x does not fit the model" in done.stderr


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_odd_but_whole_is_read(name, tmp_path, model):
    path = tmp_path / "x.tfrecord"
    between(HARMLESS[name])(path)
    assert ids(read_clips(path)) == [BOTH[0], "bad", BOTH[1]]
    done = run("evaluate", "--data", path, "--model", model, "--json")
    scores = json.loads(done.stdout)
    assert scores["videos"] + scores["unlabelled"] == 3


def test_a_name_that_no_file_can_have(model):
    for name in ("x" * 300, "a\0b"):
        done = run("evaluate", "--data", name, "--model", model)
        assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
        assert done.stderr.startswith("gmsa: no file ")
