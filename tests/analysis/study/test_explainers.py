"""The explanation benchmark: goes on where it was stopped, comes to one table, and says how sure its means are."""

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from small_models import moved, small_clip, small_model
from typer.testing import CliRunner

import gmsa
from analysis.errors import SweepError
from analysis.explanations.benchmark.clip_scores import CHANCE, MEASURES, BenchmarkSettings
from analysis.explanations.benchmark.explainers import Explainers
from analysis.explanations.registry import explain
from analysis.statistics.intervals import mean_interval, resample_counts
from analysis.study.explainers.run import benchmark_explainers
from analysis.study.explainers.summary import agreement_matrix, benchmark_markdown, benchmark_means
from analysis.study.explainers.table import ROWS, read_benchmark, rows_table
from gmsa_models import save, write_clips
from gmsa_models.errors import ArgumentError, UnknownNameError

SETTINGS = BenchmarkSettings(videos=3, frames=12, randomised=1, samples=2, others=2)
METHODS = ("rollout", "attention-local", "random")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two models, four videos, the third of which has no known segments; and a finished benchmark."""
    folder = tmp_path_factory.mktemp("explainers")
    for kind in ("gate-op", "baseline"):
        save(moved(small_model(kind)), folder / f"{kind}.safetensors")
    clips = [small_clip(13, 0), small_clip(12, 1), small_clip(12, 2, segments=()), small_clip(11, 3)]
    write_clips(folder / "clips.tfrecord", clips)
    (folder / "own_explainer_20.py").write_text("def rising(model, clip, target):\n    return range(clip.frames)\n")
    run(folder, folder / "whole")
    return folder


def run(folder, out, settings=SETTINGS, **changes):
    values = {"methods": METHODS, "own": {"rising": rising}} | changes
    models = [folder / "gate-op.safetensors", folder / "baseline.safetensors"]
    return benchmark_explainers(out, models, [str(folder / "clips.tfrecord")], settings, **values)


def rising(model, clip, target):
    return list(range(clip.frames))


def test_it_has_every_explainer_of_every_model_and_video(folder):
    table = read_benchmark(folder / "whole" / "explainers.parquet")
    assert table["model"].unique().tolist() == ["small-gate-op", "small-baseline"]
    assert table["video"].unique().tolist() == ["clip0", "clip1", "clip3"]
    single = table[table["other"] == ""]
    of_model = single.groupby("model", sort=False)["explainer"].unique()
    assert set(of_model["small-gate-op"]) == {*METHODS, "rising", CHANCE}
    assert set(of_model["small-baseline"]) == {*METHODS, "rising", CHANCE} - {"attention-local"}
    counts = single[single["explainer"] == "rising"].groupby("measure")["video"].nunique()
    assert counts.to_dict() == {
        name: 1 if name in ("randomised_similarity", "complexity_rise") else 3 for name in MEASURES
    }


def test_stopped_anywhere_it_goes_on_to_the_same_table(folder):
    steps = []

    def stop(done, total):
        steps.append((done, total))
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder, folder / "stopped", progress=stop)
    assert not (folder / "stopped" / "explainers.parquet").exists()
    again = []
    table = run(folder, folder / "stopped", progress=lambda done, total: again.append((done, total)))
    assert (steps[-1], again) == ((4, 6), [(4, 6), (5, 6), (6, 6)])
    pd.testing.assert_frame_equal(table, read_benchmark(folder / "whole" / "explainers.parquet"))
    files = [(folder / name / "explainers.parquet").read_bytes() for name in ("whole", "stopped")]
    assert files[0] == files[1]
    made = ROWS.made_from(ROWS.read(folder / "stopped" / "explainers.parquet"))
    assert set(made) == {"settings", "explainers", "versions", "models"}


def test_a_folder_of_another_benchmark_is_refused(folder):
    with pytest.raises(SweepError, match="was made with other settings; choose another folder"):
        run(folder, folder / "whole", BenchmarkSettings(videos=3, frames=12, randomised=1, samples=3, others=2))
    with pytest.raises(SweepError, match="was made with other explainers; choose another folder"):
        run(folder, folder / "whole", own={"falling": rising})
    part = next((folder / "stopped" / "videos").glob("*/00001.parquet"))
    content = part.read_bytes()
    part.write_bytes(content[:-20])
    with pytest.raises(SweepError, match=r"not of the explanation benchmark .* remove it, and run it again"):
        run(folder, folder / "stopped")
    pq.write_table(pq.read_table(folder / "whole" / "explainers.parquet").select(["model"]), part)
    with pytest.raises(SweepError, match=r"not of the explanation benchmark, or .*; expected columns model, video"):
        run(folder, folder / "stopped")
    part.write_bytes(content)


def test_the_explainer_of_the_documentation_is_one():
    page = (Path(__file__).parents[3] / "docs" / "concepts" / "explanation_benchmark.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    model, clip = moved(small_model()), small_clip(13)
    own = Explainers((), (("documented", names["explain"]),)).scores(model, clip, 2)["documented"]
    explanation = explain(model, clip, 2, "saliency")
    np.testing.assert_allclose(own, dict(zip(explanation.modalities, explanation.values, strict=True))["visual"], 1e-4)


def test_what_cannot_be_benchmarked_is_refused(folder, tmp_path):
    for changes, kind, says in (
        ({"methods": ("rolout",)}, UnknownNameError, "unknown explanation 'rolout'"),
        ({"own": {"rollout": rising}}, ArgumentError, "'rollout' is there twice"),
        ({"own": {"text": lambda *_: "text"}}, SweepError, "video clip0: ArgumentError: explainer 'text' gave str"),
        ({"settings": BenchmarkSettings(frames=3)}, ArgumentError, "0 of the videos of .*; expected at least 2"),
    ):
        with pytest.raises(kind, match=says):
            run(folder, tmp_path / "refused", **changes)


def test_means_have_intervals_over_videos(folder):
    table = read_benchmark(folder / "whole" / "explainers.parquet")
    means = benchmark_means(table)
    rows = table[(table["model"] == "small-gate-op") & (table["explainer"] == "rollout")]
    values = rows[rows["measure"] == "deletion"]["value"].to_numpy()
    expected = mean_interval(values, resample_counts(3))
    one = means.sel(model="small-gate-op", explainer="rollout", measure="deletion")
    assert [float(one[name]) for name in ("mean", "low", "high", "videos")] == pytest.approx(
        [expected.estimate, expected.low, expected.high, 3]
    )
    assert np.isnan(means["mean"].sel(model="small-baseline", explainer="attention-local")).all()
    ranked = means["mean"].sel(measure="evidence_auc", explainer=means["explainer"] != CHANCE).mean("model").to_numpy()
    assert (np.diff(ranked) <= 0).all()


def test_agreement_is_a_symmetric_matrix(folder):
    table = read_benchmark(folder / "whole" / "explainers.parquet")
    names = ["rising", *METHODS]
    matrix = agreement_matrix(table, "small-gate-op", names)
    assert matrix.index.tolist() == matrix.columns.tolist() == names
    assert (np.diag(matrix) == 1).all()
    np.testing.assert_array_equal(matrix, matrix.T)
    rows = table[(table["measure"] == "agreement") & (table["model"] == "small-gate-op")]
    pair = rows[(rows["explainer"] == "rollout") & (rows["other"] == "rising")]["value"]
    assert len(pair) == 3
    assert matrix.loc["rising", "rollout"] == pytest.approx(pair.mean())


def test_markdown_has_each_value_and_its_interval(folder):
    table = read_benchmark(folder / "whole" / "explainers.parquet")
    text, means = benchmark_markdown(table, "About."), benchmark_means(table)
    gate_op, baseline = text.split("## small-baseline")
    one = means.sel(model="small-gate-op", explainer="rollout", measure="evidence_auc")
    cell = f"| rollout | {float(one['mean']):.2f} [{float(one['low']):.2f}, {float(one['high']):.2f}] |"
    assert cell in gate_op
    assert "attention-local" not in baseline
    assert "| explainer | similarity ↓ | rise of complexity ↑ |" in baseline
    for line in (line for line in text.splitlines() if line.startswith("|")):
        assert re.fullmatch(r"(\|[^|]+)+\|", line), line


def test_the_command_writes_table_text_and_picture_and_takes_ones_own(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    words = [
        "explainers", "--out", "command", "--model", "gate-op.safetensors", "--data", "clips.tfrecord",
        "--frames", "12", "--randomised", "0", "--methods", "rollout,random", "--explainer", "own_explainer_20:rising",
    ]  # fmt: skip
    runner = CliRunner()
    done = runner.invoke(gmsa.app, words, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    for suffix in ("parquet", "md", "png", "pdf", "svg", "json"):
        assert (folder / "command" / f"explainers.{suffix}").stat().st_size > 0, suffix
    assert "own_explainer_20:rising" in done.stdout
    assert "wrote command/explainers.parquet" in done.stdout
    means = benchmark_means(read_benchmark(folder / "command" / "explainers.parquet"))
    value = float(means["mean"].sel(explainer="own_explainer_20:rising", measure="evidence_auc")[0])
    line = next(line for line in done.stdout.splitlines() if "own_explainer_20:rising" in line)
    assert f"{value:.2f}" in line
    for more, says in (
        (["--replacement", "mean"], "replacement 'mean' is unknown; known: background, nearest"),
        (["--methods", "rolout"], "unknown explanation 'rolout'"),
        (["--explainer", "own_explainer_20"], "expected MODULE:FUNCTION"),
        (["--engine", "threads"], "unknown engine 'threads'"),
        (["--degraded", "saliency"], "'saliency', which is to be degraded, is none of rollout"),
    ):
        out = ["--out", "refused"] if "--degraded" in more else []
        failed = runner.invoke(gmsa.app, [*words, *out, *more])
        assert (failed.exit_code, len(failed.stderr.splitlines())) == (2, 1), failed.output
        assert says in failed.stderr


def test_a_footer_that_does_not_fit_its_columns_is_refused_before_pyarrow_reads_it(tmp_path):
    path = tmp_path / "rows.parquet"
    ROWS.write(path, rows_table("model", "video", [("random", "", "evidence_auc", 0.5)]), {})
    data = bytearray(path.read_bytes())
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    data[footer + 18] = 0  # the type of the first column in the schema: text (6)
    path.write_bytes(data)
    with pytest.raises(SweepError, match=r"rows\.parquet: not of .*says how many bytes its texts take.*; remove it"):
        ROWS.read(path)
