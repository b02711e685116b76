"""What the documentation says about the code is what the code says."""

import ast
import re
import runpy
from pathlib import Path
from typing import Any, get_args

import pytest
from langswarm.core.session import errors

from .blocks import ROOT, documents

ERRORS = (ROOT / "docs/reference/errors.md").read_text(encoding="utf-8")
CLASSES: list[type[Exception]] = [
    value
    for name in errors.__all__
    if isinstance(value := getattr(errors, name), type) and issubclass(value, Exception)
]
NAMED_TEST = re.compile(r"`((?:tests|property_tests)/[\w/]+\.py)(?:::([\w:]+))?`")
BUILTINS = "LookupError", "ValueError", "RuntimeError", "TimeoutError", "OSError"
MAKE_DIAGRAMS: dict[str, Any] = runpy.run_path(str(ROOT / "docs/make_diagrams.py"))

COMMANDS = (
    "python3 -m venv .venv && .venv/bin/pip install rust-just && .venv/bin/just demo",
    "python3 -m venv .venv && .venv/bin/pip install rust-just && .venv/bin/just test",
)


def words_of(path: str) -> str:
    """The file's text with each run of blanks as one."""
    return re.sub(r"[\s\\#]+", " ", (ROOT / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
class TestEveryPage:
    def test_has_its_made_parts_as_the_code_is_now(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        made: str = MAKE_DIAGRAMS["made_anew"](text)
        assert text == made, "run: python docs/make_diagrams.py"

    def test_links_to_files_and_headings_that_exist(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if "://" in link:
                continue
            name, _, anchor = link.partition("#")
            target = path if not name else path.parent / name
            assert target.exists(), f"{path.name} links to {link}"
            if anchor:
                assert anchor in anchors_of(target), f"{path.name} links to {link}"

    def test_names_tests_that_exist(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        for file, name in NAMED_TEST.findall(text):
            assert (ROOT / file).exists(), file
            assert not name or name in names_in(ROOT / file), f"{file}::{name}"


def anchors_of(path: Path) -> set[str]:
    text = path.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in headings}
    return slugs | set(re.findall(r'<a id="([\w-]+)">', text))


def names_in(path: Path) -> set[str]:
    """`test_x`, `TestX` and `TestX::test_y` of a file."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            names.add(node.name)
            names |= {
                f"{node.name}::{inner.name}"
                for inner in node.body
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
            }
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):  # Hypothesis: TestX = Machine.TestCase
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


class TestErrors:
    @pytest.mark.parametrize("error", CLASSES)
    def test_every_class_is_there_with_its_builtin(self, error: type[Exception]) -> None:
        builtins = [base.__name__ for base in error.__mro__ if base.__name__ in BUILTINS]
        shown = f"`{error.__name__}`" + (f" ({builtins[0]})" if builtins else "")
        assert f"| {shown} |" in ERRORS

    def test_only_these_classes_are_there(self) -> None:
        rows = set(re.findall(r"^\| `([A-Z]\w+)`", ERRORS, re.MULTILINE))
        assert rows == {error.__name__ for error in CLASSES}

    def test_every_code_is_there(self) -> None:
        rows = set(re.findall(r"^\| `([a-z_]+)`", ERRORS, re.MULTILINE))
        assert rows == {*get_args(errors.ProviderCode), *get_args(errors.StorageCode)}


class TestCommands:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_readme_prints_both_commands_alone_and_exactly(self, command: str) -> None:
        assert f"\n```sh\n{command}\n```\n" in (ROOT / "README.md").read_text(encoding="utf-8")

    def test_justfile_prints_the_same_command(self) -> None:
        assert COMMANDS[0] in words_of("justfile")

    def test_continuous_integration_runs_the_test_command(self) -> None:
        assert COMMANDS[1] in words_of(".ci/run")

    def test_contributing_explains_every_recipe(self) -> None:
        justfile = (ROOT / "justfile").read_text(encoding="utf-8")
        public = re.findall(r"^# .+\n([a-z-]+)(?: \*args)?:[^=]", justfile, re.MULTILINE)
        text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
        assert len(public) >= 7
        for recipe in public:
            assert f"`just {recipe}`" in text
