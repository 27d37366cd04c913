"""What the pages hold: fenced blocks of code, and the example that a block is a copy of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs/examples"
PAGES = sorted(
    page for pattern in ("*.md", "docs/**/*.md", "core/*.md", "backends/*/*.md") for page in ROOT.glob(pattern)
)
BLOCK = re.compile(
    r"(?:<!-- example: (?P<example>\S+) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)


class Block(NamedTuple):
    """One fenced block."""

    language: str
    code: str
    example: str | None
    line: int


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        yield Block(found["language"], found["code"], found["example"], text.count("\n", 0, found.start("code")))


def expected(program: Path) -> str | None:
    """Return what a program says, in its last lines, that it prints."""
    _, marker, output = program.read_text(encoding="utf-8").partition("\n# Output:\n")
    return "".join(f"{line.removeprefix('# ')}\n" for line in output.splitlines()) if marker else None
