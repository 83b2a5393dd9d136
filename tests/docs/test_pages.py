"""The README and the pages of the documentation: their code runs as it stands, and their commands exist."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import typer
from matplotlib.figure import Figure
from typer.testing import CliRunner

import gmsa
from benchmarks.guides import GIVEN as MADE_FIRST
from benchmarks.guides import (
    LEFT_OUT,
    NO_DATA,
    REPLACED,
    SHORTER,
    Session,
    Step,
    report,
    rows_of,
    rows_of_any_wheel,
    run_page,
    steps_of,
)
from tests import page_code
from tests.page_code import PAGES, ROOT

# What a page's first lines take as given.
GIVEN = {
    "what_if": "from gmsa_models import load, read_clips\nfrom analysis import inspect_clip\n"
    "model, clip = load('gate-op-tp30'), next(read_clips('demo:3')).cut(64)\nrecord = inspect_clip(model, clip)",
    "scale": "import shlex, gmsa\nfrom typer.testing import CliRunner\nCliRunner().invoke(gmsa.app, shlex.split("
    "'sweep --model gate-op-tp30 --data demo:0-3 --out runs/sweep --analyses scores,sensitivity'))",
}
RUN_HERE = ("README", "start", "inspect_a_video", "explain", "what_if", "paper_figures", "train", "scale")
# With files of their own; of the first, the block that is marked so.
RUN_ELSEWHERE = {
    "explanation_benchmark": "tests/analysis/study/test_explainers.py",
    "any_model": "tests/analysis/capture/test_inspect_module.py",
    "your_own_arrays": "tests/gmsa/test_own_arrays.py",
    "your_own_video": "tests/gmsa/test_own_video.py",
    "your_own_weights": "tests/gmsa/test_import_command.py",
}


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of each block of code that says its language."""
    return [(block.language, block.text) for block in page_code.blocks(page) if block.language]


def run_line(line: str) -> None:
    done = CliRunner().invoke(gmsa.app, shlex.split(line, comments=True)[1:])
    assert done.exit_code == 0, f"{line}: {done.output}"


@pytest.mark.parametrize("name", RUN_HERE)
def test_code_of_a_page_runs(name, monkeypatch, tmp_path):
    (page,) = [path for path in PAGES if path.stem == name]
    monkeypatch.chdir(tmp_path)
    # An empty page in place of each overview: to lay one out takes longer than all else.
    monkeypatch.setattr("figures.inspection.draw", lambda *given, **more: Figure(figsize=(1, 1)))
    names: dict[str, object] = {}
    exec(GIVEN.get(name, ""), names)
    assert blocks(page)
    for number, (language, code) in enumerate(blocks(page), 1):
        if language == "bash":
            for line in code.splitlines():
                run_line(line)
            continue
        try:
            exec(compile(code, f"{name}, block {number}", "exec"), names)
        except Exception as error:
            pytest.fail(f"{name}, block {number}: {type(error).__name__}: {error}\n{code}")


def test_code_of_every_page_is_run_by_some_test():
    with_code = {page.stem for page in PAGES if blocks(page)}
    assert with_code == {*RUN_HERE, *RUN_ELSEWHERE}
    for name, test in RUN_ELSEWHERE.items():
        assert (ROOT / test).is_file(), name


