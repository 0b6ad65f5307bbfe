"""Blocks of code in the documentation, and the folder that a page's blocks are run in."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w+-]*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A block of code.

    Attributes
    ----------
    page
        File, relative to the root.
    line
        Of its first line, from 1.
    number
        Among those of its page, from 1: what reasons name it by, since lines move.
    language
        As the fence says it.
    text
        Without the indentation of its fence.
    """

    page: str
    line: int
    number: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """How it is called in tests."""
        return f"{self.page}:{self.number}"


def pages() -> list[Path]:
    """Return every page that may hold blocks."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks() -> list[Block]:
    """Return every block, page by page, in order."""
    return [
        block
        for page in pages()
        for block in blocks_of(page.read_text(encoding="utf-8"), page=page.relative_to(ROOT).as_posix())
    ]


def blocks_of(text: str, *, page: str) -> Iterator[Block]:
    """Give the fenced blocks of a page's text."""
    for number, found in enumerate(_FENCE.finditer(text), start=1):
        indent = len(found["indent"])
        lines = [line[indent:] for line in found["text"].splitlines(keepends=True)]
        yield Block(
            page=page, number=number, line=text[: found.start()].count("\n") + 2, language=found["language"],
            text="".join(lines),
        )  # fmt: skip
