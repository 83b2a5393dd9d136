"""import_state: somebody else's GMSA gives the same logits here, and what is not sure is one error."""

import hashlib
import json
import os
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bad_checkpoints import Bomb
from own_gmsa import OwnGmsa
from safetensors.torch import save_file
from small_models import small_model
from torch import nn

from gmsa_models import load, save
from gmsa_models.checkpoints.header import CheckpointError
from gmsa_models.checkpoints.importing import import_state, state_file
from gmsa_models.checkpoints.importing.names import read_name
from gmsa_models.checkpoints.importing.state_file import read_state
from gmsa_models.checkpoints.importing.state_process import read_tensors
from gmsa_models.errors import ContentError
from gmsa_models.masks import BlockDiagonal, Toeplitz, ToeplitzDilated

KINDS = ("baseline", "share-att", "gate-att", "gate-op")
STREAMS = {"rgb": "visual", "sound": "audio"}


def like(kind: str) -> str:
    return kind if kind in ("baseline", "control") else f"{kind}-tp4"


def pair(tmp_path, own: OwnGmsa, as_probabilities=False, **changes):
    """A proof of a model, as its owner writes it."""
    inputs = own.example()
    with torch.no_grad():
        outputs = own(**inputs)
    arrays = {STREAMS[name]: values.numpy() for name, values in inputs.items()}
    arrays |= {"probabilities": outputs.sigmoid().numpy()} if as_probabilities else {"logits": outputs.numpy()}
    np.savez(tmp_path / "pair.npz", **(arrays | changes))
    return tmp_path / "pair.npz"


def renamed(state, *changes):
    """A state_dict with parts of its names replaced."""
    for old, new in changes:
        state = {name.replace(old, new): value for name, value in state.items()}
    return state


def toml(tmp_path, text):
    (tmp_path / "map.toml").write_text(text)
    return tmp_path / "map.toml"


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_gmsa_of_somebody_else_gives_equal_logits(kind, packed, norm_first, tmp_path):
    own = OwnGmsa(kind, packed=packed, norm_first=norm_first)
    imported = import_state(own.state_dict(), like(kind), heads=2, proof=pair(tmp_path, own))
    assert imported.difference < 1e-5
    config = imported.model.config
    assert (config.modalities, config.widths) == ({"visual": 14, "audio": 10}, {"visual": 12, "audio": 8})
    assert (config.layers, config.classes, config.feed_forward) == (2, 5, 3)
    assert config.norm == ("pre" if norm_first else "post")
    assert config.max_frames == (11 if kind == "gate-att" else 300)
    assert config.neighbourhood == (None if kind == "baseline" else Toeplitz(4))


@pytest.mark.parametrize("changes", [{}, {"bias": False}, {"norm": "post"}, {"layers": 2}, {"feed_forward": 1}])
@pytest.mark.parametrize("kind", [*KINDS, "none"])
def test_our_own_weights_come_back(kind, changes):
    model = small_model(kind, neighbourhood=None if kind in ("baseline", "none") else Toeplitz(4), **changes)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    imported = import_state(model.state_dict(), like("control" if kind == "none" else kind), heads=4, max_frames=23)
    bias = kind == "none" or model.config.bias  # the control has no projections
    assert imported.model.config == replace(model.config, bias=bias)
    for name, value in imported.model.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


@pytest.mark.parametrize("wrap", [
    lambda state: state,
    lambda state: {"state_dict": state, "epoch": 3},
    lambda state: {"model": {"state_dict": state}},
    lambda state: renamed(state, ("towers", "module._orig_mod.towers"), ("head", "module._orig_mod.head")),
    lambda state: {"model": renamed(state, ("towers", "model.towers"), ("head", "model.head")),
                   "optimizer": {"state": {0: {"step": torch.ones(())}}, "param_groups": [{"lr": 0.1}]}},
])  # fmt: skip
@pytest.mark.usefixtures("weights_read_here")
def test_files_of_torch_save_with_their_wrappers(wrap, tmp_path):
    own = OwnGmsa()
    torch.save(wrap(own.state_dict()), tmp_path / "weights.pt")
    imported = import_state(tmp_path / "weights.pt", "gate-op-tp4", heads=2, proof=pair(tmp_path, own))
    assert imported.difference < 1e-5
    assert imported.assignments[0].source == "towers.rgb.embed.weight"


