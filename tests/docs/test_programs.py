"""Every Python block of the documentation runs and prints what its page says."""

import ast
import functools
import inspect
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from langswarm.core.session import StorageFactory, providers

from ..vendors import vendor_server
from .blocks import ROOT, Program, blocks_of, documents, not_run, programs

PROGRAMS = [
    pytest.param(program, backend, id=f"{program.file}:{program.line}-{backend}")
    for program in programs()
    for backend in program.backends
]

EXCERPT = "not run: an excerpt of "

# Blocks that are not run, per file and reason.
NOT_RUN = {
    ("CONTRIBUTING.md", "wrong code"): 9,
    ("CONTRIBUTING.md", "an excerpt of actors/turn_writes.py"): 1,
    ("CONTRIBUTING.md", "an excerpt of actors/session_actor.py"): 2,
    ("CONTRIBUTING.md", "an excerpt of actors/storage_actor.py"): 2,
    ("CONTRIBUTING.md", "an excerpt of actors/supervisor.py"): 2,
    ("CONTRIBUTING.md", "an excerpt of runtime/events.py"): 1,
}


def execute(program: Program, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a script, or, where it awaits outside of functions, as in an asynchronous REPL."""
    code = compile(
        program.source,
        program.file,
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        dont_inherit=True,
    )
    names: dict[str, object] = {"__name__": "__main__"}
    if code.co_flags & inspect.CO_COROUTINE:

        async def main() -> None:
            await eval(code, names)  # noqa: S307 - our own documentation

        anyio.run(main, backend=backend)
    else:
        monkeypatch.setattr(anyio, "run", functools.partial(anyio.run, backend=backend))
        exec(code, names)  # noqa: S102 - our own documentation


@pytest.fixture(autouse=True)
def _vendors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Programs that ask a vendor reach a local server; its keys are in the environment."""
    parameters = getattr(getattr(request.node, "callspec", None), "params", {})
    program = parameters.get("program")
    if program is None or not any(
        name in program.source.lower() for name in ("openai", "anthropic")
    ):
        yield
        return
    with vendor_server(record=False) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.anthropic_url)
        monkeypatch.setenv("OPENAI_API_KEY", "a-key")
        monkeypatch.setenv("ANTHROPIC_API_KEY", "a-key")
        yield


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Programs configure it, as programs do."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {
        name: logger.level
        for name, logger in root.manager.loggerDict.items()
        if isinstance(logger, logging.Logger)
    }
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, logger in root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger):
            logger.setLevel(levels.get(name, logging.NOTSET))


@pytest.mark.parametrize(("program", "backend"), PROGRAMS)
def test_program_prints_what_its_page_says(
    program: Program,
    backend: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    backends = dict(StorageFactory._backends)  # a program may register one of its own
    monkeypatch.setattr(StorageFactory, "_backends", backends)
    monkeypatch.setattr(providers, "_registered", dict(providers._registered))
    execute(program, backend, monkeypatch)
    if program.outputs:
        assert capsys.readouterr().out.splitlines() == "\n".join(program.outputs).splitlines()


def test_only_these_blocks_are_not_run() -> None:
    assert Counter(not_run()) == NOT_RUN


def test_excerpts_are_in_the_code() -> None:
    for path in documents():
        for block in blocks_of(path):
            if not block.comment.startswith(EXCERPT):
                continue
            source = iter((ROOT / block.comment.removeprefix(EXCERPT)).read_text().splitlines())
            for line in block.source.splitlines():
                if line.strip() != "...":
                    assert line in source, f"{block.file}:{block.line} quotes what is no more"


def test_every_block_names_its_language_and_every_comment_is_understood() -> None:
    for path in documents():
        for block in blocks_of(path):
            place = f"{block.file}:{block.line}"
            assert block.language in {"python", "sh", "text", "mermaid", "sql"}, place
            known = {"python": {"", "continues"}, "text": {"", "output"}}
            if not block.comment.startswith("not run: "):
                assert block.comment in known.get(block.language, {block.comment}), place


def test_readme_shows_a_program_of_15_lines_with_its_output() -> None:
    first = programs()[0]
    assert first.file == "README.md"
    assert len(first.blocks[0].source.splitlines()) <= 15
    assert first.outputs
