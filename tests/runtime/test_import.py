"""Exported conversations come back whole; what is wrong with them is said and stores nothing."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langswarm.core.session import create_session_manager
from langswarm.core.session.actors.decisions import MAX_CREATED_MESSAGES
from langswarm.core.session.errors import (
    ConfigurationError,
    InvalidMessageError,
    SessionArchivedError,
    SessionError,
    SessionExistsError,
)
from langswarm.core.session.testing import simulate

from .helpers import Echo, new_session, outcomes
from .test_export import a_history

if TYPE_CHECKING:
    from collections.abc import Callable

    from langswarm.core.session import Session, SessionManager
    from langswarm.core.session.testing import Backend

    from .helpers import Store


def plain(document: dict[str, Any]) -> dict[str, Any]:
    """Without what belongs to one session alone: its id, its messages' ids, its conversation."""
    found = copy.deepcopy(document)
    session_id = found["session"].pop("session_id")
    found["session"].pop("provider_session_id")
    for message in found["messages"]:
        assert message.pop("message_id") == f"{session_id}/{message['seq']}"
    return found


async def imported(manager: SessionManager, data: Any, **keywords: Any) -> dict[str, Any]:
    """What the import of it exports."""
    session = await manager.import_conversation(data, **keywords)
    return await session.export_conversation()


@pytest.mark.parametrize("form", ["dict", "json", "bytes", "jsonl"])
async def test_an_import_is_what_was_exported(form: str, store: Store) -> None:
    """Each form, into another storage, and out of it after a restart."""
    echo = Echo()
    async with create_session_manager(providers={"openai": echo}) as manager:
        session = await new_session(
            manager,
            session_config={
                "tags": ["a"],
                "max_messages": 3,
                "on_busy": "reject",
                "auto_archive_after": timedelta(hours=1.5),
                "metadata": {"k": [1]},
            },
        )
        await session.update_context({"a": 1})
        await a_history(session, echo)
        document = await session.export_conversation()
        data: Any = document
        if form == "jsonl":
            data = await session.export_conversation("jsonl")
        elif form != "dict":
            data = json.dumps(document, indent=1)
            data = b"\xef\xbb\xbf" + data.encode() if form == "bytes" else data
    async with store.manager(echo) as manager:
        session = await manager.import_conversation(data)
        assert session.session_id != document["session"]["session_id"]
        assert plain(await session.export_conversation()) == plain(document)
        assert (await session.get_config())["auto_archive_after"] == timedelta(hours=1.5)
        assert [each.session_id for each in await manager.search_sessions(tags=["a"])] == [
            session.session_id
        ]
    async with store.manager(echo) as manager:
        session = await manager.get_session(session.session_id)
        assert plain(await session.export_conversation()) == plain(document)


async def test_an_imported_session_goes_on_as_the_old_one_would(store: Store) -> None:
    """The same prompt, the next numbers; it is written to like any other."""
    echo = Echo()
    async with store.manager(echo) as manager:
        old = await new_session(manager)
        await a_history(old, echo)
        new = await manager.import_conversation(await old.export_conversation(), user_id="eve")
        assert new.user_id == "eve"
        answers = [await session.send_message("go on") for session in (old, new)]
        assert answers[0].seq == answers[1].seq
        assert echo.prompts()[-1] == echo.prompts()[-2]
        assert plain_messages(await old.export_conversation()) == plain_messages(
            await new.export_conversation()
        )


def plain_messages(document: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(each["seq"], each["content"], each["hidden_by"]) for each in document["messages"]]


async def test_the_last_turn_can_be_run_again_and_followed(store: Store) -> None:
    """A failed one is retried, a completed one regenerated, each in place of the old one."""
    echo = Echo()
    echo.failing.add("question")
    async with store.manager(echo) as manager:
        old = await new_session(manager)
        await old.send_message("before")
        await outcomes([old.submit("question")])
        failed = await old.export_conversation()
        echo.failing.clear()
        new = await manager.import_conversation(failed)
        events = [event.type async for event in new.follow()]
        assert events[-1] == "failed"
        assert (await new.retry()).content == "answer to question"
        again = await manager.import_conversation(await new.export_conversation())
        assert (await again.regenerate()).seq == 7
        assert again.message_count == 4
        assert plain_messages(await again.export_conversation())[-2:] == [
            (6, "question", None),
            (7, "answer to question", None),
        ]


