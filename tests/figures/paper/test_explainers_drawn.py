"""The picture of the explanation benchmark: what the artists hold."""

import numpy as np
import pytest
import xarray as xr

from figures.paper import explainers
from figures.style import COLUMN_WIDTH, PAGE_WIDTH

NAMES = ("relevance-propagation", "segment-shapley", "random", "chance")
MEASURES = ("evidence_auc", "deletion_in_distribution", "fidelity_plus", "randomised_similarity", "pointing")


def tiny_means(models: tuple[str, ...] = ("gate-op-bd20",)) -> xr.Dataset:
    shape = (len(models), len(NAMES), len(MEASURES))
    mean = np.random.default_rng(0).random(shape)
    mean[:, -1, 1:4] = np.nan
    values = {"mean": mean, "low": mean - 0.1, "high": mean + 0.2}
    return xr.Dataset(
        {name: (("model", "explainer", "measure"), each) for name, each in values.items()},
        {"model": np.array(models), "explainer": np.array(NAMES), "measure": np.array(MEASURES)},
        {"videos": 5, "frames": 60, "of": "demo"},
    )


@pytest.mark.parametrize("width", [COLUMN_WIDTH, PAGE_WIDTH])
def test_a_panel_a_measure_and_a_row_an_explainer(width):
    means = tiny_means(("gate-op-bd20", "baseline"))
    figure = explainers.draw(means, width)
    assert figure.get_figwidth() == width
    assert len(figure.axes) == 4
    first = figure.axes[0]
    assert [label.get_text() for label in first.get_yticklabels()] == [name.replace("-", " ") for name in NAMES[:3]]
    for axes, measure in zip(figure.axes, MEASURES, strict=False):
        for model in means["model"].to_numpy():
            (line,) = [line for line in axes.lines if line.get_gid() == model]
            np.testing.assert_allclose(line.get_xdata(), means["mean"].sel(model=model, measure=measure)[:3])
    references = [next(line for line in axes.lines if line.get_gid() is None).get_xdata()[0] for axes in figure.axes]
    random = means["mean"].sel(explainer="random").mean("model")
    assert references == pytest.approx([0.5, *(float(random.sel(measure=name)) for name in MEASURES[1:4])])
    assert figure.get_suptitle() == "5 demo videos, first 60 frames"


def test_a_measure_that_was_not_made_has_no_panel():
    means = tiny_means()
    means["mean"].loc[{"measure": "randomised_similarity"}] = np.nan
    figure = explainers.draw(means.drop_sel(explainer="random"))
    assert [axes.get_xlabel() for axes in figure.axes] == ["ROC AUC ↑", "deletion ↓", "F-fidelity ↑"]
