"""Every benchmark runs, in tiny sizes, and yields its figures. No time is asserted."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(180)  # the first test waits for all benchmarks
NAMES = (
    "send",
    "ask",
    "sqlite",
    "streams",
    "memory",
    "imports",
    "appends",
    "bytes",
    "history",
    "rehydrate",
    "lists",
    "providers",
    "sse",
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("benchmarks") / "report.json"
    command = [sys.executable, "benchmarks/run.py", "--scale", "tiny", "--json", str(file)]
    # The benchmarks are scripts: they find each other beside themselves.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(
        command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for name in NAMES:
        assert f"\n{name}, asyncio: " in done.stdout
        assert f"\n{name}, trio: " in done.stdout
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def figures(report: dict[str, Any], name: str, backend: str) -> dict[str, dict[str, Any]]:
    return {figure["name"].strip(): figure for figure in report["benchmarks"][name][backend]}


def test_the_report_says_on_what_it_was_measured(report: dict[str, Any]) -> None:
    assert set(report["machine"]) == {"cpus", "load", "python", "sqlite", "system"}
    assert report["scale"] == "tiny"
    assert tuple(report["benchmarks"]) == NAMES


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
class TestFigures:
    def test_sends_and_asks_stand_beside_a_bare_round_trip(
        self, report: dict[str, Any], backend: str
    ) -> None:
        for name in ("send", "ask"):
            measured = figures(report, name, backend)
            costs = [figure for figure in measured.values() if figure["unit"] == "us CPU"]
            assert len(costs) == 3
            for figure in costs:
                assert figure["value"] > 0
                assert figure["floor"] > 0

    def test_the_bare_loop_stores_the_same_turns_in_two_commits_each(
        self, report: dict[str, Any], backend: str
    ) -> None:
        measured = figures(report, "sqlite", backend)
        assert measured["3 sessions x 2 turns"]["target"] == "ratio >= 0.25"
        assert measured["commits"]["floor"] == 4
        assert measured["commits"]["value"] >= 4

    def test_idle_sessions_hold_no_task_and_no_descriptor(
        self, report: dict[str, Any], backend: str
    ) -> None:
        measured = figures(report, "memory", backend)
        assert measured["tasks per session"]["value"] == 0
        assert measured["descriptors per session"]["value"] == 0
        assert measured["live, 10 sessions, traced"]["value"] > 0

    def test_a_session_on_memory_loads_neither_driver_nor_http_client(
        self, report: dict[str, Any], backend: str
    ) -> None:
        measured = figures(report, "imports", backend)
        assert measured["aiosqlite, httpx among them"]["value"] == 0

    def test_appends_stand_beside_the_bare_loop_in_groups_of_the_same_size(
        self, report: dict[str, Any], backend: str
    ) -> None:
        figures = report["benchmarks"]["appends"][backend]
        assert [figure["name"] for figure in figures[::8]] == [
            "1 writer",
            "5 writers",
        ]
        for figure in figures:
            assert figure["value"] > 0
            assert "bare sync" in figure["name"] or figure["floor"] > 0
        [alone, together] = [figure for figure in figures if figure["unit"] == "writes"]
        assert (alone["value"], alone["floor"]) == (1, 1)
        assert together["value"] > 1

    def test_every_piece_of_every_stream_reaches_its_follower(
        self, report: dict[str, Any], backend: str
    ) -> None:
        """The benchmark counts the characters; here it has figures for them."""
        measured = report["benchmarks"]["streams"][backend]
        assert len(measured) == 5
        assert all(figure["value"] > 0 for figure in measured)

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux counts bytes")
    def test_a_late_turn_writes_as_many_bytes_as_an_early_one(
        self, report: dict[str, Any], backend: str
    ) -> None:
        late = figures(report, "bytes", backend)["turn of message 40; floor: 10"]
        assert late["met"]

    def test_reads_of_the_last_messages_stand_beside_a_bare_select(
        self, report: dict[str, Any], backend: str
    ) -> None:
        reads = report["benchmarks"]["history"][backend]
        assert len(reads) == 8
        for figure in reads:
            assert figure["unit"] == "ms"
            assert figure["value"] > 0
            assert figure["floor"] > 0

    def test_the_turn_of_an_evicted_session_stands_beside_that_of_a_live_one(
        self, report: dict[str, Any], backend: str
    ) -> None:
        measured = figures(report, "rehydrate", backend)
        assert measured["turn of an evicted session; floor: live, p50"]["floor"] > 0
        assert measured["get_session, cold manager, p50"]["floor"] > 0

    def test_turns_and_events_of_providers_stand_beside_bare_clients(
        self, report: dict[str, Any], backend: str
    ) -> None:
        """Each contender counts what it reads of every answer, so these are whole answers."""
        for name, count, unit in (("providers", 24, "turns/s"), ("sse", 22, "us CPU")):
            measured = report["benchmarks"][name][backend]
            assert len(measured) == count
            assert {figure["unit"] for figure in measured} == {"us CPU", unit}
            for figure in measured:
                assert figure["value"] > 0
                assert figure["floor"] > 0
        targets = [figure.get("target") for figure in report["benchmarks"]["providers"][backend]]
        assert targets.count("value <= 2,000") == 1
        assert targets.count("ratio <= 1.5") == 2
