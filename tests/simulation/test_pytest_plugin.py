"""The fixture `simulation`: many schedules; a failing one comes with the line that repeats it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest
from langswarm.core.session.testing.pytest_plugin import Simulation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PLUGIN = "langswarm.core.session.testing.pytest_plugin"

LOST_UPDATE = """
import anyio, anyio.lowlevel

async def race():
    count = 0

    async def add():
        nonlocal count
        seen = count
        if seen:
            await anyio.lowlevel.checkpoint()
        count = seen + 1
        await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(add)
    return count

def check(count):
    return [] if count == 3 else [f"an update was lost: {count}"]

def test_race(simulation):
    simulation(race, check)

def test_calm(simulation):
    assert simulation(anyio.lowlevel.checkpoint) <= 4
"""


def run_pytest(folder: Path, *arguments: str) -> str:
    """Its output, in a folder of its own and without this project's settings."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", PLUGIN, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    return done.stdout + done.stderr


def test_a_failing_schedule_is_repeated_by_the_line_that_is_printed(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(LOST_UPDATE)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    output = run_pytest(tmp_path)
    assert "1 failed, 1 passed" in output
    line = re.search(r"replay: pytest (\S+) (--simulation-replay=\w+:\w+)", output)
    assert line is not None, output
    again = run_pytest(tmp_path, *line.groups())
    assert "1 failed" in again
    assert "an update was lost" in again
    assert line[0] in again


async def two_tasks() -> Sequence[int]:
    order: list[int] = []

    async def step(number: int) -> None:
        await anyio.lowlevel.checkpoint()
        order.append(number)

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(step, number)
    return order


def test_it_takes_many_schedules_on_both_backends() -> None:
    assert Simulation("test", 0, None)(two_tasks) == 2
    assert Simulation("test", 10, None)(two_tasks) > 10
    assert Simulation("test", 10, None)(two_tasks, seeds=1) <= 4
    assert Simulation("test", 10, ("trio", 7))(two_tasks) == 1


def test_what_a_check_says_fails_the_test() -> None:
    def complain(order: Sequence[int]) -> list[str]:
        return [] if list(order) == [0, 1, 2, 3] else [f"order {order}"]

    with pytest.raises(AssertionError, match="order") as caught:
        Simulation("tests/mine.py::test_it", 20, None)(two_tasks, complain)
    note = caught.value.__notes__[-1]
    assert re.fullmatch(r"replay: pytest tests/mine\.py::test_it --simulation-replay=\w+:\d+", note)


def test_the_line_can_be_pasted_into_a_shell() -> None:
    name = "tests/mine.py::test_it[it's $HOME]"
    with pytest.raises(AssertionError) as caught:
        Simulation(name, 20, None)(two_tasks, lambda _: ["wrong"])
    words = shlex.split(caught.value.__notes__[-1])
    assert words[:3] == ["replay:", "pytest", name]


@pytest.mark.parametrize("run", ["foo:1", "trio", "trio:", "trio:x", ":1"])
def test_a_schedule_that_there_is_not_is_named(run: str, tmp_path: Path) -> None:
    output = run_pytest(tmp_path, f"--simulation-replay={run}")
    assert f"argument --simulation-replay: {run!r} is no schedule" in output
    assert "Traceback" not in output
