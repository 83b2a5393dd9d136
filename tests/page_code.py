"""The code that the README and the pages of the documentation show: blocks, and the commands in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs").glob("concepts/*.md"))]
LINES = (
    "gmsa",
    "make",
    "pip",
    "pipx",
    "python",
    "python3.11",
    "git",
    "cd",
    "source",
)  # what a line that is a command begins with


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        language: "python", "bash", "{code-cell}" ..., or an empty text where the page says none.
        text: its lines.
    """

    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Each command of a block that is no Python, in one line and without what stands behind `#`."""
        if self.language == "python":
            return []
        lines = (re.sub(r"\s+#\s.*", "", line).strip() for line in re.sub(r"\\\n\s*", "", self.text).splitlines())
        return [line for line in lines if line.split(" ")[0] in LINES]


def blocks(page: Path) -> list[Block]:
    """Blocks of a page that hold Python, commands of a shell, or say no language."""
    return [block for block in fenced(page.read_text(encoding="utf-8")) if block.language in ("python", "bash", "")]


def fenced(text: str) -> list[Block]:
    """Every block of code of a page, of whatever language: the end of one is not the beginning of another."""
    parts = re.findall(r"^```([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(language.strip(), code) for language, code in parts]
