"""How each public coroutine is called in a sweep, one scenario for each.

A new public coroutine needs a line in `SCENARIOS`: a test compares it with the classes.
"""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs
from langswarm.core.session import (
    Session,
    SessionError,
    SessionExistsError,
    SessionManager,
    SessionNotFoundError,
)
from langswarm.core.session.errors import TurnStateError
from langswarm.core.session.interfaces import UserSessions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .world import World

    Call = Callable[[World], Awaitable[object]]

CONVERSATION = {
    "format": "langswarm-session/conversation",
    "version": 1,
    "session": {"user_id": "ivy", "provider": "scripted", "model": "m", "last_turn": 1},
    "turns": [],
    "messages": [
        {"role": "user", "content": "hello", "timestamp": "2025-01-01T00:00:00+00:00", "turn": 1}
    ],
}

CLASSES = {"Session": Session, "SessionManager": SessionManager, "UserSessions": UserSessions}
ENTRANCES = ("__aenter__", "__aexit__")


async def _nothing(world: World) -> None:
    del world


@attrs.frozen(kw_only=True)
class Scenario:
    """One call; it is made twice, once cancelled somewhere and then once more."""

    call: Call
    again: tuple[type[Exception], ...] = ()
    """What the second one may raise, because the first one had its effect."""
    before: Call = _nothing
    after: Call = _nothing
    """Puts things right for what follows."""
    unchecked: bool = False
    """The history of the session cannot be compared with what was sent; see EXCLUDED."""


def public_coroutines() -> set[str]:
    """Class.method of all that can be awaited, by the classes themselves."""
    return {
        f"{name}.{method}"
        for name, cls in CLASSES.items()
        for method in dir(cls)
        if (not method.startswith("_") or method in ENTRANCES)
        and inspect.iscoroutinefunction(getattr(cls, method))
    }


def _session(method: str, *args: Any, **options: Any) -> Scenario:
    async def call(world: World) -> object:
        return await getattr(world.sessions["s"], method)(*args)

    return Scenario(call=call, **options)


def _manager(method: str, *args: Any, **options: Any) -> Scenario:
    async def call(world: World) -> object:
        return await getattr(world.manager, method)(*args)

    return Scenario(call=call, **options)


def _user(method: str, *args: Any, user_id: str = "ada", **options: Any) -> Scenario:
    async def call(world: World) -> object:
        return await getattr(world.manager.for_user(user_id), method)(*args)

    return Scenario(call=call, **options)


async def _restart(world: World) -> None:
    await world.restart()


async def _start_anew(world: World) -> None:
    await world.stop()
    world.start()


async def _find_sessions(world: World) -> None:
    await world.find_sessions()


async def _reopen(world: World) -> None:
    await world.sessions["s"].reopen()


async def _archive(world: World) -> None:
    await world.sessions["s"].archive()


async def _send_message(world: World) -> object:
    return await world.send(world.text("under test"))


async def _submit(world: World) -> object:
    return await world.send_to_neighbour(world.text("under test"))


async def _send_system_message(world: World) -> object:
    return await world.sessions["s"].send_system_message("system")


async def _create_session(world: World) -> object:
    return await world.manager.create_session("ada", "scripted", "m", session_id="new")


async def _search_sessions(world: World) -> object:
    return await world.manager.search_sessions(user_id="ada", status="active")


async def _use_the_created(world: World) -> None:
    await (await world.manager.get_session("new")).send_message("hello")


async def _next_event(world: World) -> object:
    events = world.manager.session_events()
    world.soon(world.send_to_neighbour, "told")
    return await anext(events)


async def _stop(world: World) -> object:
    world.soon(world.send, world.text("to be stopped"))
    return await world.sessions["s"].stop()


async def _stream_message(world: World) -> object:
    async with world.sessions["s"].stream_message(world.text("streamed")) as turn:
        return [event async for event in turn]


async def _follow(world: World) -> object:
    world.soon(world.send, world.text("followed"))
    return [event async for event in world.sessions["s"].follow()]