async def test_times_status_and_metrics_are_kept_and_today_counts_a_session(store: Store) -> None:
    """Archived stays archived; analytics know one more session, and no message twice."""
    async with store.manager(Echo()) as manager:
        session = await new_session(manager)
        await session.send_message("one")
        await session.archive()
        document = await session.export_conversation()
        then = datetime(2020, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
        document["session"] |= {"created_at": then.isoformat(), "updated_at": then.isoformat()}
        new = await manager.import_conversation(document, session_id="new")
        assert (new.session_id, new.status) == ("new", "archived")
        assert (new.created_at, new.last_activity) == (then, then)
        metrics = await session.get_metrics()
        assert await new.get_metrics() == attrs.evolve(metrics, session_duration=timedelta(0))
        with pytest.raises(SessionArchivedError):
            await new.send_message("too late")
        found = await manager.get_analytics()
        assert (found.total_sessions, found.user_messages) == (2, 1)
        with pytest.raises(SessionExistsError):
            await manager.import_conversation(document, session_id="new")


async def test_an_id_of_another_kind_is_kept_in_the_metadata(memory: Store) -> None:
    """It may be anybody's, so it is not taken as an id; it can be searched for."""
    async with memory.manager() as manager:
        session = await manager.create_session("ada", "mock", "m")
        await session.add_message("user", "a", metadata={"k": 1})
        await session.add_message("user", "b")
        document = await session.export_conversation()
        for message in document["messages"]:
            message["message_id"] = "twice"
        new = await manager.import_conversation(document)
        messages = await new.get_messages()
        assert [each.message_id for each in messages] == [
            f"{new.session_id}/1",
            f"{new.session_id}/2",
        ]
        assert messages[0].metadata == {"k": 1, "imported_message_id": "twice"}
        again = await manager.import_conversation(await new.export_conversation())
        assert (await again.get_messages())[0].metadata == messages[0].metadata


async def test_an_unknown_provider_is_no_error_until_it_is_asked(memory: Store) -> None:
    """The session can be read, and sent to by a manager that has it."""
    async with memory.manager(Echo()) as manager:
        session = await new_session(manager, provider_config={"temperature": 0.1})
        await session.send_message("hello")
        document = await session.export_conversation()
    async with create_session_manager() as manager:
        new = await manager.import_conversation(document)
        assert len(await new.get_messages()) == 2
        with pytest.raises(ConfigurationError, match="openai"):
            await new.send_message("hello")


# ---------------------------------------------------------------- what is refused


async def a_document() -> dict[str, Any]:
    """A small one with everything in it."""
    echo = Echo()
    async with create_session_manager(providers={"openai": echo}) as manager:
        session = await new_session(manager, session_id="s", session_config={"tags": ["t"]})
        await a_history(session, echo)
        document: dict[str, Any] = await session.export_conversation()
        return document


def changes() -> dict[str, Callable[[dict[str, Any]], object]]:
    def message(number: int, **values: Any) -> Callable[[dict[str, Any]], object]:
        return lambda document: document["messages"][number].update(values)

    def fact(**values: Any) -> Callable[[dict[str, Any]], object]:
        return lambda document: document["session"].update(values)

    def turn(**values: Any) -> Callable[[dict[str, Any]], object]:
        return lambda document: document["turns"][0].update(values)

    return {
        "no session": lambda document: document.pop("session"),
        "no messages": lambda document: document.pop("messages"),
        "messages of another type": lambda document: document.update(messages={"a": 1}),
        "too many messages": lambda document: document.update(
            messages=[0] * (MAX_CREATED_MESSAGES + 1)
        ),
        "a message that is none": lambda document: document["messages"].append(1),
        "an unknown role": message(0, role="tool"),
        "a role that is no text": message(0, role=["user"]),
        "no content": message(0, content=None),
        "too much content": message(0, content="x" * 1001),
        "no valid text": message(0, content="\ud83d"),
        "no time": message(0, timestamp=None),
        "a time that is none": message(0, timestamp="yesterday"),
        "a time before all times": message(0, timestamp="0001-01-01T00:00:00+14:00"),
        "a number that falls": message(3, seq=1),
        "a number of 0": message(0, seq=0),
        "a number beyond the last": message(8, seq=10**9),
        "a huge number": message(8, seq=10**5000),
        "a number beyond those of a storage": lambda document: (
            document["session"].update(last_seq=2**40),
            document["messages"][8].update(seq=2**32 + 1),
        ),
        "a last number that leaves no next one": fact(last_seq=2**32 - 1),
        "a last turn that leaves no next one": fact(last_turn=2**32 - 1),
        "a negative count": message(0, token_count=-1),
        "a fraction": message(0, token_count=1.5),
        "a bool": message(0, token_count=True),
        "a turn that never was": message(0, turn=99),
        "hidden by what never was": message(0, hidden_by="me"),
        "metadata of another type": message(0, metadata=[1]),
        "metadata that is deep": message(0, metadata=deep(101)),
        "metadata that is no JSON": message(0, metadata={"a": float("nan")}),
        "too much metadata": message(0, metadata={"a": "x" * 1001}),
        "a finish reason of another type": message(0, finish_reason=1),
        "no user": fact(user_id=""),
        "a user of another type": fact(user_id=1),
        "no provider": fact(provider=None),
        "no model": fact(model=" "),
        "a status that is none": fact(status="deleted"),
        "a context of another type": fact(context=[]),
        "a context that is deep": fact(context=deep(101)),
        "a last turn of another type": fact(last_turn="4"),
        "a turn of nothing": turn(question_seq=2),
        "an open turn": turn(state="open"),
        "a turn of no number": turn(turn=0),
        "a turn that replaces itself": turn(replaces=4),
        "a turn twice": lambda document: document["turns"].append(document["turns"][0]),
        "turns of another type": lambda document: document.update(turns=3),
        "metrics of another type": lambda document: document.update(metrics=[]),
        "a negative figure": lambda document: document["metrics"].update(user_messages=-1),
        "too few latencies": lambda document: document["metrics"].update(latencies=[1]),
    }


def deep(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize("change", changes())
async def test_what_is_wrong_is_refused_and_nothing_is_stored(change: str, memory: Store) -> None:
    """Each with an error that says what is wrong, in one line of bounded length."""
    document = await a_document()
    changes()[change](document)
    async with memory.manager(
        max_message_bytes=1000, max_metadata_bytes=1000, max_context_bytes=1000
    ) as manager:
        with pytest.raises(InvalidMessageError) as raised:
            await manager.import_conversation(document)
        assert 10 < len(str(raised.value)) < 300
        assert await manager.search_sessions() == []


async def test_no_number_reaches_into_the_session_of_somebody_else(store: Store) -> None:
    """A storage may keep all messages in one row of numbers; those of others are not touched."""
    document = await a_document()
    document["turns"] = []
    document["session"]["last_seq"] = 2**40
    del document["messages"][1:]
    async with store.manager(Echo()) as manager:
        for number in (2**32 + 1, 2**32 + 3, 2**33 + 3):
            document["messages"][0] |= {"seq": number, "role": "system", "turn": None}
            with pytest.raises(InvalidMessageError, match="seq"):
                await manager.for_user("eve").import_conversation(document)
            session = await new_session(manager, user_id="ada")
            await session.send_message("mine")
            await session.send_message("mine too")
            assert [each.seq for each in await session.get_messages()] == [1, 2, 3, 4]
        assert (await manager.verify_storage()).ok


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"version": 2}, "update this one"),
        ({"version": "1"}, "export it again"),
        ({"version": None}, "export it again"),
        ({"format": "other"}, "langswarm-session import"),
        ({"format": None}, "langswarm-session import"),
    ],
)
async def test_another_format_or_version_says_what_to_do(
    values: dict[str, Any], says: str, memory: Store
) -> None:
    """Neither is guessed at."""
    document = {**await a_document(), **values}
    async with memory.manager() as manager:
        with pytest.raises(ConfigurationError, match=says):
            await manager.import_conversation(document)


