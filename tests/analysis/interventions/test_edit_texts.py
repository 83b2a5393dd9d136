"""Edits as texts: there and back for any edit, and errors that say where."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import small_clip

from analysis.interventions.edit_texts import GRAMMAR, checked_edits, edit_text, edits_from_texts, parse_edit
from analysis.interventions.edits import (
    PATCHED,
    DropFrames,
    EditError,
    ForceGate,
    KnockOut,
    MoveFrames,
    Patch,
    ReplaceNeighbourhood,
    ScaleHead,
)
from analysis.interventions.sites import Site
from gmsa.commands.inspect import FORMS
from gmsa_models.masks import BlockDiagonal, Toeplitz, ToeplitzDilated

STREAMS = st.sampled_from(["visual", "audio", "*", "eeg-1", "Ton"])
LAYERS = st.one_of(st.integers(0, 30), st.just("*"))
BRANCHES = st.sampled_from(["global", "local", "*"])
HEADS = st.lists(st.integers(0, 40), max_size=4).map(tuple)
NUMBERS = st.one_of(st.integers(0, 10**6), st.floats(0, 1e6, allow_nan=False), st.floats(0, 1e-3))
SPANS = st.tuples(NUMBERS, NUMBERS).filter(lambda span: span[0] < span[1])
MAYBE = st.none() | SPANS
NONE, NO_BRANCH, ALL = st.none(), st.just(""), st.just(())
SIZES = st.integers(1, 400)
NEIGHBOURHOODS = st.one_of(
    st.tuples(st.sampled_from([BlockDiagonal, Toeplitz]), SIZES),
    st.tuples(st.just(ToeplitzDilated), SIZES, st.integers(1, 9)),
)
PATCHES = st.sampled_from([each for each in PATCHED if each != "pooled"])

# A kind of edit, its site's fields, and the others: the edits themselves are made in the tests, where their types may
# be checked.
EDITS = st.one_of(
    st.tuples(st.just(KnockOut), st.tuples(STREAMS, st.just("weights"), LAYERS, BRANCHES, HEADS),
              st.tuples(MAYBE, MAYBE, st.booleans())),
    st.tuples(st.just(Patch), st.tuples(STREAMS, PATCHES, LAYERS, BRANCHES, HEADS),
              st.one_of(st.tuples(st.sampled_from(["mean", "zero"]), MAYBE),
                        st.tuples(st.just("own"), MAYBE, NUMBERS))),
    st.tuples(st.just(ForceGate), st.tuples(STREAMS, st.just("gate"), LAYERS, NO_BRANCH, HEADS),
              st.tuples(st.floats(0, 1), st.sampled_from(["global", "local"]), MAYBE)),
    st.tuples(st.just(ReplaceNeighbourhood), st.tuples(STREAMS, st.just("neighbourhood"), LAYERS, BRANCHES, ALL),
              st.tuples(NEIGHBOURHOODS)),
    st.tuples(st.just(ScaleHead), st.tuples(STREAMS, st.just("contexts"), LAYERS, BRANCHES, HEADS),
              st.tuples(st.floats(-1e9, 1e9), MAYBE)),
    st.tuples(st.just(DropFrames), st.tuples(STREAMS, st.just("input"), NONE, NO_BRANCH, ALL), st.tuples(SPANS)),
    st.tuples(st.just(MoveFrames), st.tuples(STREAMS, st.just("input"), NONE, NO_BRANCH, ALL),
              st.tuples(SPANS, NUMBERS)),
)  # fmt: skip


@given(EDITS)
def test_any_edit_is_itself_again(drawn):
    kind, site, values = drawn
    if kind is ReplaceNeighbourhood:
        values = (values[0][0](*values[0][1:]),)
    edit = kind(Site(*site), *values)
    text = edit_text(edit)
    assert parse_edit(text) == edit
    assert edit_text(parse_edit(f"  {text}  ")) == text


@given(st.tuples(STREAMS, PATCHES, LAYERS, BRANCHES, HEADS))
def test_any_site_is_itself_again(fields):
    site = Site(*fields)
    assert Site.parse(str(site)) == site


@pytest.mark.parametrize("name", ["clip7", "mean", "a clip; of two", 'quo"te', "tensor:1", "é\\"])
def test_a_clip_is_named(name):
    clip = small_clip(9, id=name)
    text = edit_text(Patch("visual/0/local/values[head 1]", clip, (2, 4.5), 3))
    again = edits_from_texts([f"{text}; drop */input at 0..1"], {name: clip}.__getitem__)
    assert again[0].source is clip
    assert (again[0].at, again[0].start) == ((2, 4.5), 3)
    assert again[1] == DropFrames("*/input", (0, 1))


def test_a_tensor_is_named_by_its_values_and_cannot_be_read_again():
    texts = {edit_text(Patch("visual/0/output", torch.full((1, 1), value))) for value in (1.0, 1.0, 2.0)}
    assert len(texts) == 2
    with pytest.raises(EditError, match="the values of this tensor are not in the text"):
        parse_edit(texts.pop())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "character 1: got the end; expected a verb: knock-out, patch, .*, neighbourhood, scale, drop, move"),
        ("knockout visual/0/local/weights", "character 1: got 'knockout'; expected a verb: knock-out"),
        ("knock-out", "character 10: got the end; expected a site"),
        ("knock-out visual/0/local", "character 11: visual/0/local/local|KnockOut at|is no site"),
        ("knock-out v/0/local/weights key 3..4", "character 29: got 'key'; expected .*: queries, keys, after-softmax"),
        ("knock-out v/0/local/weights keys", "character 33: got the end; expected the value of keys: seconds A..B"),
        ("knock-out v/0/local/weights keys 3-4", "character 34: got '3-4'; expected seconds A..B after 'keys'"),
        ("knock-out v/0/local/weights keys 3..inf", "got '3..inf'; expected seconds"),
        ("knock-out v/0/local/weights keys 1..2 keys 3..4", "got 'keys' a second time"),
        ("knock-out v/0/local/weights keys 4..3", "keys is 4 to 3 s"),
        ("knock-out v/0/local/contexts", "KnockOut at .*; expected a site of weights"),
        ("neighbourhood v/0/local/neighbourhood as XY9", "expected BDn, TPn or TDnxd"),
        ("force-gate v/0/gate", "got the end; expected 'to', as in 'force-gate SITE to VALUE"),
        ("force-gate v/0/gate to 1.5", "a gate of 1.5"),
        ("force-gate v/0/gate to 1 branch both", "got 'both'; expected global or local"),
        ("patch v/0/output from demo:3", "expected mean, zero or own: no clip 'demo:3' is given here"),
        ('patch v/0/output from "a', "got '\"a'; expected the value of from"),
        ("drop v/input at 0..1;", "edit '', character 1: got the end"),
    ],
)  # fmt: skip
def test_errors_name_the_place_and_the_words(text, message):
    with pytest.raises(EditError, match=message):
        edits_from_texts([text])


def test_a_text_of_several_edits_is_read_alike_in_every_list():
    text = "drop visual/input at 0..1; scale */0/*/contexts by 0"
    expected = [DropFrames("visual/input", (0, 1)), ScaleHead("*/0/*/contexts", 0)]
    assert checked_edits([text]) == list(edits_from_texts([text])) == expected
    assert checked_edits([expected[0], text.split("; ")[1]]) == expected
    with pytest.raises(EditError, match=r"got 2 edits with ';' between them; expected one, or a list of edits"):
        parse_edit(text)
    with pytest.raises(EditError, match="edit '', character 1: got the end"):
        checked_edits(["drop visual/input at 0..1;"])


def test_the_help_says_the_grammar():
    assert FORMS.replace("\\[", "[").split("; ") == list(GRAMMAR)
    assert all(parse_example(each) for each in GRAMMAR)


def parse_example(form: str):
    """Each form with its blanks filled."""
    verb = form.split()[0]
    site = {"knock-out": "v/0/local/weights", "patch": "v/0/local/values", "force-gate": "v/0/gate",
            "neighbourhood": "v/0/local/neighbourhood", "scale": "v/0/local/contexts"}.get(verb, "v/input")  # fmt: skip
    text = form.replace("SITE", site).replace("[", "").replace("]", "").replace("A..B", "1..2").replace("S", "3")
    text = text.replace("mean|zero|own|CLIP", "own").replace("VALUE", "0.5").replace("FACTOR", "2")
    return parse_edit(text.replace("global|local|TP5", "TP5").replace("TP30", "TP30"))
