"""`gmsa whatif` and `gmsa inspect --edit`: what is printed and written, and one clear line for what cannot be."""

import json

import pytest
from small_models import moved, small_clip, small_model
from typer.testing import CliRunner

import gmsa
from analysis.interventions.edit_texts import parse_edit
from analysis.interventions.running import run_with
from analysis.record.edits import record_edits
from analysis.record.files import open_record
from gmsa_models import load, read_clips, save, write_clips

runner = CliRunner()


def run(*words):
    return runner.invoke(gmsa.app, [str(word) for word in words])


@pytest.fixture
def made(tmp_path):
    """A folder with a model, one without attention, and a file of two clips."""
    save(moved(small_model("gate-op"), 0.4), tmp_path / "mine.safetensors")
    save(small_model("none"), tmp_path / "control.safetensors")
    write_clips(tmp_path / "clips.tfrecord", [small_clip(12), small_clip(9, seed=1)])
    return tmp_path


def test_whatif_prints_a_row_a_question(made):
    done = run("whatif", f"{made / 'clips.tfrecord'}#clip0", "--model", made / "mine.safetensors", "--seconds", 4)
    assert done.exit_code == 0, done.output
    assert "clip0: what would make another class than" in done.stdout
    first = [line[:18].split() for line in done.stdout.splitlines()]
    for word in ("seconds", "edges", "shift", "gates", "frame"):
        assert any(word in words for words in first), word


def test_whatif_in_json_is_confirmed_by_a_pass(made):
    source, file = f"{made / 'clips.tfrecord'}#clip1", made / "mine.safetensors"
    done = run("whatif", source, "--model", file, "--seconds", 3, "--json")
    answers = json.loads(done.stdout)["answers"]
    seconds = answers[0]
    assert seconds["question"] == "fewest seconds to take out"
    model, clip = load(file), next(iter(read_clips(source)))
    logits = run_with(model, clip, [parse_edit(text) for text in seconds["edits"]]).logits[0]
    assert model.vocabulary.names[int(logits.argmax())] == seconds["after"] != seconds["before"]


@pytest.mark.usefixtures("pages_left_empty")
def test_inspect_with_edits_writes_both_passes(made):
    out = made / "out"
    text = "knock-out visual/0/local/weights keys 2..5; force-gate audio/0/gate to 0"
    done = run("inspect", f"{made / 'clips.tfrecord'}#clip0", "--model", made / "mine.safetensors", "--edit", text,
               "--out", out)  # fmt: skip
    assert done.exit_code == 0, done.output
    plain, edited = (open_record(path) for path in sorted(out.glob("*.nc")))
    assert record_edits(plain.attrs) == ()
    assert "; ".join(record_edits(edited.attrs)) == text
    assert "knock-out visual/0/local/weights keys 2..5" in done.stdout
    (path,) = (path for path in out.glob("*@edited.json") if "against" not in path.name)
    assert json.loads(path.read_text())["models"][0]["edits"] == text.split("; ")


def test_an_edited_pass_stands_beside_another_model(made):
    mine, control = (made / f"{name}.safetensors" for name in ("mine", "control"))
    words = [
        "--model",
        mine,
        "--against",
        control,
        "--edit",
        "drop */input at 0..1",
        "--html",
        "--live",
        "--out",
        made / "beside",
    ]
    done = run("inspect", f"{made / 'clips.tfrecord'}#clip0", *words)
    assert done.exit_code == 0, done.output
    records = [open_record(path) for path in (made / "beside").glob("*.nc")]
    assert {str(each["model"].item()): record_edits(each.attrs) for each in records} == {
        "small-gate-op": (), "small-none": (), "small-gate-op@edited": ("drop */input at 0..1",)
    }  # fmt: skip
    (page,) = (made / "beside").glob("*.html")
    assert '{"against": "small-none", "model": "small-gate-op@edited"}' in page.read_text()


@pytest.mark.parametrize("name", ["clip1", "{folder}/clips.tfrecord#clip1"])
@pytest.mark.usefixtures("pages_left_empty")
def test_a_patch_names_a_clip_by_its_id_as_records_do(made, name):
    source, model = f"{made / 'clips.tfrecord'}#clip0", load(made / "mine.safetensors")
    text = f"patch visual/0/local/contexts from {name.format(folder=made)} at 2..5"
    done = run("inspect", source, "--model", made / "mine.safetensors", "--edit", text, "--out", made / "out")
    assert done.exit_code == 0, done.output
    (record,) = (open_record(path) for path in (made / "out").glob("*@edited.nc"))
    assert record_edits(record.attrs) == ("patch visual/0/local/contexts from clip1 at 2..5",)
    other = next(iter(read_clips(f"{made / 'clips.tfrecord'}#clip1")))
    expected = run_with(model, next(iter(read_clips(source))), [parse_edit(text, lambda _: other)])
    assert record["logit"].values == pytest.approx(expected.logits[0].numpy(), abs=1e-5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("inspect", "CLIP", "--model", "MINE", "--edit", "drop visual/input"), "expected 'at', as in 'drop SITE at"),
        (("inspect", "CLIP", "--model", "MINE", "--edit", "drop sound/input at 0..1"), "the model has no site sound"),
        (("inspect", "CLIP", "--model", "MINE", "--edit", "patch visual/0/gate from other"), "no clip 'other' among"),
        (("inspect", "CLIP", "--model", "MINE", "--edit", "drop */input at 90..91"), "no frame starts in 90 to 91 s"),
        (("whatif", "CLIP", "--model", "MINE", "--seconds", "0.5"), "expected at least one frame, 1 s"),
        (("whatif", "nowhere.tfrecord",), "no file 'nowhere.tfrecord'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(made, words, said):
    places = {"CLIP": f"{made / 'clips.tfrecord'}#clip0", "MINE": made / "mine.safetensors",
              "CONTROL": made / "control.safetensors"}  # fmt: skip
    done = run(*(places.get(word, word) for word in words))
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
