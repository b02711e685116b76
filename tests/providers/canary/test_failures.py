"""What goes wrong on the way, or is stopped, makes no key show."""

from __future__ import annotations

import json
import socket
from contextlib import aclosing, contextmanager, suppress
from threading import Thread
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import httpx2
import pytest
from langswarm.core.session import (
    ProviderError,
    SessionError,
    SQLiteSessionStorage,
    create_session_manager,
)
from langswarm.core.session.actors.model import PromptMessage, Role
from langswarm.core.session.providers import ProviderRequest

from ...vendors import Gate, faults
from .echoing import HEADERS, SAID, STATUSES
from .kinds import KINDS, Kind
from .looking import KEY, assert_hidden, shown_of, shown_of_files, shown_of_objects
from .watching import PATIENCE_SECONDS, assert_seen_in_its_header_only, watched

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from langswarm.core.session import Session
    from langswarm.core.session.providers import IProvider

    from ...vendors import VendorServer

CLIENT_KEY = KEY[::-1]
"""Of a client that is handed in. Who looks for the key backwards finds it as well."""
ECHOED = faults.Fault(headers=HEADERS)


def request(kind: str) -> ProviderRequest:
    return ProviderRequest(
        session_id="s",
        turn_id="s/1",
        model="m",
        messages=(PromptMessage(role=Role.USER, content="Hello"),),
        config=KINDS[kind].config,
        provider_session_id=None,
    )


async def listen(provider: IProvider, kind: str) -> None:
    """A turn asked of the provider itself, without a session around it."""
    events: Any = provider.stream(request(kind))
    async with aclosing(events):
        async for event in events:
            assert_hidden(*shown_of_objects(event))


async def failure(provider: IProvider, kind: str) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await listen(provider, kind)
    await provider.aclose()
    assert_hidden(*shown_of(caught.value), *shown_of_objects(provider))
    return caught.value


async def too_late(
    session: Session, kind: Kind, vendor: VendorServer, events: int | None
) -> SessionError:
    """What ends a turn whose time is over while it is answered, however slow the machine is."""
    gate = Gate()  # the same one again: a request of a turn before may still be on its way to it
    try:
        for seconds in (0.1, 2.0, 20.0):
            kind.hold_at(gate, vendor, events)
            with pytest.raises(SessionError) as late:
                await session.submit("Hello", timeout=seconds)
            vendor.clear_scripts()
            if gate.arrivals:
                return late.value
    finally:
        gate.release()
    raise AssertionError("no turn got as far as the gate")


def closed_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        port: int = made.getsockname()[1]
        return port


