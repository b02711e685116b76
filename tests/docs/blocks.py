"""The code blocks of the documentation.

A comment before a block says what is special about it:

    <!-- not run: REASON -->    a Python block that is not a program, or shows wrong code
    <!-- continues -->          it goes on where the program before it in this file ended
    <!-- output -->             a text block: what that program prints
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^```(\w*)$")
_COMMENT = re.compile(r"^<!-- (.*) -->$")


def documents() -> list[Path]:
    """Every page whose blocks count."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@dataclass
class Block:
    file: str
    line: int
    language: str
    source: str
    comment: str


@dataclass
class Program:
    """One block, or several of one file that belong together."""

    file: str
    line: int
    blocks: list[Block] = field(default_factory=list[Block])
    outputs: list[str] = field(default_factory=list[str])

    @property
    def source(self) -> str:
        """The whole text, each block at the line where it stands in the file."""
        lines: list[str] = []
        for block in self.blocks:
            lines.extend([""] * (block.line - len(lines)))
            lines.extend(block.source.splitlines())
        return "\n".join(lines)

    @property
    def backends(self) -> list[str]:
        """Where it runs: everywhere, unless it is written for one event loop."""
        written_for = [
            name
            for name in ("asyncio", "trio")
            if re.search(rf"^\s*import {name}$", self.source, re.MULTILINE)
        ]
        return written_for or ["asyncio", "trio"]


def blocks_of(path: Path) -> list[Block]:
    """The fenced blocks of a file, in order."""
    found: list[Block] = []
    comment = ""
    open_block: Block | None = None
    lines: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if open_block is not None:
            if line == "```":
                open_block.source = "\n".join(lines)
                found.append(open_block)
                open_block = None
            else:
                lines.append(line)
        elif fence is not None:
            file = path.relative_to(ROOT).as_posix()
            open_block = Block(file, number, fence[1], "", comment)
            comment, lines = "", []
        elif line.strip():
            remark = _COMMENT.match(line)
            comment = remark[1] if remark else ""
    assert open_block is None, f"{path}: a code block is not closed"
    return found


def programs() -> list[Program]:
    """Every program of the documentation."""
    found: list[Program] = []
    for path in documents():
        program: Program | None = None
        for block in blocks_of(path):
            if block.language == "python" and not block.comment.startswith("not run"):
                if block.comment != "continues":
                    program = Program(block.file, block.line)
                    found.append(program)
                assert program is not None, f"{block.file}:{block.line} continues nothing"
                program.blocks.append(block)
            elif block.comment == "output":
                assert program is not None, f"{block.file}:{block.line}: output of what?"
                program.outputs.append(block.source)
    return found


def not_run() -> list[tuple[str, str]]:
    """(file, reason) of every Python block that is not run."""
    return [
        (block.file, block.comment.removeprefix("not run: "))
        for path in documents()
        for block in blocks_of(path)
        if block.language == "python" and block.comment.startswith("not run")
    ]