def commands(page: Path) -> list[list[str]]:
    """Words of every `gmsa ...` in a page's code."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    code = re.findall(r"```(?:bash|sh|console|text)?\n(.*?)```", text, re.DOTALL) + re.findall(r"`([^`\n]+)`", text)
    lines = [line.split(" #")[0] for block in code for line in block.splitlines()]
    found = [re.search(r"(?:^|\s|/)gmsa ([a-z]\S*.*)", line) for line in lines]
    return [match.group(1).split() for match in found if match]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_and_options_of_a_page_exist(page):
    known = typer.main.get_command(gmsa.app).commands
    for first, *rest in commands(page):
        for name in first.split("|"):
            assert name in known, f"gmsa {name}"
            parameters = known[name].params
            options = {option for each in parameters for option in (*each.opts, *each.secondary_opts)}
            for word in rest[: rest.index("--")] if "--" in rest else rest:
                option = word.split("=")[0].strip("[]`.,;")
                assert not option.startswith("--") or option in options | {"--help", "--debug"}, f"gmsa {name} {option}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_targets_of_make_that_pages_name_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"docs", "figures", "test"} <= targets
    for page in PAGES:
        named = re.findall(r"`make ([a-z-]+)|^make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert {first or second for first, second in named} <= targets, page


def test_every_command_of_the_pages_is_run_by_a_wheel_or_left_out_with_a_reason():
    """By `make guides`; here only what it would run."""
    steps = [step for page in PAGES for step in steps_of(page)]
    assert all(step.run or step.note for step in steps)
    shown = [" ".join(step.shown.split()) for step in steps if not step.python]
    for page in PAGES:
        code = [
            block.text for block in page_code.fenced(page.read_text(encoding="utf-8")) if block.language != "python"
        ]
        lines = [line for block in code for line in block.replace("\\\n", " ").splitlines()]
        written = [" ".join(line.split(" #")[0].split()) for line in lines if line.startswith("gmsa ")]
        assert not set(written) - set(shown), page
    assert {"gmsa models", "gmsa study", "make figures"} <= set(shown)
    for start in (*SHORTER, *LEFT_OUT):
        assert any(each.startswith(start) for each in shown), f"{start}: no page says it any more"
    for words in REPLACED:
        assert any(words in each for each in shown), f"{words}: no page says it any more"
    assert set(MADE_FIRST) <= {page.stem for page in PAGES}


def test_the_end_of_a_block_of_any_language_begins_no_other():
    """A block of TOML or {code-cell} has an end that is like the beginning of a block without a language."""
    text = "```toml\na = 1\n```\nwords\n\n```python\nb\n```\n\n```{code-cell}\nc\n```\n\n```\ngmsa d\n```\n"
    assert [(block.language, block.text) for block in page_code.fenced(text)] == [
        ("toml", "a = 1\n"), ("python", "b\n"), ("{code-cell}", "c\n"), ("", "gmsa d\n"),
    ]  # fmt: skip
    (page,) = (page for page in PAGES if page.stem == "your_own_weights")
    assert [block.language for block in page_code.blocks(page)] == ["", "python", "bash", "python"]


def test_a_page_that_passed_is_not_run_again_until_something_changes(tmp_path, monkeypatch):
    page, binaries = tmp_path / "page.md", Path(sys.executable).parent
    page.write_text("```\npython -c pass\n```\n")
    rows, failed = rows_of(page, tmp_path, binaries, None, "one")
    assert (len(rows), failed) == (1, 0)
    assert "| `python -c pass` |" in rows[0]
    monkeypatch.setattr("benchmarks.guides.run_page", lambda *given: iter([(Step("page", "x", "x"), 1.0, "wrong")]))
    assert rows_of(page, tmp_path, binaries, None, "one") == (rows, 0)
    for _ in range(2):  # what failed is not kept
        assert rows_of(page, tmp_path, binaries, None, "two") == (["| page | `x` | **failed** |  |"], 1)
    page.write_text("changed")
    assert rows_of(page, tmp_path, binaries, None, "one")[1] == 1


def test_a_page_is_reused_whatever_the_wheel_while_it_says_the_same(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```\npython -c pass\n```\n")
    assert rows_of_any_wheel(page, tmp_path) == []
    rows, _ = rows_of(page, tmp_path, Path(sys.executable).parent, None, "one")
    assert rows_of_any_wheel(page, tmp_path) == rows
    text = report(rows, 0, ["page"])
    assert "1 commands and blocks of Python, 0 failed, 0 left out. By an earlier wheel than the others: page." in text
    page.write_text("```\npython -c 'pass'\n```\n")
    assert rows_of_any_wheel(page, tmp_path) == []


def test_what_needs_real_data_is_left_out_where_there_are_none(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```\ngmsa study --vectors yt8m_video_level.npz\n```\n")
    ((step, _, problem),) = run_page(page, tmp_path / "page", Path(sys.executable).parent, None)
    assert (step.run, step.note, problem) == ("", NO_DATA, "")


def test_what_fails_on_a_page_is_reported(tmp_path):
    session = Session(tmp_path / "page", Path(sys.executable).parent)
    assert session.execute("kept = 3\nprint('words')") == ""
    assert session.execute("assert kept == 3") == ""
    assert "NameError" in session.execute("absent")
    assert session.command("python -c pass") == ""
    assert "exit code 1" in session.command("python -c 'raise OSError(3)'")
    session.close()