def test_what_is_written_opens_and_says_its_origin(tmp_path):
    own = OwnGmsa()
    save_file(own.state_dict(), tmp_path / "theirs.safetensors")
    imported = import_state(tmp_path / "theirs.safetensors", "gate-op-tp4", heads=2, proof=pair(tmp_path, own))
    save(imported.model, tmp_path / "mine.safetensors")
    model = load(tmp_path / "mine.safetensors")
    digest = hashlib.sha256((tmp_path / "theirs.safetensors").read_bytes()).hexdigest()
    assert model.card["imported"] == {
        "file": "theirs.safetensors", "sha256": digest, "like": "gate-op-tp4", "proof": "pair.npz",
        "difference": imported.difference,
    }  # fmt: skip
    assert model.card["name"] == "theirs"
    assert model.vocabulary.names[4] == "class 4"


@pytest.mark.parametrize(
    ("name", "shape", "parts", "bias"),
    [
        ("attn.q_proj.weight", (8, 8), {"query"}, False), ("W_q", (8, 8), {"query"}, None),
        ("query.weight", (8, 8), {"query"}, False), ("self_attn.in_proj_bias", (24,), {"packed"}, True),
        ("layers.3.attn.Wk.bias", (8,), {"key"}, True), ("attn.to_v.weight", (8, 8), {"value"}, False),
        ("attn.qkv.weight", (24, 8), {"packed"}, False), ("b_v", (8,), {"value"}, True),
        ("h.0.attn.c_attn.weight", (24, 8), {"packed"}, False), ("h.0.ln_2.weight", (8,), {"norm_feed_forward"}, False),
        ("blocks.1.norm1.bias", (8,), {"norm_attention"}, True),
        ("layer.0.mlp.fc1.weight", (16, 8), {"feed_first"}, False),
        ("layers.0.linear2.weight", (8, 16), {"feed_second"}, False), ("Wol", (8, 8), {"output", "output_local"}, None),
        ("W_g_l", (8, 8), {"gate_local"}, None), ("gates.global.weight", (8, 8), {"gate_global"}, False),
        ("encoder.layer.1.attention.output.LayerNorm.weight", (8,), {"norm_attention"}, False),
        ("encoder.layer.1.output.LayerNorm.weight", (8,), {"norm_feed_forward"}, False),
        ("encoder.layer.1.intermediate.dense.weight", (16, 8), {"feed_first"}, False),
        ("classifier.weight", (5, 8), {"classifier"}, False), ("zzz", (8, 8), set(), None),
    ],
)  # fmt: skip
def test_usual_names_are_known(name, shape, parts, bias):
    read = read_name(name, shape, {"stream": "visual"})
    assert (set(read.parts), read.bias) == (parts, bias)


@pytest.mark.parametrize(("variant", "neighbourhood"), [
    ("gate-op-tp20", Toeplitz(20)), ("share-att-bd7", BlockDiagonal(7)), ("gate-att-td40x3", ToeplitzDilated(40, 3)),
    ("gate-att-td80", ToeplitzDilated(80, 2)),
])  # fmt: skip
def test_neighbourhoods_of_other_sizes(variant, neighbourhood):
    own = OwnGmsa(variant[: -len(variant.split("-")[-1]) - 1])
    assert import_state(own.state_dict(), variant, heads=2).model.config.neighbourhood == neighbourhood


def test_matrices_for_x_at_w(tmp_path):
    own = OwnGmsa()
    state = {name: value.T.contiguous() if value.ndim == 2 else value for name, value in own.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"towers\.rgb\.embed\.weight \(14, 12\)|--transposed"):
        import_state(state, "gate-op-tp4", heads=2)
    assert import_state(state, "gate-op-tp4", heads=2, transposed=True, proof=pair(tmp_path, own)).difference < 1e-5


def test_a_gate_that_is_a_linear_is_turned(tmp_path):
    own = OwnGmsa("gate-att")
    state = {
        name + ".weight" * ("W_g" in name): value.T.contiguous() if "W_g" in name else value
        for name, value in own.state_dict().items()
    }
    imported = import_state(state, "gate-att-tp4", heads=2, proof=pair(tmp_path, own))
    assert imported.difference < 1e-5
    gate = next(each for each in imported.assignments if each.name.endswith("gate_global"))
    assert gate.how == "by name, transposed: a Linear's gate is (out, in)"


