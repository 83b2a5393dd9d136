"""Effects over videos: by hand from the map, a planted circuit found, and no false discovery where none is planted."""

from __future__ import annotations

import numpy as np
import pytest
from small_models import moved, small_clip, small_model
from test_effects import planted
from xarray import Dataset

from analysis.interventions.cells import windows_of
from analysis.interventions.edits import EditError, KnockOut
from analysis.interventions.effect_scores import EFFECTS, effect_scores, effect_table
from analysis.interventions.effects import effect_map
from analysis.interventions.running import logits_with
from analysis.study.effects import ROWS, branch_effects, correction_of_global, effect_rows
from gmsa_models.data.clip import Clip, Segment


def test_each_number_is_of_the_map_and_its_windows():
    model, clip = moved(small_model("gate-op"), 0.3), small_clip(13)
    scores = effect_scores(model, [clip], seconds=4)
    found = effect_map(model, clip, "Food", windows=windows_of(clip, 4)).sel(direction="noising")
    # The event is from 3 to 7 s: of the windows 0-4, 4-8, 8-12 and 12-13 the second shows it mostly, two not at all.
    one = scores.isel(video=0)
    np.testing.assert_allclose(one["evidence"], found["effect"].isel(window=1))
    np.testing.assert_allclose(one["other"], found["effect"].isel(window=[2, 3]).mean("window"))
    np.testing.assert_allclose(one["evidence - other"], one["evidence"] - one["other"])
    out = [[KnockOut(f"{stream}/0/local/weights")] for stream in ("visual", "audio")]
    logits = logits_with(model, clip, [[], *out])[:, 2]
    local = int(np.flatnonzero((scores["branch"] == "local") & (scores["head"] == -1))[0])
    np.testing.assert_allclose(one["whole"].isel(unit=local), logits[1:] - logits[0], atol=1e-5)
    assert scores["label"].values.tolist() == [11]
    branches = branch_effects(model, [clip])
    np.testing.assert_allclose(branches["whole"].sel(branch="local")[0], (logits[1:] - logits[0]).sum(), atol=1e-5)
    with pytest.raises(EditError, match="no clip with a label that is known"):
        effect_scores(model, [small_clip(13, segments=())])


def planted_clips(count: int, seed: int = 0, marker: float = 2.0) -> list[Clip]:
    """Clips of 16 frames, 4 of which show label 1: their marker, and noise everywhere."""
    generator, clips = np.random.default_rng(seed), []
    for number in range(count):
        start = 4 * int(generator.integers(4))
        features = generator.normal(0, 0.2, (16, 12)).astype(np.float32)
        features[:, 1] += 1.0
        features[start : start + 4, 6] += marker
        ends = (0.0, float(start), float(start + 4), 16.0)
        kinds = (("background", ()), ("event", (1,)), ("background", ()))
        segments = tuple(
            Segment(first, last, labels, kind=kind)
            for first, last, (kind, labels) in zip(ends[:-1], ends[1:], kinds, strict=True)
            if first < last
        )
        clips.append(Clip(id=f"planted{number}", features={"visual": features}, labels=(1,), segments=segments))
    return clips


def test_a_planted_circuit_is_found_and_only_it():
    scores = effect_scores(planted(), planted_clips(12), seconds=4)
    table = effect_table(scores, resamples=200, correction="benjamini-hochberg")
    assert set(table["metric"]) == set(EFFECTS)
    rows = table[table["metric"] == "evidence - other"].set_index(["branch", "head"])
    carrying = [("local", -1), ("local", 2)]
    assert (rows.loc[carrying, "p_adjusted"] < 0.01).all()
    assert (rows.loc[carrying, "high"] < 0).all()
    assert (rows.drop(carrying)["p_adjusted"] > 0.05).all()
    np.testing.assert_allclose(rows.drop(carrying)["estimate"], 0, atol=1e-9)


def test_few_false_discoveries_where_nothing_is_planted():
    """The label's seconds are like all others: tests at 0.05 find about that share, corrected ones hardly any."""
    raw, discoveries, families = [], 0, 5
    for seed in range(families):
        model = moved(small_model("gate-op", ("visual",), classes=2), 0.3, seed)
        scores = effect_scores(model, planted_clips(8, 100 + seed, marker=0.0), seconds=4)
        table = effect_table(scores, resamples=20, correction="benjamini-hochberg")
        rows = table[table["metric"] == "evidence - other"]
        raw += rows["p_value"].tolist()
        discoveries += bool((rows["p_adjusted"] < 0.05).any())
    assert np.mean(np.array(raw) < 0.05) < 0.2
    assert discoveries <= 1


def test_rows_and_the_correction_by_hand():
    whole = np.array([[-1.0, -2.0], [-1.0, -4.0], [-1.0, 0.0], [-1.0, 2.0]])
    dims = ("video", "branch")
    table = Dataset(
        {"whole": (dims, whole), "evidence": (dims, whole / 2), "other": (dims, whole / 4),
         "attention": ("video", [0.5, 0.9, 1.5, 2.0])},
        {"branch": ["global", "local"]},
    )  # fmt: skip
    names = ("whole", "evidence", "other")
    without = table.assign({name: table[name].where(table["branch"] == "global") for name in names})
    tables = {"gate-op-bd20": table, "baseline": without}
    counts = np.eye(4, dtype=int) * 4
    rows = effect_rows(tables, counts)
    assert rows["effect"].shape == (2, sum(map(len, ROWS.values())))
    np.testing.assert_allclose(rows["effect"][0], [-1, -1, -0.5, -0.25, -0.5, -0.25, -3, 1])
    np.testing.assert_allclose(rows["effect"][1], [-1, np.nan, -0.5, -0.25, *[np.nan] * 4])
    counts = np.array([[1, 1, 1, 1], [2, 0, 2, 0], [0, 2, 1, 1]])
    found = correction_of_global(tables, counts)
    assert (found["missed"].estimate, found["found"].estimate, found["difference"].estimate) == (3, -1, 4)
    assert np.isnan(correction_of_global({"baseline": without}, counts)["missed"].estimate)
