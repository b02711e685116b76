"""kill -9 at random moments, on one file over many rounds.

The page cache survives a kill, so this proves atomicity and recovery, not durability: that is
test_power_loss.py.
"""

import random
import time
from pathlib import Path

import anyio
import pytest

from .checker import examine
from .order import Order, read_journal
from .stack import IS_LONG, Nursery, tell

FILES = 4 if IS_LONG else 1
TURNS_PER_FILE = 1_500 if IS_LONG else 400
"""Acknowledged ones. Two backends: 12,000 turns in the long version."""
LEAST_ROUNDS, MOST_ROUNDS = 8, 100


def wait_a_moment(rng: random.Random, nursery: Nursery, order: Order) -> None:
    """Until somewhere between the start of the process and some hundred turns later."""
    journal = Path(order.journal)
    lines = rng.choice([0, 0, 1, 5, 20, 60, 200])
    size = journal.stat().st_size if journal.exists() else 0
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        grown = journal.stat().st_size - size if journal.exists() else 0
        if grown > lines * 200:
            break
        if not lines and rng.random() < 0.1:
            break
        time.sleep(0.002)
    time.sleep(rng.random() * 0.02)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(FILES))
def test_g3_g4_g5_a_kill_at_any_moment_loses_and_halves_nothing(
    plain_nursery: Nursery, tmp_path: Path, backend: str, number: int
) -> None:
    """Acknowledged turns are there whole and in order; open ones are closed; all goes on."""
    rng = random.Random(f"{backend}{number}")
    path, journal = tmp_path / "sessions.db", tmp_path / "journal"
    acknowledged = rounds = interrupted = 0
    while (acknowledged < TURNS_PER_FILE or rounds < LEAST_ROUNDS) and rounds < MOST_ROUNDS:
        order = Order(
            path=str(path),
            journal=str(journal),
            work="drawn",
            backend=backend,
            label=str(rounds),
            sessions=rng.choice([1, 8, 40]),
        )
        plain_nursery.start(order)
        wait_a_moment(rng, plain_nursery, order)
        plain_nursery.kill()
        assert plain_nursery.wait() == -9, plain_nursery.said()
        report = anyio.run(examine, path, read_journal(journal), backend=backend)
        assert report.faults == [], f"round {rounds}"
        acknowledged, rounds = report.acknowledged, rounds + 1
        interrupted = report.interrupted
    tell(
        f"{backend}: {rounds} kills, {acknowledged} turns acknowledged, 0 lost, 0 half, "
        f"{interrupted} closed as interrupted"
    )
    assert acknowledged >= TURNS_PER_FILE
    assert interrupted, "no kill was in the middle of a turn"