def test_streams_are_named_by_parts_of_names(tmp_path):
    own = OwnGmsa()
    state = renamed(own.state_dict(), ("towers.rgb", "towers.0"), ("towers.sound", "towers.1"))
    with pytest.raises(CheckpointError, match="no name says of which stream"):
        import_state(state, "gate-op-tp4", heads=2)
    streams = {"towers.0": "visual", "towers.1": "audio"}
    proof = pair(tmp_path, own)
    assert import_state(state, "gate-op-tp4", heads=2, streams=streams, proof=proof).difference < 1e-5
    swapped = dict(reversed(streams.items()))
    with pytest.raises(CheckpointError, match=r"differ.*With the streams in the other order"):
        import_state(state, "gate-op-tp4", heads=2, streams=swapped, proof=proof)
    with pytest.raises(CheckpointError, match=r"no tensor is called 'towers\.2'"):
        import_state(state, "gate-op-tp4", heads=2, streams={**streams, "towers.2": "motion"})


def test_one_stream_and_one_layer_without_numbers(tmp_path):
    own = OwnGmsa(sizes={"rgb": (12, 12)}, depth=1)
    state = renamed(own.state_dict(), ("towers.rgb.blocks.0.", ""), ("towers.rgb.", ""))
    np.savez(tmp_path / "pair.npz", visual=own.example()["rgb"][0].numpy(), logits=own(**own.example())[0].detach())
    imported = import_state(state, "gate-op-tp4", heads=2, streams={"visual": "visual"}, proof=tmp_path / "pair.npz")
    assert imported.difference < 1e-5
    assert imported.model.config.widths is None


def test_names_that_say_nothing_need_a_map(tmp_path):
    own = OwnGmsa()
    state = renamed(own.state_dict(), ("W_og", "first"), ("W_ol", "other"))
    with pytest.raises(CheckpointError, match=(
        r"gmsa\.first\.weight, .*gmsa\.other\.weight of shape \(12, 12\) may each be .*output_global\.weight, "
        r".*output_local\.weight: their names do not tell; --rename decides"
    )):  # fmt: skip
        import_state(state, "gate-op-tp4", heads=2)
    names = toml(tmp_path, '"*.first.weight" = "*.W_og.weight"\n"*.other.weight" = "*.W_ol.weight"\n')
    imported = import_state(state, "gate-op-tp4", heads=2, rename=names, proof=pair(tmp_path, own))
    assert imported.difference < 1e-5
    how = {each.source: each.how for each in imported.assignments}
    assert how["towers.rgb.blocks.0.gmsa.first.weight"] == "by --rename"
    whole = '"towers.rgb.blocks.*.gmsa.first.weight" = "encoders.visual.layers.*.attention.output_global.weight"\n'
    left = {name: value for name, value in state.items() if "sound" not in name} | {"head.weight": torch.ones(5, 12)}
    imported = import_state(left, "gate-op-tp4", heads=2, rename=toml(tmp_path, whole))  # the other one is left alone
    assert [each.how for each in imported.assignments if "output_local" in each.name] == ["by shape"] * 2


def test_a_shape_that_nothing_else_has_needs_no_name(tmp_path):
    own = OwnGmsa()
    state = renamed(own.state_dict(), ("gmsa.b", "gmsa.beyond"), ("mlp.0", "alpha"), ("mlp.2", "omega"))
    imported = import_state(state, "gate-op-tp4", heads=2, proof=pair(tmp_path, own))
    assert imported.difference < 1e-5
    assert {each.how for each in imported.assignments if "output_bias" in each.name} == {"by shape"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("towers.rgb.blocks.1.gmsa.W_v.weight"),
         r"1 tensors of the model are missing in the file: encoders\.visual\.layers\.1\.attention\.value\.weight \(12"),
        (lambda s: s.pop("towers.rgb.blocks.1.gmsa.W_v.bias"), r"missing.*value\.bias.*or which are zeros"),
        (lambda s: s.update({"towers.rgb.position": torch.ones(300, 12)}),
         r"1 tensors of the file have no place in the model: towers\.rgb\.position \(300, 12\); --rename .* left out"),
        (lambda s: s.update({"towers.rgb.blocks.0.gmsa.query.weight": torch.ones(12, 12)}),
         r"W_q\.weight and .*query\.weight are both encoders\.visual\.layers\.0\.attention\.query\.weight"),
        (lambda s: s.update({"towers.rgb.blocks.0.gmsa.W_q.weight": torch.ones(12, 12, dtype=torch.int8) * 7}),
         r"W_q\.weight is int8, quantised: .* expected float64, float32, bfloat16 or float16"),
        (lambda s: s.update({"head.weight": s["head.weight"].to(torch.float8_e4m3fn)}), "is float8_e4m3fn, quantised"),
        (lambda s: s.update({"head.weight": s["head.weight"].to(torch.complex64)}), "is complex64, complex; expected"),
        (lambda s: s.update({"head.weight": s["head.weight"].to_sparse()}), "tensor 'head.weight' is sparse; expected"),
        (lambda s: s.update({"head.weight": s["head.weight"].to("meta")}), "is on the device meta, without numbers"),
        (lambda s: s["head.weight"].fill_(torch.nan), r"head\.weight \(5, 20\) has a value that is not finite"),
        (lambda s: s.update({"head.weight": torch.ones(5, 21)}), r"the classifier must be one matrix \(classes, 20\)"),
        (lambda s: [s.pop(name) for name in list(s) if "sound.blocks.1" in name], "different numbers of layers"),
        (lambda s: [s.pop(name) for name in list(s) if "mlp" in name], r"first matrix must be \(hidden, 12"),
        (lambda s: s.update({"towers.rgb.blocks.0.gmsa.W_g_g.bias": torch.ones(12)}), "gate biases .* differ"),
        (lambda s: s.update({"towers.rgb.mask": torch.ones(9, 9, dtype=torch.bool).tril(2)}),
         r"towers\.rgb\.mask is a mask that allows .* of 81 pairs of frames; Toeplitz\(size=4\) allows"),
    ],
)  # fmt: skip
def test_weights_that_are_no_such_model(change, message):
    state = {name: value.clone() for name, value in OwnGmsa().state_dict().items()}
    change(state)
    with pytest.raises(CheckpointError, match=f"the state_dict: .*{message}"):
        import_state(state, "gate-op-tp4", heads=2)


