import json
from pathlib import Path
from typing import Any

import pytest
from langswarm.core.session.cli.conversations import (
    find_input,
    read_conversations,
    users_of,
)
from langswarm.core.session.cli.exits import UsageError

SHIPPED = Path(__file__).parents[2] / "examples" / "conversations.jsonl"
TURN = {"user": "a", "assistant": "b"}
GOOD: dict[str, Any] = {"id": "good", "turns": [TURN]}


def test_shipped_conversations_are_read_as_they_are() -> None:
    found = read_conversations(SHIPPED)
    lines = [json.loads(line) for line in SHIPPED.read_text(encoding="utf-8").splitlines()]
    assert len(found) == len(lines) >= 40
    for conversation, line in zip(found, lines, strict=True):
        assert conversation.conversation_id == line["id"]
        assert conversation.system == line["system"]
        assert conversation.context == (line["context"] or {})
        assert [(turn.user, turn.assistant) for turn in conversation.turns] == [
            (turn["user"], turn["assistant"]) for turn in line["turns"]
        ]


def test_both_halves_of_the_context_are_the_context(input_file: Path) -> None:
    for conversation in read_conversations(input_file):
        first = conversation.context_of(second=False)
        second = conversation.context_of(second=True)
        assert not first.keys() & second.keys()
        assert {**first, **second} == conversation.context


def test_blank_lines_byte_order_mark_and_carriage_returns_are_no_errors(tmp_path: Path) -> None:
    path = tmp_path / "windows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf\r\n" + json.dumps(GOOD).encode() + b"\r\n  \n")
    assert [found.conversation_id for found in read_conversations(path)] == ["good"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"id": "x", "turns": [}', "23: not JSON: Expecting value"),
        ("[]", " the line must be a JSON object with id, language"),
        ({**GOOD, "sytem": "x"}, " the line has an unknown key 'sytem'; there are id, language"),
        ({"turns": [TURN]}, " id must be a str, not NoneType"),
        ({**GOOD, "id": "x" * 401}, " id has more than 400 bytes"),
        ({**GOOD, "id": "first"}, " a second conversation with id 'first'"),
        ({**GOOD, "title": 7}, " title must be a text"),
        ({**GOOD, "system": ""}, " system is empty"),
        ({**GOOD, "context": ["x"]}, " context must be a mapping, not list"),
        ({**GOOD, "context": {"x": float("nan")}}, " context is not JSON"),
        ({**GOOD, "turns": []}, " turns must be a list of one or more turns"),
        ({**GOOD, "turns": ["a"]}, " turns[0] must be a JSON object with user, assistant"),
        ({**GOOD, "turns": [TURN, {"user": "a"}]}, " turns[1].assistant must be a str"),
        ({**GOOD, "turns": [{**TURN, "tool": "b"}]}, " turns[0] has an unknown key 'tool'"),
        ({**GOOD, "turns": [{**TURN, "user": "\ud800"}]}, " turns[0].user has a lone surrogate"),
        (b'{"id": "\xff"}', " 'utf-8' codec can't decode byte 0xff"),
        ("[" * 100_000, " "),
    ],
)
def test_broken_line_is_named_with_its_number(
    tmp_path: Path, line: str | bytes | dict[str, Any], says: str
) -> None:
    path = tmp_path / "broken.jsonl"
    if isinstance(line, dict):
        line = json.dumps(line)
    if isinstance(line, str):
        line = line.encode()
    first = json.dumps({**GOOD, "id": "first"}).encode()
    path.write_bytes(first + b"\n\n" + line + b"\n" + b"never read")
    with pytest.raises(UsageError) as caught:
        read_conversations(path)
    assert str(caught.value).startswith(f"{path}:3:{says}")
    assert "\n" not in str(caught.value)


def test_file_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*none\.jsonl: No such file"):
        read_conversations(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(UsageError, match=r"empty\.jsonl has no conversations"):
        read_conversations(tmp_path / "empty.jsonl")


def test_default_input_is_the_one_of_the_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(SHIPPED.parents[1])
    assert find_input(None).resolve() == SHIPPED
    assert find_input(tmp_path) == tmp_path
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="--input FILE"):
        find_input(None)


def test_users_reuse_the_conversations_in_sessions_of_their_own(input_file: Path) -> None:
    conversations = read_conversations(input_file)
    users = users_of(conversations, 10)
    assert [user.conversation for user in users] == [conversations[i % 4] for i in range(10)]
    assert len({user.session_id for user in users}) == len({user.user_id for user in users}) == 10
