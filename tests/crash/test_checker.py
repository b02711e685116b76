"""The checker itself has teeth: whatever is wrong in a file is found."""

import sqlite3
from pathlib import Path

import anyio
import pytest

from .checker import Report, examine
from .order import Line, Order, read_journal
from .stack import Nursery

ANSWER = "(SELECT max(id) FROM messages WHERE id >> 32 = 1 AND role = 'assistant')"
OTHER = "(SELECT min(id) FROM messages WHERE id >> 32 = 1 AND role = 'assistant')"

DAMAGE = {
    "an answer is gone": f"DELETE FROM messages WHERE id = {ANSWER}",
    "a pair is gone": f"DELETE FROM messages WHERE id IN ({OTHER}, {OTHER} - 1)",
    "a session is gone": "DELETE FROM sessions WHERE key = 1",
    "a text is another": f"UPDATE messages SET content = 'x' WHERE id = {ANSWER}",
    "an answer belongs elsewhere": f"UPDATE messages SET turn_no = 1 WHERE id = {ANSWER}",
    "a message is there twice": (
        "INSERT INTO messages (id, role, content, created_us, turn_no, token_count, hidden_by)"
        f" SELECT {ANSWER} + 1, 'user', content, 1, 9, 0, 0 FROM messages WHERE id = {ANSWER} - 1"
    ),
    "a counter is wrong": "UPDATE sessions SET user_messages = user_messages + 1",
    "a counter is too low": "UPDATE sessions SET assistant_messages = assistant_messages - 1",
    "messages are counted wrong": "UPDATE sessions SET visible_messages = visible_messages + 1",
    "a status is wrong": "UPDATE sessions SET status = 'archived'",
    "a context is another": """UPDATE session_documents SET context = '{"text": "x"}'""",
}


@pytest.fixture
def file(plain_nursery: Nursery, tmp_path: Path) -> tuple[Path, list[Line]]:
    path, journal = tmp_path / "sessions.db", tmp_path / "journal"
    order = Order(path=str(path), journal=str(journal), work="sent", calls=5)
    assert plain_nursery.run(order) == 0, plain_nursery.said()
    return path, read_journal(journal)


def examined(file: tuple[Path, list[Line]]) -> Report:
    """By the checker."""
    return anyio.run(examine, *file)


@pytest.mark.parametrize("damage", DAMAGE)
def test_g3_g4_g5_the_checker_finds(file: tuple[Path, list[Line]], damage: str) -> None:
    """Each kind of loss, of half a turn and of a wrong count (G3, G4, G5)."""
    connection = sqlite3.connect(file[0])
    with connection:
        assert connection.execute(DAMAGE[damage]).rowcount >= 1
    connection.close()
    assert examined(file).faults


def test_g3_the_checker_believes_a_good_file_again_and_again(
    file: tuple[Path, list[Line]],
) -> None:
    """What it adds itself, one turn per session, is no fault (G3)."""
    for _ in range(3):
        report = examined(file)
        assert (report.faults, report.unopened, report.acknowledged) == ([], [], 15)


def test_g4_the_checker_finds_an_answer_whose_caller_was_told_that_it_failed(
    file: tuple[Path, list[Line]],
) -> None:
    """A retry would double it (G4)."""
    path, lines = file
    done = next(line for line in lines if "done" in line and line["done"] == "send")
    lied = {"failed": "send", "session": done["session"], "text": done["text"]}
    told = [line for line in lines if line is not done] + [{**lied, "outcome": "failed"}]
    assert examined((path, told)).faults