@pytest.mark.parametrize(
    ("variant", "options", "message"),
    [
        ("gate-op-tp", {}, r"no variant 'gate-op-tp'; known: baseline, share-att-bd.*gate-op-tp20"),
        ("gate-op-tp30x2", {}, "only td has a dilation"),
        ("baseline", {"heads": 2}, r"W_og\.weight and .*W_ol\.weight are both .*another variant \(--like\)"),
        ("gate-att-tp4", {"heads": 2}, r"frames|missing"),
        ("gate-op-tp4", {"heads": 5}, r"5 heads do not divide the width 12.*give --heads"),
        ("gate-op-tp4", {}, r"8 heads do not divide the width 12 .*--heads"),
    ],
)
def test_wrong_variants_and_heads(variant, options, message):
    with pytest.raises(CheckpointError, match=message):
        import_state(OwnGmsa().state_dict(), variant, **options)


def test_masks_and_counters_are_no_weights(tmp_path):
    own = OwnGmsa()
    steps = torch.arange(9)
    near = (steps[:, None] - steps).abs() <= 2
    state = own.state_dict() | {
        "towers.rgb.mask": near, "towers.rgb.blocked": ~near, "towers.sound.mask": torch.where(near, 0.0, -torch.inf),
        "steps": torch.tensor(7),
    }  # fmt: skip
    imported = import_state(state, "gate-op-tp4", heads=2, proof=pair(tmp_path, own))
    assert sum("is the mask of the model: compared" in note for note in imported.notes) == 3
    assert "steps is int64, no weight: left out" in imported.notes


@pytest.mark.parametrize("part", ["gate", "output"])
def test_biases_that_cancel_or_are_one(part, tmp_path):
    own = OwnGmsa()
    state = own.state_dict()
    names = {"gate": ("W_g_g", "W_g_l"), "output": ("W_og", "W_ol")}[part]
    for stream, width in (("rgb", 12), ("sound", 8)):
        for layer in (0, 1):
            place = f"towers.{stream}.blocks.{layer}.gmsa"
            bias = torch.randn(width) if part == "gate" else state.pop(f"{place}.b")
            state |= {f"{place}.{name}.bias": bias.clone() for name in names}
    imported = import_state(state, "gate-op-tp4", heads=2, proof=pair(tmp_path, own))
    assert imported.difference < 1e-5
    assert sum("equal in both branches" in note for note in imported.notes) == 4