@contextmanager
def port_without_tls() -> Generator[int]:
    """A server that answers whatever it is sent in plain text."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection:
                    connection.settimeout(10)
                    connection.recv(65_536)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE_SECONDS)


# ---------------------------------------------------------------- no answer


@pytest.mark.parametrize("name", KINDS)
async def test_no_connection_makes_a_key_show(
    name: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = KINDS[name]
    refusing = f"http://127.0.0.1:{closed_port()}/v1"
    assert (await failure(kind.provider(refusing, library), name)).code == "connection"
    with port_without_tls() as port:
        without_tls = f"https://127.0.0.1:{port}/v1"
        assert (await failure(kind.provider(without_tls, library), name)).code == "connection"

    def find(*_args: object, **_named: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", find)
    nowhere = kind.provider("https://nowhere.invalid/v1", library)
    assert (await failure(nowhere, name)).code == "connection"


@pytest.mark.parametrize("name", KINDS)
async def test_silence_makes_no_key_show(
    name: str, library: str, vendor: VendorServer, tmp_path: Path
) -> None:
    kind = KINDS[name]
    for options in ({"stall_timeout": 0.05}, {"timeout": 0.05}):
        provider = kind.provider(kind.url(vendor), library, **options)
        folder = tmp_path / str(options)
        folder.mkdir()
        async with watched(folder, {"p": provider}) as (manager, watch):
            session = await manager.create_session("ada", "p", "m", provider_config=kind.config)
            for fault in (
                faults.stall() & ECHOED,
                faults.stall(events=0) & ECHOED,
                faults.insert(f'data: {{"x": "{SAID}"'.encode()) & faults.stall(events=0) & ECHOED,
                faults.lost(by="stall"),
            ):
                kind.script(vendor, fault)
                await watch.ask(session, "Hello")
                vendor.clear_scripts()
            await watch.look_around(manager, session, provider)
        assert len(watch.errors) >= 3


# ---------------------------------------------------------------- stopped


@pytest.mark.parametrize("name", KINDS)
async def test_what_is_stopped_or_cancelled_makes_no_key_show(
    name: str, library: str, vendor: VendorServer, tmp_path: Path
) -> None:
    kind = KINDS[name]
    provider = kind.provider(kind.url(vendor), library)
    async with watched(tmp_path, {"p": provider}) as (manager, watch):
        session = await manager.create_session("ada", "p", "m", provider_config=kind.config)
        for events in (None, 0, 2):
            gate = kind.hold(vendor, events)
            ticket = session.submit("Hello")
            await gate.reached()
            await watch.look_around(manager, session, session.current_turn, provider)
            await session.stop()
            with pytest.raises(ProviderError) as caught:
                await ticket
            watch.look_at(caught.value)
            gate.release()

            watch.look_at(await too_late(session, kind, vendor, events))

            gate = kind.hold(vendor, events)
            ticket = session.submit("Hello")
            await gate.reached()
            await provider.aclose()
            gate.release()
            with suppress(ProviderError):
                await ticket
    assert_seen_in_its_header_only(vendor, kind)


@pytest.mark.parametrize("name", KINDS)
async def test_a_manager_that_closes_while_it_is_answered_shows_no_key(
    name: str, library: str, vendor: VendorServer, tmp_path: Path
) -> None:
    kind = KINDS[name]
    provider = kind.provider(kind.url(vendor), library)
    storage = SQLiteSessionStorage(tmp_path / "s.db")
    manager = create_session_manager(storage, providers={"p": provider})
    session = await manager.create_session("ada", "p", "m", provider_config=kind.config)
    gate = kind.hold(vendor, 1)
    ticket = session.submit("Hello")
    await gate.reached()
    await manager.aclose(drain_seconds=0)
    with pytest.raises(SessionError) as caught:
        await ticket
    assert_hidden(*shown_of(caught.value), *shown_of_objects(manager, session, provider))
    assert_hidden(*shown_of_files(tmp_path))


@pytest.mark.parametrize("name", KINDS)
async def test_the_caller_who_cancels_a_provider_that_he_uses_himself_sees_no_key(
    name: str, library: str, vendor: VendorServer
) -> None:
    kind = KINDS[name]
    provider = kind.provider(kind.url(vendor), library)
    for events in (None, 0, 1):
        gate = kind.hold(vendor, events)
        seen: list[BaseException] = []

        async def ask(seen: list[BaseException] = seen) -> None:
            try:
                await listen(provider, name)
            except BaseException as error:
                seen.append(error)
                raise

        with anyio.fail_after(PATIENCE_SECONDS):
            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                await gate.reached()
                group.cancel_scope.cancel()
        gate.release()
        assert len(seen) == 1
        assert_hidden(*shown_of(seen[0]))
    await provider.aclose()


# ---------------------------------------------------------------- refused before it is sent


@pytest.mark.parametrize("name", KINDS)
async def test_what_the_limits_and_the_breaker_refuse_shows_no_key(
    name: str, library: str, vendor: VendorServer
) -> None:
    kind = KINDS[name]
    url = kind.url(vendor)
    broken = kind.provider(url, library, breaker_failures=1, breaker_pause=60)
    vendor.script(*[faults.status(503, SAID, HEADERS)] * 3)
    await failure(broken, name)
    assert "left alone" in str(await failure(broken, name))
    vendor.clear_scripts()

    limited = kind.provider(url, library, requests_per_minute=1, queue_timeout=0)
    vendor.script(faults.status(503, SAID, HEADERS))
    await failure(limited, name)
    assert (await failure(limited, name)).code == "rate_limit"

    full = kind.provider(url, library, max_connections=1, queue_timeout=0.01)
    gate = vendor.hold()

    async with anyio.create_task_group() as group:
        group.start_soon(listen, full, name)
        await gate.reached()
        with pytest.raises(ProviderError) as caught:
            await listen(full, name)
        assert_hidden(*shown_of(caught.value), *shown_of_objects(full))
        gate.release()
    await full.aclose()


# ---------------------------------------------------------------- beside turns


async def test_a_chain_of_fallbacks_that_all_fail_shows_no_key(
    library: str, vendor: VendorServer, tmp_path: Path
) -> None:
    providers = {
        name: kind.provider(kind.url(vendor), library, max_retries=1)
        for name, kind in KINDS.items()
    }
    chain = [(name, "m", dict(KINDS[name].config)) for name in ("local", "chat", "anthropic")]
    async with watched(tmp_path, providers) as (manager, watch):
        session = await manager.create_session(
            "ada", "native", "m", provider_config={"fallbacks": chain}
        )
        for fault in (STATUSES["status 500"], STATUSES["status 529"]):
            echo = faults.Fault(reply=fault.reply, headers={"retry-after-ms": "1"})
            vendor.script(*[echo] * 100)
            assert await watch.follow(session, "Hello") is None
            vendor.clear_scripts()
        await watch.look_around(manager, session, *providers.values())
    assert {seen.path for seen in vendor.requests} >= {"/v1/chat/completions", "/v1/messages"}


@pytest.mark.parametrize("name", ["native", "assistants"])
async def test_a_deletion_at_the_vendor_that_fails_again_and_again_shows_no_key(
    name: str, library: str, vendor: VendorServer, tmp_path: Path
) -> None:
    kind = KINDS[name]
    provider = kind.provider(kind.url(vendor), library, max_retries=1)
    async with watched(tmp_path, {"p": provider}) as (manager, watch):
        session = await manager.create_session("ada", "p", "m", provider_config=kind.config)
        assert await watch.ask(session, "Hello") is not None
        conversation_id = str(session.provider_session_id)
        for fault in STATUSES.values():
            echo = faults.Fault(reply=fault.reply, headers={"retry-after-ms": "0"})
            vendor.script(*[echo] * 10, path=kind.place)
            for call in (
                provider.delete_conversation(conversation_id),
                session.get_provider_metadata(),
            ):
                try:
                    await call
                except ProviderError as error:
                    watch.look_at(error)
            vendor.clear_scripts()
        assert len(watch.errors) > len(STATUSES)
        vendor.script(*[STATUSES["status 500"]] * 50, path=kind.place)
        await session.clear_messages()
        await vendor.until(lambda: len(vendor.seen(kind.place)) > 2)
        await watch.look_around(manager, session, provider)
    assert_seen_in_its_header_only(vendor, kind)


@pytest.mark.parametrize("name", ["anthropic", "bearer"])
async def test_counting_that_fails_shows_no_key(
    name: str, library: str, vendor: VendorServer, tmp_path: Path
) -> None:
    kind = KINDS[name]
    provider = kind.provider(kind.url(vendor), library)
    async with watched(tmp_path, {"p": provider}) as (manager, watch):
        session = await manager.create_session("ada", "p", "m", provider_config=kind.config)
        await session.send_message("Hello")
        messages = await session.get_messages()
        odd = faults.raw(f'{{"input_tokens": "{KEY}"}}'.encode())
        for fault in (*STATUSES.values(), odd, faults.raw(SAID.encode())):
            vendor.script(fault, path=f"{kind.path}/count_tokens")
            with pytest.raises(ProviderError) as caught:
                await provider.count_tokens("m", messages)  # type: ignore[attr-defined]
            watch.look_at(caught.value)


async def test_what_a_server_says_about_an_answer_is_stored_without_the_key(
    library: str, vendor: VendorServer, tmp_path: Path
) -> None:
    fields = {"id": KEY, "model": KEY, "object": "chat.completion.chunk"}
    said = {"index": 0, "delta": {"content": "Hi"}}
    end: dict[str, Any] = {"index": 0, "delta": {}, "finish_reason": KEY}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "note": SAID, "more": {KEY: KEY}}
    chunks: list[dict[str, Any]] = [
        {**fields, "choices": [said]},
        {**fields, "choices": [end], "usage": usage},
    ]
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    kind = KINDS["chat"]
    provider = kind.provider(kind.url(vendor), library)
    async with watched(tmp_path, {"p": provider}) as (manager, watch):
        session = await manager.create_session("ada", "p", "m", provider_config=kind.config)
        vendor.script(faults.raw(body.encode(), "text/event-stream") & ECHOED)
        message = await watch.ask(session, "Hello")
        assert message is not None
        assert message.content == "Hi"
        assert message.provider_metadata["model"] == message.finish_reason == "[secret]"
        await watch.look_around(manager, session)


@pytest.mark.parametrize("name", ["native", "assistants"])
async def test_what_a_server_says_about_a_conversation_is_told_without_the_key(
    name: str, library: str, vendor: VendorServer, tmp_path: Path
) -> None:
    kind = KINDS[name]
    provider = kind.provider(kind.url(vendor), library)
    async with watched(tmp_path, {"p": provider}) as (manager, watch):
        session = await manager.create_session("ada", "p", "m", provider_config=kind.config)
        assert await watch.ask(session, "Hello") is not None
        body = {"id": session.provider_session_id, "metadata": {"x": KEY, KEY: "y"}}
        vendor.script(faults.raw(json.dumps(body).encode()), method="GET")
        told = await session.get_provider_metadata()
        assert_hidden(repr(told))
        assert told["metadata"] == {"x": "[secret]", "[secret]": "y"}


# ---------------------------------------------------------------- a client that is handed in


class FailingError(Exception):
    pass


@pytest.mark.parametrize("name", ["chat", "anthropic"])
@pytest.mark.parametrize("module", [httpx, httpx2])
async def test_a_client_that_is_handed_in_with_keys_of_its_own_shows_none(
    name: str, module: Any, vendor: VendorServer, tmp_path: Path
) -> None:
    async def raising(response: Any) -> None:
        raise FailingError(f"{response.request.headers.raw!r} {response.headers.raw!r}")

    kind = KINDS[name]
    own = {"proxy-authorization": CLIENT_KEY, "x-client-token": CLIENT_KEY}
    hooks: list[dict[str, list[Callable[..., Any]]]] = [{}, {"response": [raising]}]
    for place, event_hooks in enumerate(hooks):
        folder = tmp_path / str(place)
        folder.mkdir()
        async with module.AsyncClient(headers=own, event_hooks=event_hooks) as client:
            provider = kind.provider(kind.url(vendor), "httpx", http_client=client)
            async with watched(folder, {"p": provider}) as (manager, watch):
                session = await manager.create_session("ada", "p", "m", provider_config=kind.config)
                for echo in (CLIENT_KEY, SAID):
                    fault = faults.status(401, {"error": {"message": echo}}, {"x-debug": echo})
                    vendor.script(fault)
                    assert await watch.ask(session, "Hello") is None
                assert (await watch.ask(session, "Hello") is None) == bool(event_hooks)
                await watch.look_around(manager, session, provider)
    assert vendor.last.headers["x-client-token"] == CLIENT_KEY
