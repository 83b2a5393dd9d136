"""Options whose value may be left out."""

import pytest

from gmsa.optional_values import listed, with_values


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["inspect", "demo:3", "--explain"], ["inspect", "demo:3", "--explain=all"]),
        (["inspect", "--explain", "demo:3"], ["inspect", "--explain=all", "demo:3"]),
        (["inspect", "--explain", "--html"], ["inspect", "--explain=all", "--html"]),
        (["inspect", "--explain", "rollout,deep-lift", "demo:3"], ["inspect", "--explain=rollout,deep-lift", "demo:3"]),
        (["inspect", "--explain=rollout", "demo:3"], ["inspect", "--explain=rollout", "demo:3"]),
        (["inspect", "--explain", "clips", "demo:3"], ["inspect", "--explain=all", "clips", "demo:3"]),
        (["inspect", "--explain", "/a/b.npz"], ["inspect", "--explain=all", "/a/b.npz"]),
        (["inspect", "--", "--explain", "rollout"], ["inspect", "--", "--explain", "rollout"]),
        (["inspect", "--model", "rollout"], ["inspect", "--model", "rollout"]),
    ],
)
def test_an_option_that_stands_alone_means_all(words, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()  # a file of such a name is no method
    assert with_values(words) == expected


def test_a_value_lists_names():
    assert listed(None) is None
    assert listed("all") is None
    assert listed("rollout, saliency,") == ("rollout", "saliency")