def test_zeros_and_what_is_left_out_stand_in_the_map(tmp_path):
    own = OwnGmsa()
    state = own.state_dict()
    biases = [name for name in state if name.endswith("W_k.bias")]
    for name in biases:  # a bias of the keys adds the same to all logits of a query
        del state[name]
    state["towers.rgb.position"] = torch.ones(300, 12)
    text = 'zeros = ["encoders.*.attention.key.bias"]\n"towers.rgb.position" = ""\n'
    imported = import_state(state, "gate-op-tp4", heads=2, rename=toml(tmp_path, text), proof=pair(tmp_path, own))
    assert imported.difference < 1e-5
    assert [each.source for each in imported.assignments if each.how == "zeros, as asked for"] == [""] * 4
    assert "towers.rgb.position is left out by --rename" in imported.notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"a" = ', "is no TOML"), ('"no.such" = "x"', r"no tensor is called 'no\.such'"),
        ('"head.*" = 3', "expected a name"), ('zeros = "x"', "expected a list of names"),
        ('"*.W_q.weight" = "one.query.weight"', "are both called 'one"),
        ('"head.weight" = "*"', r"has more \* than"),
    ],
)  # fmt: skip
def test_maps_that_cannot_be(text, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        import_state(OwnGmsa().state_dict(), "gate-op-tp4", heads=2, rename=toml(tmp_path, text))


def test_a_half_precision_model_stays_one(tmp_path):
    own = OwnGmsa().half()
    assert import_state(own.state_dict(), "gate-op-tp4", heads=2).model.classifier.weight.dtype == torch.float16
    mixed = own.state_dict() | {"head.bias": torch.ones(5)}
    imported = import_state(mixed, "gate-op-tp4", heads=2)
    assert imported.model.classifier.weight.dtype == torch.float32
    assert "weights of types float16, float32: all become torch.float32" in imported.notes


# What a proof finds of another's conventions: what was changed in the original, and the remedy that is named.
CONVENTIONS = {
    "another number of heads": (lambda own: [setattr(b.gmsa, "heads", 4) for b in blocks(own)], "With --heads 4"),
    "another activation": (lambda own: [b.mlp.__setitem__(1, nn.ReLU()) for b in blocks(own)], "another activation"),
    "the tanh form of the GELU": (
        lambda own: [b.mlp.__setitem__(1, nn.GELU(approximate="tanh")) for b in blocks(own)], "Check --heads",
    ),
    "another neighbourhood": (lambda own: [setattr(b.gmsa, "reach", 8) for b in blocks(own)], "neighbourhood"),
    "the next neighbourhood": (
        lambda own: [setattr(b.gmsa, "reach", 6) for b in blocks(own)], "With --like gate-op-tp6 the difference is",
    ),
    "queries for keys": (
        lambda own: [swap(b.gmsa, "W_q", "W_k") for b in blocks(own)], r"With queries and keys exchanged \(--rename\)",
    ),
    "another scale": (
        lambda own: [b.gmsa.register_forward_pre_hook(lambda m, x: (x[0] * 1.1,)) for b in blocks(own)], "scale",
    ),
    "another epsilon of the norms": (lambda own: [setattr(b.ln_1, "eps", 1e-2) for b in blocks(own)], "norm"),
    "gates in the other order": (
        lambda own: [swap(b.gmsa, "W_g_g", "W_g_l") for b in blocks(own)], "Check --heads",
    ),
    "another pooling": (
        lambda own: [tower.register_forward_hook(lambda m, x, y: y[:, :5]) for tower in own.towers.values()], "pooling",
    ),
}  # fmt: skip


def blocks(own):
    return [block for tower in own.towers.values() for block in tower.blocks]


def swap(module, one, other):
    first, second = getattr(module, one), getattr(module, other)
    setattr(module, one, second)
    setattr(module, other, first)


@pytest.mark.parametrize("name", CONVENTIONS)
def test_the_proof_finds_other_conventions(name, tmp_path):
    change, remedy = CONVENTIONS[name]
    own = OwnGmsa()
    state = {key: value.clone() for key, value in own.state_dict().items()}
    change(own)
    with pytest.raises(CheckpointError, match=rf"differ from those of .*pair\.npz by up to .*{remedy}"):
        import_state(state, "gate-op-tp4", heads=2, proof=pair(tmp_path, own))


def test_square_matrices_that_are_transposed_are_found_by_the_proof(tmp_path):
    own = OwnGmsa(sizes={"rgb": (12, 12)}, depth=1)
    state = own.state_dict()
    for name in ("W_q", "W_k", "W_v"):
        state[f"towers.rgb.blocks.0.gmsa.{name}.weight"] = state[
            f"towers.rgb.blocks.0.gmsa.{name}.weight"
        ].T.contiguous()
    with pytest.raises(CheckpointError, match=r"differ .* \(--transposed\)"):
        import_state(state, "gate-op-tp4", heads=2, proof=pair(tmp_path, own))


def test_probabilities_prove_as_well(tmp_path):
    own = OwnGmsa()
    imported = import_state(own.state_dict(), "gate-op-tp4", heads=2, proof=pair(tmp_path, own, as_probabilities=True))
    assert imported.difference < 1e-6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probabilities": np.ones((3, 5), np.float32)}, "expected one of logits or probabilities"),
        ({"audio": np.ones((3, 8, 10), np.float32)}, "as many clips and frames"),
        (
            {"audio": np.ones((3, 9, 11), np.float32)},
            r"'audio' has shape \(3, 9, 11\); expected \(3, 9, 10\)",
        ),
        ({"audio": np.ones((3, 9, 10), np.uint8)}, "uint8, or not finite; expected finite floating-point numbers"),
        ({"logits": np.full((3, 5), np.nan, np.float32)}, "or not finite"),
        ({"logits": np.ones((3, 6), np.float32)}, r"logits of shape \(3, 6\); the model gives \(3, 5\)"),
        ({"logits": np.array([object()])}, "pickled"),
        (
            {"depth": np.ones((3, 9, 2), np.float32)},
            r"array 'depth', which the model does not take; it has streams \['v",
        ),
    ],
)
def test_pairs_that_cannot_be(changes, message, tmp_path):
    own = OwnGmsa()
    with pytest.raises(CheckpointError, match=message):
        import_state(own.state_dict(), "gate-op-tp4", heads=2, proof=pair(tmp_path, own, **changes))


