import importlib.util
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from langswarm.core.session.cli import main

Output = pytest.CaptureFixture[str]


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_lists_the_commands(arguments: list[str], capsys: Output) -> None:
    assert main(arguments) == 0
    output = capsys.readouterr().out
    assert "demo" in output
    assert "chat" in output
    assert "_part" not in output


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (
            "demo",
            ["--input", "--users", "--max-live", "--idle-ms", "--backend", "--db", "--keep"],
        ),
        ("chat", ["--db", "--session", "--user", "--backend"]),
        (
            "sessions",
            [
                "--db",
                "--user",
                "--status",
                "--tag",
                "--text",
                "--provider",
                "--model",
                "--limit",
                "--cursor",
                "--json",
            ],
        ),
        ("show", ["--db", "--messages", "--json"]),
        ("export", ["--db", "--format", "--output", "--json"]),
        (
            "import",
            [
                "KIND",
                "FILE",
                "--into",
                "--source-timezone",
                "--user",
                "--provider",
                "--model",
                "--report",
                "--json",
            ],
        ),
        ("backup", ["TARGET", "--db", "--json"]),
        ("verify", ["--db", "--json"]),
        (
            "gc",
            [
                "--db",
                "--archive-after-days",
                "--delete-after-days",
                "--erase-after-days",
                "--dry-run",
                "--json",
            ],
        ),
    ],
)
def test_help_explains_every_option(command: str, options: list[str], capsys: Output) -> None:
    assert main([command, "--help"]) == 0
    output = capsys.readouterr().out
    for option in options:
        assert option in output
    assert "Exit codes" in output


def test_arguments_default_to_those_of_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setattr(sys, "argv", ["langswarm-session", "--version"])
    assert main() == 0
    assert capsys.readouterr().out[0].isdigit()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["dmo"], 'Unknown command "dmo"'),
        (["demo", "--usrs", "3"], 'Unknown option: "--usrs"'),
        (["demo", "--users", "0"], 'Invalid value "0" for'),
        (["demo", "--users", "many"], '"many"'),
        (["demo", "--idle-ms", "-1"], 'Invalid value "-1'),
        (["chat", "--backend", "curio"], 'Invalid value "curio" for'),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], says: str, capsys: Output) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("langswarm-session: ")
    assert says.replace('"', "") in error.replace('"', "")
    assert error.count("\n") == 1


def test_missing_backend_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    found = importlib.util.find_spec

    def find_spec(name: str) -> object:
        return None if name == "trio" else found(name)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    for command in ("demo", "chat"):
        assert main([command, "--backend", "trio"]) == 2
        error = capsys.readouterr().err
        assert "needs trio: pip install 'langswarm-session[trio]'" in error


@pytest.mark.parametrize("missing", ["cyclopts", "rich"])
def test_missing_extra_is_named(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    for name in list(sys.modules):
        own = name.startswith("langswarm.core.session.cli.")
        if own or name.partition(".")[0] == missing:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    assert main([]) == 2
    assert capsys.readouterr().err == (
        f"langswarm-session: the command line needs {missing}: "
        "pip install 'langswarm-session[cli]'\n"
    )


def test_other_missing_modules_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "langswarm.core.session.cli.app", raising=False)
    monkeypatch.setitem(sys.modules, "langswarm.core.session.cli.demo", None)
    monkeypatch.delattr("langswarm.core.session.cli.demo", raising=False)
    with pytest.raises(ModuleNotFoundError):
        main([])


@pytest.mark.parametrize("command", ["sessions", "gc"])
def test_a_path_that_cannot_be_looked_at_is_one_line(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--db", "x" * 300]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("arguments", [["--help"], ["sessions", "--db", "made.db"]], ids=str)
def test_output_that_cannot_be_written_is_one_line(arguments: list[str], tmp_path: Path) -> None:
    """And not another error at the end of the process."""
    sqlite3.connect(tmp_path / "made.db").close()
    with Path("/dev/full").open("w") as full:
        done = in_shell(arguments, tmp_path, stdout=full)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr


def test_closed_streams_are_no_error(tmp_path: Path) -> None:
    """As with `>&-` in a shell."""
    closing = (
        "import os, sys; os.close(1); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    command = [
        sys.executable,
        "-c",
        closing,
        "-m",
        "langswarm.core.session.cli",
        "sessions",
        "--help",
    ]
    done = subprocess.run(
        command, check=False, cwd=tmp_path, stderr=subprocess.PIPE, text=True, timeout=50
    )
    assert (done.returncode, done.stderr) == (0, "")


def in_shell(
    arguments: list[str], folder: Path, stdout: IO[str]
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "langswarm.core.session.cli", *arguments]
    return subprocess.run(
        command,
        check=False,
        cwd=folder,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=50,
    )
