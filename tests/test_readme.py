"""The README's Python runs as it stands, one block after the other."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def test_python_of_the_readme_runs(monkeypatch, tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 2
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, block in enumerate(blocks, 1):
        try:
            exec(compile(block, f"README block {number}", "exec"), names)
        except Exception as error:
            pytest.fail(f"README block {number}: {type(error).__name__}: {error}\n{block}")
