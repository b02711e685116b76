"""A conversation as data: whole, of one revision, without the turn that runs, for each reader."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from langswarm.core.session import InMemorySessionStorage, create_session_manager
from langswarm.core.session.actors.decisions import RetryTurn
from langswarm.core.session.errors import (
    ConfigurationError,
    SessionNotFoundError,
    StorageError,
)
from langswarm.core.session.runtime import export

from .helpers import Echo, new_session, outcomes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langswarm.core.session import Session
    from langswarm.core.session.actors.model import MessageQuery, MessageRecord

    from .helpers import Store


async def a_history(session: Session, echo: Echo) -> None:
    """System text, a turn, a failed and retried one, something rewound, an addition."""
    await session.send_system_message("rules")
    await session.send_message("one", metadata={"k": [1, None]})
    echo.failing.add("two")
    await outcomes([session.submit("two")])
    echo.failing.clear()
    await session.retry()
    last = await session.send_message("rewound")
    await session.rewind(last.seq - 2)
    await session.add_message("user", "from elsewhere")


async def test_a_document_has_everything_that_is_stored(store: Store) -> None:
    """Facts, all messages with the hidden ones marked, the last turn, the figures; plain JSON."""
    echo = Echo()
    async with store.manager(echo) as manager:
        session = await new_session(
            manager,
            session_id="s",
            session_config={"name": "n", "tags": ["t"], "metadata": {"m": 1}},
            provider_config={"temperature": 0.5},
        )
        await session.update_context({"a": {"b": [1.5, None, True]}})
        await a_history(session, echo)
        document = await session.export_conversation()
        assert json.loads(json.dumps(document, allow_nan=False)) == document
        assert (document["format"], document["version"]) == ("langswarm-session/conversation", 1)
        facts = document["session"]
        assert {key: facts[key] for key in ("session_id", "user_id", "provider", "model")} == {
            "session_id": "s",
            "user_id": "user",
            "provider": "openai",
            "model": "gpt-4",
        }
        assert facts["config"] == {"name": "n", "tags": ["t"], "metadata": {"m": 1}}
        assert facts["provider_config"] == {"temperature": 0.5}
        assert (facts["context"], facts["context_version"]) == ({"a": {"b": [1.5, None, True]}}, 1)
        assert facts["created_at"] == session.created_at.isoformat()
        assert facts["updated_at"] == session.last_activity.isoformat()
        assert [
            (each["seq"], each["role"], each["content"], each["hidden_by"], each["finish_reason"])
            for each in document["messages"]
        ] == [
            (1, "system", "rules", None, None),
            (2, "user", "one", None, None),
            (3, "assistant", "answer to one", None, "stop"),
            (4, "user", "two", 3, "failed"),
            (5, "user", "two", None, None),
            (6, "assistant", "answer to two", None, "stop"),
            (7, "user", "rewound", "rewind", None),
            (8, "assistant", "answer to rewound", "rewind", "stop"),
            (9, "user", "from elsewhere", None, None),
        ]
        shown = [each for each in document["messages"] if not each["hidden"]]
        for each, message in zip(shown, await session.get_messages(), strict=True):
            assert each["message_id"] == message.message_id
            assert each["timestamp"] == message.timestamp.isoformat()
            assert each["metadata"] == message.metadata
            assert (each["turn"] and f"s/{each['turn']}") == message.turn_id
        [turn] = document["turns"]
        assert (turn["turn"], turn["state"], turn["question_seq"]) == (4, "completed", 7)
        metrics = await session.get_metrics()
        for name in ("user_messages", "completed_turns", "failed_turns", "p95_response_time_ms"):
            assert document["metrics"][name] == getattr(metrics, name)


async def test_json_lines_are_the_same_in_lines_of_their_own(memory: Store) -> None:
    """Whatever line breaks are in a text, a message is one line for every kind of reader."""
    async with memory.manager() as manager:
        session = await manager.create_session("ada", "mock", "m")
        await session.add_message("user", "a\nb\r\nc\u2028d\u2029e\x85f\x0bg\x1eh")
        await session.send_message("two")
        document = await session.export_conversation()
        text = await session.export_conversation("jsonl")
        header, *messages = [json.loads(line) for line in text.splitlines()]
        assert header.pop("message_count") == 3
        assert {**header, "messages": messages} == document


async def test_hidden_messages_can_be_left_out_or_shown(memory: Store) -> None:
    """Documents have them unless told otherwise, texts for people the other way round."""
    echo = Echo()
    async with memory.manager(echo) as manager:
        session = await new_session(manager)
        await a_history(session, echo)
        document = await session.export_conversation(include_hidden=False)
        assert [each["seq"] for each in document["messages"]] == [1, 2, 3, 5, 6, 9]
        assert "rewound" not in await session.export_conversation("markdown")
        text = await session.export_conversation("markdown", include_hidden=True)
        assert re.search(r"^## 7\. user \(.*, hidden\)$", text, re.MULTILINE)
        for vendor in ("openai", "anthropic"):
            with pytest.raises(ConfigurationError, match="include_hidden"):
                await session.export_conversation(vendor, include_hidden=True)


async def test_vendors_get_what_a_provider_may_see(memory: Store) -> None:
    """Nothing failed or blank; for Anthropic the user begins, roles alternate, system is apart."""
    echo = Echo()
    async with memory.manager(echo) as manager:
        session = await new_session(manager)
        await session.add_message("assistant", "unasked")
        await session.add_message("user", "hello")
        await a_history(session, echo)
        await session.add_message("assistant", " ")
        said = [
            ("assistant", "unasked"),
            ("user", "hello"),
            ("system", "rules"),
            ("user", "one"),
            ("assistant", "answer to one"),
            ("user", "two"),
            ("assistant", "answer to two"),
            ("user", "from elsewhere"),
        ]
        found = await session.export_conversation("openai")
        assert found == [{"role": role, "content": content} for role, content in said]
        assert await session.export_conversation("anthropic") == {
            "system": "rules",
            "messages": [
                {"role": "user", "content": "hello\n\none"},
                {"role": "assistant", "content": "answer to one"},
                {"role": "user", "content": "two"},
                {"role": "assistant", "content": "answer to two"},
                {"role": "user", "content": "from elsewhere"},
            ],
        }


async def test_an_empty_session_is_exported_in_every_format(memory: Store) -> None:
    """There is a document, and nothing was said."""
    async with memory.manager() as manager:
        session = await manager.create_session("ada", "mock", "m")
        assert (await session.export_conversation())["messages"] == []
        assert len((await session.export_conversation("jsonl")).splitlines()) == 1
        assert await session.export_conversation("openai") == []
        assert await session.export_conversation("anthropic") == {"messages": []}
        assert "- messages: 0" in await session.export_conversation("markdown")


HOSTILE = [
    "```\n# a heading\n```",
    "````text\n## 1. user\n````",
    "`" * 30,
    "# heading\n\n---\n\n<script>alert(1)</script>",
    "<!-- \n```",
    "\r```\r# x\r",
    "~~~\n```",
    "    ```\n",
    "",
    "\n",
]


@pytest.mark.parametrize("content", HOSTILE)
async def test_what_was_said_cannot_leave_its_fence(content: str, memory: Store) -> None:
    """Outside of fences there are the headings of the export and nothing else."""
    async with memory.manager() as manager:
        session = await manager.create_session(
            "a`*_<b>\n# ada", "mock", "m", session_config={"name": "](x)\n# name <i>"}
        )
        await session.add_message("user", content)
        await session.add_message("assistant", "the end")
        lines = re.split("\r\n|\r|\n", await session.export_conversation("markdown"))
    outside: list[str] = []
    fence: str | None = None
    for line in lines:
        opening = re.fullmatch("(`{3,})text", line)
        if fence is None and opening is not None:
            fence = opening[1]
        elif fence is None:
            outside.append(line)
        elif re.fullmatch(f" {{0,3}}{fence}`*[ \t]*", line):
            fence = None
    assert fence is None
    headings = [line for line in outside if line.startswith("#")]
    assert [line.split(" (")[0] for line in headings[1:]] == ["## 1. user", "## 2. assistant"]
    assert headings[0] == r"# \]\(x\) \# name \<i\>"
    assert r"- user: a\`\*\_\<b\> \# ada" in outside
    assert all(re.match(r"$|#|- ", line) for line in outside)


async def test_the_turn_that_runs_is_no_part_of_it(store: Store) -> None:
    """The session is shown as before: what the turn replaces is visible, its question is not."""
    echo = Echo()
    async with store.manager(echo) as manager:
        session = await new_session(manager)
        await session.send_message("one")
        before = await session.export_conversation()
        gate = echo.hold("one")
        ticket = regenerated(session)
        await gate.reached()
        during = await session.export_conversation()
        for document in (before, during):
            document["session"].pop("updated_at")
        assert during == before
        gate.open()
        await ticket
        after = await session.export_conversation()
        assert [each["hidden_by"] for each in after["messages"]] == [2, 2, None, None]


def regenerated(session: Session) -> Any:
    """Regenerate at once, awaited later."""
    return session._submit(RetryTurn(how="regenerate"), session._present_message)


class Meddling(InMemorySessionStorage):
    """Does something to a session each time that a page of it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.meddlers: list[Any] = []
        self.forever = False

    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        page = await super().read_messages(key, query)
        if self.meddlers and query.include_hidden:
            meddle = self.meddlers[0] if self.forever else self.meddlers.pop(0)
            await meddle()
        return page


