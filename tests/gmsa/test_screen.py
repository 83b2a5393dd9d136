"""The lines that `gmsa inspect` prints of a model's maps."""

import io
import json
import re

import numpy as np
import pytest
from rich.console import Console
from small_models import KINDS, small_clip, small_model

from analysis import inspect_clip
from gmsa.screen_tables import certificates_text, clip_summary, explanations_table, predictions_table, profiles_table
from gmsa.terminal import visible
from gmsa_models.attention import stages


def lines(shown, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, markup=False, emoji=False)  # as `gmsa` prints
    console.print(shown)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_a_line_a_branch_fits_eighty_columns_and_holds_the_records_numbers(kind):
    record = inspect_clip(small_model(kind), small_clip(), certify=True)
    title, *shown = lines(profiles_table([record]))
    header = " ".join(line for line in shown if "passed" not in line)
    rows = [line for line in shown if "passed" in line]
    assert title.startswith("attention received")
    for name in ("Gini", "lines", "checks"):
        assert name in header
    places = [(modality, branch) for modality in ("visual", "audio") for branch in record["branch"].values]
    assert len(rows) == len(places)
    assert not any("…" in line for line in shown)
    for row, (modality, branch) in zip(rows, places, strict=True):
        one = record.sel(modality=modality, branch=branch)
        numbers = [float(one["profile_gini"]), float(one["verticality_adjusted"].mean())]
        if branch == "local":
            numbers.append(float(one["sensitivity"].mean()))
        checks = 6 if branch == "local" or (kind, branch) == ("share-att", "combined") else 5
        expected = [modality, branch, *(f"{number:.2f}" for number in numbers), str(checks), "passed"]
        assert row.split()[-len(expected) :] == expected


def test_no_column_of_checks_where_none_were_made():
    plain, certified = (inspect_clip(small_model(), small_clip(), certify=certify) for certify in (False, True))
    assert not any("checks" in line or "passed" in line for line in lines(profiles_table([plain])))
    both = lines(profiles_table([plain, certified]))
    assert any("checks" in line for line in both)
    assert sum("passed" in line for line in both) == 2 * certified.sizes["branch"]


def test_failures_are_named(monkeypatch):
    right = stages.logits_to_weights
    monkeypatch.setattr(stages, "logits_to_weights", lambda *given: right(*given).mT.contiguous())
    record = inspect_clip(small_model("baseline"), small_clip(), parts=("attention", "certificate"))
    assert certificates_text(record.sel(modality="audio", branch="global")) == "failed: rows, orientation"
    assert certificates_text(record.drop_vars("certificate")) == ""


def test_sensitivity_stands_once_a_modality_when_there_is_one():
    record = inspect_clip(small_model("gate-op"), small_clip())
    values = np.full((2, record.sizes["frame"]), 0.731)
    values[:, 0] = np.nan
    record["sensitivity"] = ("modality", "query"), values
    shown = lines(profiles_table([record]), 120)
    assert [line.count("0.73") for line in shown if "global" in line] == [0, 0]
    assert [line.count("0.73") for line in shown if "local" in line] == [1, 1]


def test_a_model_without_attention_says_so():
    record = inspect_clip(small_model("none"), small_clip())
    assert lines(profiles_table([record])) == ["no attention: this model averages its frames"]
    assert any("clip clip0" in line for line in lines(clip_summary([record], 3)))


def test_explanations_stand_with_their_measures_the_best_marked():
    record = inspect_clip(small_model(), small_clip(), parts=("score", "explanation"), target=2)
    console = Console(file=io.StringIO(), width=80, color_system="truecolor", force_terminal=True)
    console.print(explanations_table(record))
    told = console.file.getvalue()
    assert "explanations of Food by" in told
    values = record["faithfulness"].sel(measure="deletion")
    best = str(values["explainer"].values[int(values.values.argmin())])
    row = next(line for line in told.splitlines() if best in line)
    assert re.search(rf"\x1b\[1;32m *{float(values.min()):.2f}", row)
    plain = lines(explanations_table(record))
    assert not any("…" in line for line in plain)
    assert len([line for line in plain if line.split()[:1] == ["random"]]) == 1


HOSTILE = "a\x1b]0;owned\x07\x9b2J\u202egnp.exe\u2066\r\n[/x] 電影 é"
SHOWN = r"a\x1b]0;owned\x07\x9b2J\u202egnp.exe\u2066\r\n[/x] 電影 é"


def test_what_a_terminal_would_obey_is_shown_as_escapes():
    record = inspect_clip(small_model(), small_clip(), parts=("score", "label", "profile", "explanation"), target=2)
    texts = {"model": HOSTILE, "modality": [HOSTILE, "audio"], "branch": ["global", HOSTILE]}
    texts |= {"explainer": [HOSTILE, *record["explainer"].values[1:]], "class_name": [HOSTILE] * 5}
    record = record.assign_coords(
        {name: (record[name].dims, np.array(each, dtype=object)) for name, each in texts.items()}
    )
    record = record.assign_attrs(clip=HOSTILE, label_names=json.dumps([HOSTILE]))
    record["explanation"].attrs |= {"class_name": HOSTILE, "baseline": HOSTILE}
    shown = "\n".join(lines(clip_summary([record], 3), 2000))
    assert not set(shown) & set("\x1b\x07\x9b\r\u202e\u2066")
    assert shown.count(SHOWN) >= 9  # clip, labels, predictions' title and rows, profiles, explanations


def test_text_in_any_script_is_shown_as_it_is():
    for text in ("電影", "Pokémon", "می‌خواهم", "👩‍👩‍👧", "a\u3000b"):
        assert visible(text) == text
    assert visible("\ud800") == r"\ud800"


@pytest.mark.parametrize(("score", "bar"), [(3e7, 12), (-2.0, 0), (0.5, 6), (float("nan"), 0), (float("inf"), 12)])
def test_a_bar_is_never_longer_than_that_of_certainty(score, bar):
    record = inspect_clip(small_model(), small_clip(), parts=("score", "label"))
    record["score"][2] = score
    row = next(line for line in lines(predictions_table(record, 5), 200) if " Food " in line)
    assert row.count("█") == bar


def test_what_a_class_without_a_name_is_stands_beneath_the_predictions():
    note = "label N: class N of the data set, which its vocabulary gives no name"
    record = inspect_clip(small_model(), small_clip(), parts=("score", "label"))
    assert lines(clip_summary([record], 3))[-1] == note  # of "label 404" of the clip
    named = record.assign_attrs(label_names=json.dumps(["Food"]))
    assert note not in lines(clip_summary([named], 3))
    names = ("class", [f"label {number}" for number in named["class"].values])
    assert lines(clip_summary([named.assign_coords(class_name=names)], 3))[-1] == note
