"""When local attention helps: planted differences come back, and the shipped table says what is drawn of it."""

import numpy as np
import pandas as pd
import pytest

from analysis.errors import SweepError
from analysis.statistics.crossed import crossed_contrast
from analysis.study.claims import CONFIRMED, NOT_CONFIRMED, UNDECIDED
from analysis.study.seeds import SHIPPED
from analysis.study.seeds.comparison import (
    differences_to_baseline,
    locality_alone,
    seed_points,
    study_claims,
    task_models,
)
from analysis.study.seeds.figure_tables import claims_by_task, local_attention, point_table
from analysis.study.seeds.later import differences_to_parents, later_models
from analysis.study.seeds.table import read_study
from analysis.study.seeds.variants import LATER
from figures.paper import later_variants
from figures.pipeline.catalogue import ITEMS

VIDEOS = 40
PLANTED = {"baseline": 50.0, "share-att-tp": 52.0, "gate-att-tp10": 55.0, "gate-op-tp30": 60.0, "control": 20.0}


def planted(gaps=PLANTED, seeds=3, task="topic") -> pd.DataFrame:
    """Models of given GAP, whose seeds and videos differ a little."""
    rng, rows = np.random.default_rng(0), []
    of_seed, of_video = rng.normal(0, 1, seeds), rng.normal(0, 20, VIDEOS)
    for variant, gap in gaps.items():
        for seed in range(seeds):
            parts = gap + of_seed[seed] + of_video + rng.normal(0, 0.5, VIDEOS)
            local = np.where(np.arange(VIDEOS) < 9, gap / 100 + rng.normal(0, 0.01, VIDEOS), np.nan)
            row = {name: np.full(VIDEOS, np.nan) for name in ("gini_local", "perr", "hit_at_1")}
            rows.append(
                pd.DataFrame(
                    row
                    | {
                        "task": task, "variant": variant, "seed": seed, "video": np.arange(VIDEOS),
                        "gap": parts.mean(), "gap_part": parts,
                        "sensitivity": np.nan if variant == "control" else local,
                        "gini_global": 0.5 + 0 * local, "verticality": 0.3 + 0.1 * local,
                        "similarity_near": 0.9 + 0.1 * local, "similarity_far": 0.1 * local,
                    }
                )
            )  # fmt: skip
            if variant not in ("baseline", "control"):
                rows[-1]["gini_local"] = 0.4 + 0.01 * local
    return pd.concat(rows, ignore_index=True)


class TestDifferences:
    def test_planted_ones_come_back(self):
        table = differences_to_baseline(task_models(planted())).set_index("variant")
        for name in ("share-att-tp", "gate-att-tp10", "gate-op-tp30", "control"):
            row = table.loc[name]
            assert row["low"] < PLANTED[name] - 50 < row["high"]
            assert abs(row["difference"] - (PLANTED[name] - 50)) < 1
        assert (table["p_adjusted"].drop("control") < 0.05).all()
        assert np.isnan(table.loc["control", "p_adjusted"])

    def test_by_hand_of_one_row(self):
        models = task_models(planted())
        each = models["topic"]
        row = differences_to_baseline(models).iloc[2]
        result = crossed_contrast(each.gap[:4], each.columns["gap_part"][:4], np.array([-1.0, 0.0, 0.0, 1.0]))
        assert each.variants[3] == row["variant"] == "gate-op-tp30"
        assert (row["low"], row["high"], row["p_value"]) == (result.value.low, result.value.high, result.p_value)

    def test_locality_alone_is_against_gate_op_of_the_whole_video(self):
        assert locality_alone(task_models(planted())).empty
        (row,) = locality_alone(task_models(planted(PLANTED | {"gate-op-whole": 57.0}))).itertuples()
        assert row.low < 3 < row.high
        assert abs(row.difference - 3) < 1

    def test_rows_in_another_order_change_nothing(self):
        rows = planted()
        shuffled = rows.sample(frac=1, random_state=1)
        one, other = (differences_to_baseline(task_models(each)) for each in (rows, shuffled))
        pd.testing.assert_frame_equal(one, other)

    def test_seeds_that_not_all_variants_have_are_left_out(self):
        rows = planted()
        some = rows[(rows["variant"] != "control") | (rows["seed"] < 2)]
        assert task_models(some)["topic"].seeds == (0, 1)

    def test_no_common_seed_is_an_error(self):
        rows = planted()
        none = rows[(rows["variant"] == "control") == (rows["seed"] == 2)]
        with pytest.raises(SweepError, match="task 'topic': no seed of which all of"):
            task_models(none)

    def test_other_numbers_of_videos_are_an_error(self):
        rows = planted()
        cut = rows[(rows["variant"] != "control") | (rows["video"] < 9)]
        with pytest.raises(SweepError, match=r"scored on \[9, 40\] videos"):
            task_models(cut)