@pytest.mark.parametrize("kind", ["clear", "rewind", "regenerate", "send", "clear all hidden"])
async def test_a_snapshot_is_of_one_revision(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens between two pages, what is exported was the session at one moment."""
    monkeypatch.setattr(export, "_PAGE", 5)
    storage = Meddling()
    async with create_session_manager(storage) as manager:
        session = await manager.create_session("ada", "mock", "m")
        for number in range(20):
            await session.add_message("user" if number % 2 else "system", str(number))
        await session.send_message("hello")
        if kind == "clear all hidden":
            await session.rewind(0)
        states = [await session.export_conversation()]

        async def meddle() -> None:
            if kind.startswith("clear"):
                await session.clear_messages()
            elif kind == "rewind":
                await session.rewind(9)
            elif kind == "regenerate":
                await session.regenerate()
            else:
                await session.send_message("more")

        storage.meddlers.append(meddle)
        found = await session.export_conversation()
        states.append(await session.export_conversation())
        assert not storage.meddlers
        assert found in states


async def test_a_session_that_never_holds_still_is_an_error_that_may_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bounded, and nothing torn is returned."""
    monkeypatch.setattr(export, "_PAGE", 1)
    storage = Meddling()
    async with create_session_manager(storage) as manager:
        session = await manager.create_session("ada", "mock", "m")
        await session.send_message("hello")

        async def meddle() -> None:
            await session.clear_messages()
            await session.add_message("user", "again")
            await session.add_message("user", "and again")

        storage.meddlers, storage.forever = [meddle], True
        with pytest.raises(StorageError) as raised:
            await session.export_conversation()
        assert (raised.value.code, raised.value.retryable) == ("busy", True)


async def test_an_unknown_format_is_named_with_the_nearest_one(memory: Store) -> None:
    """As every option is."""
    async with memory.manager() as manager:
        session = await manager.create_session("ada", "mock", "m")
        with pytest.raises(ConfigurationError, match="did you mean 'markdown'"):
            await session.export_conversation("markdwn")  # type: ignore[call-overload]


async def test_archived_sessions_are_exported_and_deleted_ones_are_not_found(store: Store) -> None:
    """As all reads."""
    async with store.manager() as manager:
        session = await manager.create_session("ada", "mock", "m")
        await session.archive()
        assert (await session.export_conversation())["session"]["status"] == "archived"
        await session.delete()
        with pytest.raises(SessionNotFoundError):
            await session.export_conversation()
