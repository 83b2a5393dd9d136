"""The paper's ten columns: names, sizes, steps in size, seeds."""

from functools import lru_cache

import pytest
import torch
from small_models import VOCABULARY

import gmsa_models
from gmsa_models.errors import ConfigError, UnknownNameError
from gmsa_models.masks import BlockDiagonal, Toeplitz, ToeplitzDilated
from gmsa_models.variants import COLUMNS, CONTROL, PUBLISHED, PUBLISHED_FAMILY, VARIANTS, build, variant_config

MEBIBYTE = 2**20


@lru_cache
def parameters(name: str, size: str = "paper") -> int:
    with torch.device("meta"):
        model = gmsa_models.GMSAClassifier(variant_config(name, size))
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_ten_columns() -> None:
    assert list(COLUMNS) == [
        "baseline", "share-att-bd", "share-att-tp", "share-att-td", "gate-att-bd10", "gate-att-tp10",
        "gate-att-td80", "gate-op-bd20", "gate-op-tp30", "gate-op-td60x4",
    ]  # fmt: skip
    assert list(PUBLISHED) == list(COLUMNS)
    assert {attention for attention, _ in COLUMNS.values()} == set(PUBLISHED_FAMILY)
    assert {*COLUMNS, CONTROL} <= set(VARIANTS)


@pytest.mark.parametrize(
    ("name", "neighbourhood"),
    [
        ("gate-att-bd10", BlockDiagonal(10)),
        ("gate-att-tp10", Toeplitz(10)),
        ("gate-att-td80", ToeplitzDilated(80, 2)),
        ("gate-op-bd20", BlockDiagonal(20)),
        ("gate-op-tp30", Toeplitz(30)),
        ("gate-op-td60x4", ToeplitzDilated(60, 4)),
        ("baseline", None),
        ("control", None),
    ],
)
def test_neighbourhoods_are_the_names(name: str, neighbourhood: object) -> None:
    assert variant_config(name).neighbourhood == neighbourhood


def test_published_steps_in_size() -> None:
    baseline = parameters("baseline")
    for name in ("baseline", "share-att-td", "gate-att-td80", "gate-op-tp30"):
        step = parameters(name) - baseline
        family = COLUMNS[name][0]
        expected = {"baseline": 0, "share-att": 0, "gate-att": 2 * 2 * 300**2, "gate-op": 3 * (1024**2 + 128**2)}
        assert step == expected[family], name
        published = PUBLISHED_FAMILY[family]["disk_mebibytes"] - PUBLISHED_FAMILY["baseline"]["disk_mebibytes"]
        assert step * 4 / MEBIBYTE == pytest.approx(published, abs=0.1), name


def test_published_numbers_say_what_the_paper_says() -> None:
    assert PUBLISHED["gate-op-tp30"] == {"gap": 86.13, "map": 47.49, "perr": 80.10, "hit_at_1": 88.49}
    assert PUBLISHED["baseline"] == {"gap": 85.07, "map": 44.61, "perr": 78.97, "hit_at_1": 87.75}


@pytest.mark.parametrize("name", list(VARIANTS))
def test_demo_size_fits_the_zoo(name: str) -> None:
    assert parameters(name, "demo") * 4 < 3_000_000
    config = variant_config(name, "demo")
    assert config.widths == {"visual": 128, "audio": 64}
    assert (config.classes, config.max_frames, config.layers) == (300, 300, 2 if name == "local-then-global" else 1)


def test_paper_size_has_no_projection() -> None:
    config = variant_config("gate-op-bd20", "paper")
    assert config.widths is None
    assert config.modalities == {"visual": 1024, "audio": 128}
    assert (config.classes, config.max_frames, config.heads, config.layers) == (3862, 300, 8, 1)


def test_seed_decides_the_weights_and_nothing_else_is_touched() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one, same, other = (build("baseline", "demo", classes=3, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [model.encoders["audio"].project.weight for model in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert one.card == {"name": "baseline", "size": "demo", "seed": 5}


def test_vocabulary_gives_the_classes() -> None:
    model = build("baseline", "demo", vocabulary=VOCABULARY)
    assert model.config.classes == model.classifier.out_features == len(VOCABULARY)


def test_one_modality_and_other_modalities() -> None:
    assert variant_config("gate-op-bd20", "demo", modalities=("audio",)).widths == {"audio": 64}
    config = variant_config("gate-op-bd20", "demo", modalities={"depth": 16}, max_frames=41, dropout=0.25)
    assert (config.modalities, config.widths) == ({"depth": 16}, None)
    assert (config.max_frames, config.dropout) == (41, 0.25)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "gate-op"}, "unknown variant 'gate-op'; known: baseline, share-att-bd.*control"),
        ({"name": "baseline", "size": "tiny"}, "unknown size 'tiny'; known: paper, demo"),
        ({"name": "baseline", "modalities": ("rgb",)}, "unknown modality 'rgb'; known: visual, audio"),
    ],
)
def test_unknown_names_list_the_known(arguments: dict, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        build(**arguments)


def test_a_model_width_of_ones_own_is_projected_to() -> None:
    config = variant_config("gate-op-bd20", "demo", modalities={"depth": 17}, widths={"depth": 20})
    assert (config.modalities, config.widths) == ({"depth": 17}, {"depth": 20})
    model = build("gate-op-bd20", "demo", classes=3, modalities={"depth": 17}, widths={"depth": 20})
    assert model.encoders["depth"].project.weight.shape == (20, 17)
    with pytest.raises(
        ConfigError, match=r"4 heads do not divide the width 17 .* widths=\{'depth': 20\}, or `gmsa train"
    ):
        variant_config("gate-op-bd20", "demo", modalities={"depth": 17})


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_callers_settings_change_no_model(dtype: torch.dtype) -> None:
    expected = build("gate-att-bd10", "demo", classes=3, seed=5)
    torch.set_default_dtype(dtype)
    try:
        with torch.inference_mode(), torch.device("meta"):
            model = build("gate-att-bd10", "demo", classes=3, seed=5)
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)
    assert model.training
    for name, weight in model.named_parameters():
        assert (weight.dtype, weight.device.type, weight.is_inference()) == (torch.float32, "cpu", False)
        assert weight.requires_grad
        assert torch.equal(weight, expected.get_parameter(name)), name
