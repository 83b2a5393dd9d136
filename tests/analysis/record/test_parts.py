"""A record of any parts is shown and drawn: what it was made without is left out, on every view."""

import io
from itertools import combinations

import pytest
from matplotlib import pyplot as plt
from rich.console import Console
from small_models import small_clip, small_model

from analysis import inspect_clip
from analysis.record.variables import PARTS
from figures.inspector.payload import pack
from figures.overview import draw
from gmsa.screen_tables import clip_summary

MODEL, CLIP = small_model("gate-op"), small_clip()
SUBSETS = [(), *((name,) for name in PARTS), *combinations([name for name in PARTS if name != "explanation"], 2)]


@pytest.mark.parametrize("parts", SUBSETS, ids="+".join)
def test_any_parts_are_shown_and_drawn(parts):
    record = inspect_clip(MODEL, CLIP, parts=parts)
    out = io.StringIO()
    Console(file=out, width=160).print(clip_summary([record], 3))
    assert "clip0" in out.getvalue()
    assert ("predictions of" in out.getvalue()) == ("score" in parts)
    assert "no attention" not in out.getvalue()
    figure = draw(record)
    titles = [axes.get_title() for axes in figure.axes]
    assert any("similarity" in title for title in titles) == ("similarity" in parts)
    assert any("predictions" in title for title in titles) == ("score" in parts)
    assert any(", head " in title for title in titles) == ("attention" in parts)
    figure.canvas.draw()
    plt.close(figure)
    assert pack([record])