# Pairs of which nothing follows: what is changed in the inputs, the kind of outputs, and what a better pair has.
UNDECIDED = {
    "one frame": (lambda each: each[:, :1], False, r"--heads 1 \(.*clips of at least 4 frames.*\(here 1\)"),
    "frames all alike": (lambda each: torch.zeros_like(each), False, "frames that differ within a clip"),
    "no longer than the neighbourhood": (
        lambda each: each[:, :3], False, r"fit as well: --like gate-op-tp6 \(.*clips of at least 4 frames.*\(here 3\)",
    ),
    "probabilities of 0 and 1": (lambda each: each, True, "logits in place of probabilities"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNDECIDED)
def test_a_pair_that_other_readings_fit_as_well_proves_nothing(name, tmp_path):
    change, saturated, remedy = UNDECIDED[name]
    own = OwnGmsa()
    if saturated:
        with torch.no_grad():
            own.head.bias.copy_(torch.tensor([40.0, -40.0, 40.0, -40.0, 40.0]))
    example = {stream: change(each) for stream, each in own.example().items()}
    own.example = lambda: example
    with pytest.raises(
        CheckpointError, match=rf"pair\.npz does not decide how the weights are read: .*{remedy}.* Noth"
    ):
        import_state(own.state_dict(), "gate-op-tp4", heads=2, proof=pair(tmp_path, own, saturated))


def test_a_pair_of_one_frame_does_not_tell_the_heads_of_a_baseline(tmp_path):
    own = OwnGmsa("baseline")
    example = {stream: each[:, :1] for stream, each in own.example().items()}
    own.example = lambda: example
    with pytest.raises(CheckpointError, match=r"A pair that decides has several frames a clip \(here 1\)"):
        import_state(own.state_dict(), "baseline", heads=2, proof=pair(tmp_path, own))


def test_equal_inputs_do_not_tell_the_order_of_equal_streams(tmp_path):
    own = OwnGmsa(sizes={"rgb": (14, 12), "sound": (14, 12)})
    own.towers.sound.load_state_dict(own.towers.rgb.state_dict())
    example = own.example()
    assert import_state(own.state_dict(), "gate-op-tp4", heads=2, proof=pair(tmp_path, own)).difference < 1e-5
    example["sound"] = example["rgb"]
    own.example = lambda: example
    with pytest.raises(CheckpointError, match=r"the streams in the other order.*other inputs in each stream"):
        import_state(own.state_dict(), "gate-op-tp4", heads=2, proof=pair(tmp_path, own))


def test_half_precision_is_named_where_a_proof_fails(tmp_path):
    own = OwnGmsa()
    rough = own.example()["rgb"].half().numpy()
    with pytest.raises(
        CheckpointError, match=r"'visual' of the pair is float16, and models here compute in float32: ma"
    ):
        import_state(own.state_dict(), "gate-op-tp4", heads=2, proof=pair(tmp_path, own, visual=rough))
    proof = pair(tmp_path, own)
    with pytest.raises(CheckpointError, match=r"the weights are bfloat16, and models here compute in float32"):
        import_state(own.bfloat16().state_dict(), "gate-op-tp4", heads=2, proof=proof)


def test_a_norm_in_front_of_the_layers_is_not_taken_for_the_one_behind_them():
    own = OwnGmsa(norm_first=False)
    state = own.state_dict()
    for stream, width in (("rgb", 12), ("sound", 8)):
        state |= {
            f"towers.{stream}.ln_pre.weight": torch.ones(width),
            f"towers.{stream}.ln_pre.bias": torch.ones(width),
        }
    with pytest.raises(CheckpointError, match=r"towers\.rgb\.ln_pre\.weight \(12,\) is a norm in front of the layers"):
        import_state(state, "gate-op-tp4", heads=2)


def test_where_norms_stand_can_be_said(tmp_path):
    first, behind = OwnGmsa(norm_first=True), OwnGmsa(norm_first=False)
    assert import_state(first.state_dict(), "gate-op-tp4", heads=2, norm="pre").model.config.norm == "pre"
    assert import_state(behind.state_dict(), "gate-op-tp4", heads=2, norm="post").model.config.norm == "post"
    with pytest.raises(
        CheckpointError, match=r"--norm post: the file has a norm behind the last layer .*pre-norm only"
    ):
        import_state(first.state_dict(), "gate-op-tp4", heads=2, norm="post")
    with pytest.raises(CheckpointError, match=r"--norm pre: the file has no norm behind the last layer"):
        import_state(behind.state_dict(), "gate-op-tp4", heads=2, norm="pre")
    with pytest.raises(CheckpointError, match=r"--norm is 'before'; expected pre or post"):
        import_state(behind.state_dict(), "gate-op-tp4", heads=2, norm="before")


def several(one, other):
    """Files of two sets of weights -> under which key each is."""
    return [
        ({"state_dict": one, "ema": other}, ("state_dict", "ema")),
        ({"model": one, "model_ema": other, "optimizer": {"state": {}, "exp_avg": one}}, ("model", "model_ema")),
        ({"student": {"state_dict": one}, "teacher": {"state_dict": other}}, ("student", "teacher.state_dict")),
        (
            {f"{name}.{key}": each for name, state in (("net", one), ("ema", other)) for key, each in state.items()},
            ("net", "ema"),
        ),
    ]


@pytest.mark.parametrize("number", range(4))
@pytest.mark.usefixtures("weights_read_here")
def test_of_several_sets_of_weights_the_key_says_which(number, tmp_path):
    one, other = OwnGmsa(seed=0).state_dict(), OwnGmsa(seed=1).state_dict()
    contents, keys = several(one, other)[number]
    torch.save(contents, tmp_path / "two.pt")
    with pytest.raises(CheckpointError, match="--key says which" if number < 3 else r"are both|several|layers"):
        import_state(tmp_path / "two.pt", "gate-op-tp4", heads=2)
    for weights in (tmp_path / "two.pt", contents):
        for key, state in zip(keys, (one, other), strict=True):
            imported = import_state(weights, "gate-op-tp4", heads=2, key=key)
            assert torch.equal(imported.model.classifier.weight, state["head.weight"])
        with pytest.raises(CheckpointError, match=r"--key 'best': no such set of tensors; there are "):
            import_state(weights, "gate-op-tp4", heads=2, key="best")


@pytest.mark.usefixtures("weights_read_here")
def test_what_goes_with_weights_is_not_taken_for_weights(tmp_path):
    state = OwnGmsa().state_dict()
    beside = {"optimizer": {"exp_avg": dict(state)}, "rng": {"cpu": torch.ones(3)}, "epoch": torch.tensor(3)}
    torch.save({"state_dict": state, **beside}, tmp_path / "one.pt")
    assert import_state(tmp_path / "one.pt", "gate-op-tp4", heads=2).assignments[0].source == "towers.rgb.embed.weight"


def test_class_names_of_a_table_or_a_text(tmp_path):
    state = OwnGmsa().state_dict()
    (tmp_path / "names.txt").write_text("Game\nCar\nFood\n\nDance\nZoo\n")
    (tmp_path / "names.csv").write_text("index,display_name\n7,Game\n5,Car\n11,Food\n2,Dance\n9,Zoo\n")
    (tmp_path / "few.txt").write_text("Game\n")
    text = import_state(state, "gate-op-tp4", heads=2, classes=tmp_path / "names.txt").model.vocabulary
    table = import_state(state, "gate-op-tp4", heads=2, classes=tmp_path / "names.csv").model.vocabulary
    assert text.names == table.names == ("Game", "Car", "Food", "Dance", "Zoo")
    assert (text.indices, table.indices) == ((0, 1, 2, 3, 4), (7, 5, 11, 2, 9))
    for name, message in (("few.txt", "1 names; the classifier has 5 outputs"), ("none.csv", "cannot be read")):
        with pytest.raises(CheckpointError, match=message):
            import_state(state, "gate-op-tp4", heads=2, classes=tmp_path / name)


def whole_model(path):
    torch.save(OwnGmsa(), path)


def jagged(path):
    values = torch.nested.nested_tensor([torch.ones(3, 2), torch.ones(5, 2)], layout=torch.jagged)
    torch.save({"a.weight": values}, path)


def expanded(path):
    torch.save({"a.weight": torch.ones(1).expand(1 << 20, 1 << 20)}, path)


def huge_header(path):
    path.write_bytes(struct.pack("<Q", 1 << 60) + b'{"a":{}}')


def impossible(path):
    entry = {"dtype": "F32", "shape": [1 << 40, 1 << 20], "data_offsets": [0, 1 << 62]}
    text = json.dumps({"a": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)


BAD_FILES = {
    "a pickle with code": (lambda path: torch.save({"a": Bomb()}, path), r"asks for \w+\.mkdir, which is code.*not "),
    "a whole model": (whole_model, r"asks for own_gmsa\.OwnGmsa, which is code.*torch\.save\(model\.state_dict"),
    "jagged tensors": (jagged, r"jagged \(nested\)"),
    "sparse tensors": (lambda path: torch.save({"a": torch.eye(3).to_sparse()}, path), "tensor 'a' is sparse; expec"),
    "numbers that repeat": (expanded, "bytes that claim tensors of 4398046511104"),
    "no tensors": (lambda path: torch.save({"a": 3}, path), "holds dict without tensors by name"),
    "two models": (
        lambda path: torch.save({"model": {"a": torch.ones(1)}, "net": {"a": torch.ones(1)}}, path),
        "holds 2 sets of weights: model, net; --key says which, as --key net",
    ),
    "a text": (lambda path: path.write_text("hello, this is a letter"), "begins with b'hello, t': neither safetensors"),
    "an empty file": (lambda path: path.write_bytes(b""), "begins with b''"),
    "a file cut short": (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(90)), "damaged, or more than tensors"),
    "a huge header": (huge_header, "damaged safetensors"),
    "an impossible tensor": (impossible, "damaged safetensors"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", [name for name, (make, _) in BAD_FILES.items() if make is not expanded])
def test_bad_contents_are_one_error_and_run_nothing(name, tmp_path, monkeypatch):
    make, message = BAD_FILES[name]
    monkeypatch.chdir(tmp_path)  # where the pickle would make a folder
    make(tmp_path / "x.pt")
    with pytest.raises(ContentError, match=message) as caught:
        read_tensors((tmp_path / "x.pt").read_bytes())
    assert len(str(caught.value)) < 500
    assert not (tmp_path / "executed").exists()


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    "name", ["a pickle with code", "jagged tensors", "numbers that repeat", "an impossible tensor"]
)
def test_another_process_reads_a_file_and_says_what_is_wrong(name, tmp_path, monkeypatch):
    make, message = BAD_FILES[name]
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=rf"x\.pt: .*({message})"):
        read_state(tmp_path / "x.pt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("limit", "message"), [("_ALLOWANCE", "more memory than"), ("_SECONDS", r"took more than \d s")]
)
def test_the_process_has_limits(limit, message, tmp_path, monkeypatch):
    torch.save({"a": torch.ones(1 << 25)}, tmp_path / "x.pt")
    monkeypatch.setattr(state_file, limit, 0)
    monkeypatch.setattr(state_file, "_BYTES_A_SECOND", 1 << 60)  # less than what importing torch takes
    monkeypatch.setattr(state_file, "_BYTES_A_BYTE", 0 if limit == "_ALLOWANCE" else 6)
    with pytest.raises(CheckpointError, match=message):
        read_state(tmp_path / "x.pt")


@pytest.mark.parametrize(("make", "message"), [
    (Path.mkdir, "a directory, pipe or device; expected a file of weights"), (os.mkfifo, "a directory, pipe or device"),
    (lambda path: None, "no such file; expected a file of weights"),
])  # fmt: skip
def test_what_is_no_file_is_refused(make, message, tmp_path):
    make(tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=message):
        read_state(tmp_path / "x.pt")