class TestLater:
    GAPS = PLANTED | {"gate-op-seg": 57.0, "gate-op-scales": 61.0, "local-then-global": 54.0}

    def test_what_the_study_says_of_the_papers_variants_does_not_depend_on_them(self):
        rows = planted(self.GAPS)
        fewer = rows[~rows["variant"].isin(LATER) | (rows["seed"] < 2)]
        paper = fewer[~fewer["variant"].isin(LATER)]
        pd.testing.assert_frame_equal(
            differences_to_baseline(task_models(fewer)), differences_to_baseline(task_models(paper))
        )
        claims, expected = (study_claims(task_models(each)["topic"]) for each in (fewer, paper))
        assert repr(claims) == repr(expected)  # a NaN equals no NaN
        assert later_models(fewer)["topic"].seeds == (0, 1)

    def test_planted_differences_to_what_they_grew_from_come_back(self):
        models = later_models(planted(self.GAPS))
        assert models["topic"].variants == ("baseline", "gate-op-tp30", *list(self.GAPS)[-3:])
        table = differences_to_parents(models).set_index("variant")
        for name, less in (("gate-op-seg", -3), ("gate-op-scales", 1), ("local-then-global", 4)):
            row = table.loc[name]
            assert row["parent"] == LATER[name]
            assert row["low"] < less < row["high"]
            base = self.GAPS[name] - 50
            assert row["baseline_low"] < base < row["baseline_high"]
        same = table.loc["local-then-global"]
        assert (same["difference"], same["low"]) == (same["baseline_difference"], same["baseline_low"])

    def test_alone_they_have_no_difference(self):
        alone = planted({"gate-op-seg": 57.0})
        assert task_models(alone) == {}
        (row,) = differences_to_parents(later_models(alone)).itertuples()
        assert row.gap == pytest.approx(57, abs=5)
        assert np.isnan([row.difference, row.low, row.baseline_difference, row.p_adjusted]).all()

    def test_without_them_there_is_nothing(self):
        assert later_models(planted()) == {}
        assert differences_to_parents({}).empty

    @pytest.mark.parametrize("width", [3.39, 7.0])
    def test_the_picture_has_their_differences_and_every_seed(self, width):
        models = later_models(planted(self.GAPS))
        table = differences_to_parents(models)
        figure = later_variants.draw(table, point_table(models["topic"]), width)
        left, right = figure.axes
        shown = {line.get_gid(): line.get_xdata() for line in left.lines if line.get_gid()}
        for row in table.itertuples():
            np.testing.assert_allclose(shown[row.variant], [row.difference, row.baseline_difference])
        seeds = [line for line in right.lines if str(line.get_gid()).endswith(" seeds")]
        assert [len(line.get_xdata()) for line in seeds] == [3] * 5


class TestClaims:
    def verdicts(self, gaps=PLANTED) -> dict[str, str]:
        return {claim.name: claim.verdict for claim in study_claims(task_models(planted(gaps))["topic"])}

    def test_the_papers_order_is_confirmed_where_it_is_planted(self):
        assert self.verdicts() == {
            "C1": CONFIRMED, "C2": UNDECIDED, "C3": CONFIRMED, "C4": CONFIRMED, "C5": CONFIRMED,
        }  # fmt: skip

    def test_and_not_where_another_is(self):
        assert self.verdicts(PLANTED | {"share-att-tp": 45.0})["C1"] == NOT_CONFIRMED
        assert self.verdicts(PLANTED | {"share-att-tp": 50.0})["C1"] == UNDECIDED

    def test_four_families_cannot_decide_on_a_rank_correlation(self):
        (claim,) = [each for each in study_claims(task_models(planted())["topic"]) if each.name == "C2"]
        (part,) = claim.parts
        assert part.value.estimate == 1.0
        assert part.p_value == pytest.approx(2 / 24)

    def test_a_point_a_model(self):
        points = seed_points(task_models(planted())["topic"])
        assert list(points.groupby("variant").size()) == [3, 3, 3, 3]


class TestShipped:
    def test_it_is_small_and_whole(self):
        table = read_study()
        assert SHIPPED.stat().st_size < 5 * 2**20
        assert (table.groupby(["task", "variant", "seed"], observed=True).size() == 2000).all()

    def test_the_figure_draws_its_differences(self):
        tables = local_attention()
        item = next(item for item in ITEMS if item.key == "local_attention")
        figure = item.output(tables, None).figure
        left, right = figure.axes
        shown = {line.get_gid(): line.get_xdata() for line in left.lines if line.get_gid()}
        for name in tables["differences"]["variant"].to_numpy():
            values = tables["differences"]["difference"].sel(variant=name).to_numpy()
            np.testing.assert_allclose(shown[name], values[~np.isnan(values)])
        seeds = [line for line in right.lines if str(line.get_gid()).endswith(" seeds")]
        assert sum(len(line.get_xdata()) for line in seeds) == tables["points"].sizes["point"]

    def test_the_page_has_every_task_and_claim(self):
        tables = claims_by_task()
        item = next(item for item in ITEMS if item.key == "claims_by_task")
        page = item.output(tables, None).texts["md"]
        for task in tables["differences"]["task"].to_numpy():
            assert f"### {task}\n" in page
        assert page.count("| C1 |") == tables["differences"].sizes["task"]