async def _send_first(world: World) -> None:
    await world.send(world.text("before"))


async def _fail_first(world: World) -> None:
    with suppress(SessionError):
        await world.sessions["s"].send_message(world.text("failing"))


async def _retry(world: World) -> object:
    return await world.sessions["s"].retry()


async def _regenerate(world: World) -> object:
    return await world.sessions["s"].regenerate()


async def _rewind(world: World) -> None:
    await world.sessions["s"].rewind(1)


async def _fork(world: World) -> object:
    return await world.sessions["s"].fork(session_id="fork")


async def _import_conversation(world: World) -> object:
    return await world.manager.import_conversation(CONVERSATION, session_id="imported")


async def _send_under_a_key(world: World) -> object:
    session = world.sessions["s"]
    return await session.send_message("once", idempotency_key="k")


async def _have_a_fallback(world: World) -> None:
    config = {"fallbacks": [("mock", "m")]}
    await world.manager.create_session(
        "ada", "scripted", "m", session_id="f", provider_config=config
    )


async def _fall_back(world: World) -> object:
    session = await world.manager.get_session("f")
    return await session.send_message(world.text("failing"))


async def _reopen_all(world: World) -> None:
    for session in world.sessions.values():
        await session.reopen()


async def _have_eve(world: World) -> Session:
    name = world.text("eve")
    session = await world.manager.create_session("eve", "scripted", "m", session_id=name)
    await session.send_message(world.text("eve's"))
    return session


async def _archive_eve(world: World) -> None:
    await (await _have_eve(world)).archive()


async def _delete_eve(world: World) -> None:
    await (await _have_eve(world)).delete()


async def _eve_is_gone(world: World) -> None:
    ada = {session.session_id for session in await world.manager.get_user_sessions("ada")}
    if not {"n", "s"} <= ada:
        world.problems.append(f"the sessions of ada are {sorted(ada)}")
    if world.faults is None and (eve := await world.manager.get_user_sessions("eve")):
        world.problems.append(f"eve has {len(eve)} sessions")