async def test_keys_and_wrong_configs_are_refused(memory: Store) -> None:
    """A key by its name is stored nowhere, and is in no text; unknown settings are named."""
    document = await a_document()
    document["session"]["provider_config"] = {"a": [{"api_key": "sk-0123456789abcdef"}]}
    async with memory.manager() as manager:
        with pytest.raises(ConfigurationError, match="api_key") as raised:
            await manager.import_conversation(document)
        assert "0123456789" not in str(raised.value)
        document["session"] |= {"provider_config": {}, "config": {"max_mesages": 1}}
        with pytest.raises(ConfigurationError, match="max_messages"):
            await manager.import_conversation(document)


@pytest.mark.parametrize(
    "data",
    [
        None,
        3,
        "",
        "[]",
        "nonsense",
        "[" * 100_000,
        "9" * 5000,
        b"\xff",
        '{"a": 1}\n{"b": ',
        '{"format": "x"}\n' + "[" * 100_000,
        {},
        [],
    ],
)
async def test_what_is_no_conversation_is_an_error_and_no_crash(data: Any, memory: Store) -> None:
    """Whatever it is."""
    async with memory.manager() as manager:
        with pytest.raises((InvalidMessageError, ConfigurationError)):
            await manager.import_conversation(data)


async def test_lines_that_are_missing_are_noticed(memory: Store) -> None:
    """The first one says how many there are."""
    async with memory.manager() as manager:
        session = await manager.create_session("ada", "mock", "m")
        await session.send_message("hello")
        text = await session.export_conversation("jsonl")
        cut = text[: text.rindex("\n", 0, -1)]
        with pytest.raises(InvalidMessageError, match="1 of 2 messages"):
            await manager.import_conversation(cut)


# ---------------------------------------------------------------- whatever it is

junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=4,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Of every value in a document."""
    found = [at]
    pairs: Any = ()
    whole: Any = value
    if isinstance(value, (dict, list)):
        pairs = whole.items() if isinstance(value, dict) else enumerate(whole)
    for key, inner in pairs:
        found += places(inner, (*at, key))
    return found


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_hostile_data_is_taken_or_refused(data: st.DataObject) -> None:
    """Any values in place of any others: either a session that works, or an error of ours."""

    async def program() -> None:
        document: Any = await a_document()
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.sampled_from(places(document)[1:]))
            inner = document
            for key in at[:-1]:
                inner = inner[key]
            if data.draw(st.booleans()):
                inner[at[-1]] = data.draw(junk)
            else:
                del inner[at[-1]]
        async with create_session_manager(providers={"openai": Echo()}) as manager:
            try:
                session = await manager.import_conversation(document)
            except SessionError:
                assert await manager.search_sessions() == []
                return
            await use(session)
            found = await session.export_conversation()
            assert plain(await imported(manager, found)) == plain(found)

    simulate(program, backend="asyncio", seed=None)


async def use(session: Session) -> None:
    """Everything that reads, and what an active session takes; errors of ours are none."""
    await session.export_conversation("markdown")
    await session.export_conversation("anthropic")
    for method in (session.retry, session.regenerate, session.archive, session.reopen):
        try:
            await method()
        except SessionError:
            continue
    if session.provider == "openai":
        assert (await session.send_message("still there?")).content == "answer to still there?"


# ---------------------------------------------------------------- whatever happened

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda text: not text.isspace()
)
steps = st.one_of(
    st.tuples(st.just("send"), texts),
    st.tuples(st.just("fail"), texts),
    st.tuples(st.just("stop"), texts),
    st.tuples(st.just("system"), texts),
    st.tuples(st.sampled_from(["user", "assistant"]), texts | st.just("")),
    st.tuples(st.sampled_from(["retry", "regenerate", "clear", "archive"]), st.just("")),
    st.tuples(st.just("rewind"), st.integers(0, 12).map(str)),
    st.tuples(st.just("context"), texts),
)


async def take(session: Session, echo: Echo, step: tuple[str, str]) -> None:
    kind, text = step
    if kind == "fail":
        echo.failing.add(text)
        await outcomes([session.submit(text)])
        echo.failing.clear()
    elif kind == "stop":
        if session.status != "active":
            return
        gate = echo.hold(text)
        ticket = session.submit(text)
        await gate.reached()
        await session.stop()
        await outcomes([ticket])
        del echo.gates[text]
    elif kind in {"user", "assistant"}:
        await session.add_message(kind, text)
    elif kind == "rewind":
        await session.rewind(int(text))
    elif kind == "context":
        await session.update_context({text: [text]})
    elif text:
        await {"send": session.send_message, "system": session.send_system_message}[kind](text)
    else:
        calls: dict[str, Any] = {
            "retry": session.retry,
            "regenerate": session.regenerate,
            "clear": session.clear_messages,
            "archive": session.archive,
        }
        await calls[kind]()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=40, deadline=None)
@given(history=st.lists(steps, max_size=10))
def test_a_round_trip_changes_nothing(backend: Backend, history: list[tuple[str, str]]) -> None:
    """export(import(export(s))) is export(s), but for ids; and both go on in the same way."""

    async def program() -> None:
        echo = Echo()
        async with create_session_manager(providers={"openai": echo}) as manager:
            old = await new_session(manager)
            for step in history:
                try:
                    await take(old, echo, step)
                except SessionError:
                    continue
            document = await old.export_conversation()
            new = await manager.import_conversation(json.dumps(document))
            assert plain(await new.export_conversation()) == plain(document)
            assert plain(await imported(manager, await new.export_conversation("jsonl"))) == plain(
                document
            )
            assert await new.get_metrics() == await old.get_metrics()
            results = [await outcomes([each.submit("go on")]) for each in (old, new)]
            seqs: list[int | None] = [getattr(each, "seq", None) for [each] in results]
            assert seqs[0] == seqs[1]
            assert isinstance(results[0][0], Exception) == isinstance(results[1][0], Exception)
            if old.status == "active":
                assert echo.prompts()[-1] == echo.prompts()[-2]

    simulate(program, backend=backend, seed=None)


async def test_a_large_text_leaves_the_event_loop_free(memory: Store) -> None:
    """It is parsed in a thread; what it says is the same."""
    async with memory.manager() as manager:
        session = await manager.create_session("ada", "mock", "m")
        await session.add_message("user", "x" * 1_200_000)
        text = await session.export_conversation("jsonl")
        new = await manager.import_conversation(text)
        assert (await new.get_messages())[0].content == "x" * 1_200_000
        assert new.created_at - session.created_at == timedelta(0)
