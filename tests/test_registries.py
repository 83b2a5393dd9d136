"""Registries are as they were after a test that had less of one."""

import re
from pathlib import Path

from registries import only


def test_a_registry_has_its_order_again():
    registry = {"a": 1, "b": 2, "c": 3}
    with only(registry, ("c", "a")):
        assert list(registry) == ["a", "c"]
    assert list(registry.items()) == [("a", 1), ("b", 2), ("c", 3)]


def test_no_test_takes_entries_out_of_a_registry_by_another_way():
    for path in Path(__file__).parent.rglob("test_*.py"):
        assert not re.search(r"\.delitem\((?!sys\.modules|os\.environ)[^\"']", path.read_text(encoding="utf-8")), path