SCENARIOS = {
    "Session.add_message": _session("add_message", "system", "from elsewhere"),
    "Session.archive": _session("archive", after=_reopen),
    "Session.clear_messages": _session("clear_messages", unchecked=True),
    "Session.delete": _session("delete", again=(SessionNotFoundError,), unchecked=True),
    "Session.get_config": _session("get_config"),
    "Session.get_context": _session("get_context"),
    "Session.get_message": _session("get_message", "s/1"),
    "Session.get_messages": _session("get_messages", 3),
    "Session.get_metrics": _session("get_metrics"),
    "Session.get_provider_metadata": _session("get_provider_metadata"),
    "Session.export_conversation": _session("export_conversation"),
    "Session.fork": Scenario(call=_fork, again=(SessionExistsError,), unchecked=True),
    "Session.refresh": _session("refresh"),
    "Session.regenerate": Scenario(call=_regenerate, before=_send_first, unchecked=True),
    "Session.retry": Scenario(
        call=_retry, before=_fail_first, again=(TurnStateError,), unchecked=True
    ),
    "Session.rewind": Scenario(call=_rewind, before=_send_first, unchecked=True),
    "Session.reopen": _session("reopen", before=_archive),
    "Session.send_message": Scenario(call=_send_message),
    "Session.send_system_message": Scenario(call=_send_system_message),
    "Session.stop": Scenario(call=_stop, unchecked=True),
    "Session.update_config": _session("update_config", {"max_messages": 10}),
    "Session.update_context": _session("update_context", {"key": 1}),
    "SessionManager.__aenter__": _manager("__aenter__", before=_start_anew, after=_find_sessions),
    "SessionManager.__aexit__": _manager("__aexit__", None, None, None, after=_restart),
    "SessionManager.aclose": _manager("aclose", after=_restart),
    "SessionManager.archive_sessions": _manager("archive_sessions", ["s", "?"], after=_reopen),
    "SessionManager.backup": _manager("backup", "copy.db"),
    "SessionManager.cleanup_inactive_sessions": _manager(
        "cleanup_inactive_sessions", 0, after=_reopen_all
    ),
    "SessionManager.cleanup_archived_sessions": _manager(
        "cleanup_archived_sessions", 0, before=_archive_eve, after=_eve_is_gone
    ),
    "SessionManager.cleanup_deleted_sessions": _manager(
        "cleanup_deleted_sessions", 0, before=_delete_eve, after=_eve_is_gone
    ),
    "SessionManager.create_session": Scenario(
        call=_create_session, again=(SessionExistsError,), after=_use_the_created
    ),
    "SessionManager.delete_sessions": _manager("delete_sessions", ["s", "?"], unchecked=True),
    "SessionManager.erase_user": _manager(
        "erase_user", "eve", before=_have_eve, after=_eve_is_gone
    ),
    "SessionManager.get_analytics": _manager("get_analytics"),
    "SessionManager.get_session": _manager("get_session", "s"),
    "SessionManager.get_user_sessions": _manager("get_user_sessions", "ada"),
    "SessionManager.health": _manager("health"),
    "SessionManager.import_conversation": Scenario(
        call=_import_conversation, again=(SessionExistsError,)
    ),
    "SessionManager.optimize_storage": _manager("optimize_storage"),
    "SessionManager.rotate_encryption_keys": _manager("rotate_encryption_keys"),
    "SessionManager.search_sessions": Scenario(call=_search_sessions),
    "SessionManager.update_sessions": _manager("update_sessions", ["s", "?"], {"tags": ["t"]}),
    "SessionManager.verify_storage": _manager("verify_storage"),
    "UserSessions.archive_sessions": _user("archive_sessions", ["s", "?"], after=_reopen),
    "UserSessions.create_session": _user("create_session", "scripted", "m", user_id="dan"),
    "UserSessions.delete_sessions": _user("delete_sessions", ["s", "?"], unchecked=True),
    "UserSessions.erase_user": _user(
        "erase_user", user_id="eve", before=_have_eve, after=_eve_is_gone
    ),
    "UserSessions.get_analytics": _user("get_analytics"),
    "UserSessions.get_session": _user("get_session", "s"),
    "UserSessions.get_user_sessions": _user("get_user_sessions"),
    "UserSessions.import_conversation": _user("import_conversation", CONVERSATION, user_id="dan"),
    "UserSessions.search_sessions": _user("search_sessions"),
    "UserSessions.update_sessions": _user("update_sessions", ["s", "?"], {"tags": ["t"]}),
}

BESIDE = {
    "Session.send_message, under a key": Scenario(call=_send_under_a_key, unchecked=True),
    "Session.send_message, answered by a fallback": Scenario(
        call=_fall_back, before=_have_a_fallback, unchecked=True
    ),
    "Session.submit, awaited": Scenario(call=_submit),
    "Session.stream_message, to its end": Scenario(call=_stream_message, unchecked=True),
    "Session.follow, to its end": Scenario(call=_follow, unchecked=True),
    "SessionManager.session_events, its next event": Scenario(call=_next_event),
}
"""Plain calls that return something to be awaited."""

EXCLUDED = {
    "Session.clear_messages": "history compared with sends: it deletes what was sent",
    "Session.delete": "history compared with sends: a deleted session cannot be read",
    "SessionManager.delete_sessions": "history compared with sends: as Session.delete",
    "UserSessions.delete_sessions": "history compared with sends: as Session.delete",
    "SessionManager.health": "cancelled: it never waits, so it has no point",
    "SessionManager.aclose": "faults: it ends each run that sweeps the faults of all others",
    "SessionManager.__aexit__": "faults: it is aclose()",
    "SessionManager.__aenter__": "faults: it opens the storage as the first call of every run does",
}
"""What is not swept, by scenario, and why; of everything else all is."""
