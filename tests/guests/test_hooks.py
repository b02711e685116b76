"""The built-in hooks, in the real runtime."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from langswarm.core.session import (
    ConfigurationError,
    ISessionLifecycleHook,
    MessageRefused,
    MockProvider,
    ProviderError,
    SessionError,
    SessionMessage,
    StorageError,
    create_session_manager,
)
from langswarm.core.session.hooks import (
    Alert,
    AlertHook,
    AuditLogError,
    AuditLogHook,
    ErrorTrackingHook,
    MetricsHook,
    SlowTurnHook,
    needs_an_operator,
)
from langswarm.core.session.middleware import LengthLimitMiddleware
from langswarm.core.session.providers import fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from langswarm.core.session import Session, SessionManager

HOSTILE = 'line\nbreak\r\u2028\u2029\x00\x85 "quoted" {"event": "forged"}\n{"event":"forged"}'


async def mock_session(manager: SessionManager, **keywords: Any) -> Session:
    return await manager.create_session("ada", "mock", "mock-model", **keywords)


async def until(condition: Callable[[], bool]) -> None:
    """Let others run until it holds, threads too; nothing is measured in time."""
    with anyio.fail_after(60):
        while not condition():
            await anyio.lowlevel.checkpoint()


def lines_of(path: Path) -> list[dict[str, Any]]:
    content = path.read_bytes()
    assert content.endswith(b"\n")
    return [json.loads(line) for line in content.splitlines()]


def failing_mock() -> MockProvider:
    return MockProvider(script=[fault("rate_limit")])


# ---------------------------------------------------------------- metrics


async def test_metrics_count_events_answers_and_errors() -> None:
    metrics = MetricsHook()
    async with create_session_manager(
        hooks=[metrics], providers={"mock": failing_mock()}
    ) as manager:
        session = await mock_session(manager)
        with pytest.raises(ProviderError):
            await session.send_message("bad")
        await session.send_message("good")
        await session.update_context(a=1)
        await session.archive()
        await session.delete()
    seen = metrics.snapshot()
    assert seen.events == {
        "session_created": 1,
        "message_sent": 2,
        "message_received": 1,
        "session_error": 1,
        "context_updated": 1,
        "session_archived": 1,
        "session_deleted": 1,
    }
    assert seen.errors == {"ProviderError:rate_limit": 1}
    assert seen.provider_errors == {"mock": 1}
    assert seen.finish_reasons == {"stop": 1}
    assert seen.characters_sent == len("badgood")
    assert seen.characters_received == len("Mock response to: good")


async def test_metrics_remember_a_bounded_number_of_names() -> None:
    metrics = MetricsHook(max_names=3)
    for number in range(1_000):
        kind = type(f"Error{number}", (Exception,), {})
        await metrics.on_session_error("s", kind("text"))
        message = SessionMessage("assistant", "a", provider_metadata={"model": f"m{number}"})
        await metrics.on_message_received("s", message)
    seen = metrics.snapshot()
    assert len(seen.errors) == len(seen.models) == 4
    assert seen.errors["other"] == seen.models["other"] == 997


async def test_metrics_read_the_counts_of_the_vendors() -> None:
    metrics = MetricsHook()
    told = {
        "usage": {"input_tokens": 7, "output_tokens": 3},
        "model": "m-1",
        "fallback": {"provider": "second"},
    }
    await metrics.on_message_received("s", SessionMessage("assistant", "a", provider_metadata=told))
    seen = metrics.snapshot()
    assert (seen.input_tokens, seen.output_tokens) == (7, 3)
    assert (seen.models, seen.fallbacks) == ({"m-1": 1}, {"second": 1})


# ---------------------------------------------------------------- the audit log


async def test_audit_log_has_one_line_per_event_in_order_and_no_contents(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = AuditLogHook(path)
    async with create_session_manager(hooks=[audit], providers={"mock": failing_mock()}) as manager:
        session = await mock_session(manager)
        with pytest.raises(ProviderError):
            await session.send_message("first secret")
        await session.send_message("second secret")
        await session.archive()
    assert [line["event"] for line in lines_of(path)] == [
        "session_created",
        "message_sent",
        "session_error",
        "message_sent",
        "message_received",
        "session_archived",
    ]
    assert {line["session_id"] for line in lines_of(path)} == {session.session_id}
    assert b"secret" not in path.read_bytes()
    assert lines_of(path)[2]["error"] == "ProviderError:rate_limit"
    assert lines_of(path)[4]["finish_reason"] == "stop"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (audit.written, audit.lost) == (6, 0)


async def test_audit_log_of_contents_keeps_one_line_per_event(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    hook = AuditLogHook(path, contents=True)
    async with create_session_manager(hooks=[hook]) as manager:
        session = await mock_session(manager)
        await session.send_message(HOSTILE)
        await session.send_message("x" * 50_000)
    created, question, answer, long, _ = lines_of(path)
    assert created["user_id"] == "ada"
    assert question["content"] == HOSTILE
    assert answer["content"] == f"Mock response to: {HOSTILE}"
    assert (len(long["content"]), long["characters"]) == (10_000, 50_000)
    assert path.read_text().count("\n") == 5


async def test_audit_log_keeps_the_order_of_each_of_many_sessions(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    async with create_session_manager(hooks=[AuditLogHook(path)]) as manager:

        async def talk() -> None:
            session = await mock_session(manager)
            for number in range(10):
                await session.send_message(f"{number}")

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(talk)
    seen: dict[str, list[int]] = {}
    for line in lines_of(path):
        seen.setdefault(line["session_id"], []).append(line.get("seq", 0))
    assert list(seen.values()) == [list(range(21))] * 20


async def test_audit_log_rotates_by_size_and_loses_nothing_on_the_way(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    hook = AuditLogHook(path, max_bytes=2_000, keep=100)
    async with create_session_manager(hooks=[hook]) as manager:
        session = await mock_session(manager)
        for _ in range(30):
            await session.send_message("hello")
    files = sorted(tmp_path.iterdir(), key=lambda each: -int(each.suffix[1:].replace("jsonl", "0")))
    assert len(files) > 5
    assert all(each.stat().st_size <= 2_000 for each in files)
    assert all(stat.S_IMODE(each.stat().st_mode) == 0o600 for each in files)
    seqs = [line.get("seq", 0) for each in files for line in lines_of(each)]
    assert seqs == list(range(61))


async def test_audit_log_keeps_so_many_files(tmp_path: Path) -> None:
    hook = AuditLogHook(tmp_path / "audit.jsonl", max_bytes=1, keep=2)
    for number in range(6):
        await hook.on_session_archived(f"s{number}")
    names = {each.name: lines_of(each)[0]["session_id"] for each in tmp_path.iterdir()}
    assert names == {"audit.jsonl": "s5", "audit.jsonl.1": "s4", "audit.jsonl.2": "s3"}


async def test_audit_log_begins_a_new_line_after_one_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b'{"event":"cut')
    path.chmod(0o644)
    await AuditLogHook(path).on_session_archived("s")
    first, second = path.read_bytes().splitlines()
    assert first == b'{"event":"cut'
    assert json.loads(second)["session_id"] == "s"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


class FullDisk:
    """Takes so many bytes, then none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = 0
        self.write = os.write
        monkeypatch.setattr(os, "write", self)

    def __call__(self, descriptor: int, data: memoryview) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = self.write(descriptor, data[: self.room])
        self.room -= taken
        return taken


async def test_a_full_disk_is_reported_once_and_stops_no_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a line is taken back, what is lost is counted, and the file says so when it goes on."""
    path = tmp_path / "audit.jsonl"
    audit, errors = AuditLogHook(path), ErrorTrackingHook(texts=True)
    async with create_session_manager(hooks=[audit, errors]) as manager:
        session = await mock_session(manager)
        await session.update_context(a=1)
        with monkeypatch.context() as patch:
            disk = FullDisk(patch)
            disk.room = 20
            for _ in range(5):
                await session.send_message("hello")
            await until(lambda: audit.written + audit.lost == 12)
        await session.archive()
        assert session.message_count == 10
    lines = lines_of(path)
    assert audit.lost + audit.written == 13
    told = [line for line in lines if line["event"] == "lines_lost"]
    assert [line["count"] for line in told] == [audit.lost]
    assert lines[-1]["event"] == "session_archived"
    [tracked] = errors.last()
    assert tracked.code == "AuditLogError"
    assert "No space left on device" in tracked.text


async def test_a_disk_that_hangs_holds_up_neither_turns_nor_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hooks give up at their time; what a thread still writes is written, the rest is counted."""
    path = tmp_path / "audit.jsonl"
    audit, answered, write = AuditLogHook(path), threading.Event(), os.write

    def hanging(descriptor: int, data: bytes) -> int:
        answered.wait(60)
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", hanging)
    manager = create_session_manager(hooks=[audit], hook_timeout_seconds=0.02)
    with anyio.fail_after(60):
        async with manager:
            session = await mock_session(manager)
            for _ in range(3):
                await session.send_message("hello")
        # The six that come after the one that hangs, and the seven errors of hooks.
        assert (audit.written, audit.lost) == (0, 13)
        assert not audit._log._waiting
        answered.set()
        await until(lambda: audit.written == 1)
        await audit.on_session_archived("other")
    events = [(line["event"], line.get("count")) for line in lines_of(path)]
    assert events == [("session_created", None), ("lines_lost", 13), ("session_archived", None)]


async def test_what_is_no_file_is_reported_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AuditLogError, match="no regular file"):
        await AuditLogHook(tmp_path / "pipe").on_session_archived("s")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AuditLogError):
        await AuditLogHook(tmp_path / "link").on_session_archived("s")
    assert not (tmp_path / "elsewhere").exists()


def test_audit_log_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no folder"):
        AuditLogHook(tmp_path / "none" / "audit.jsonl")
    with pytest.raises(ConfigurationError, match="max_bytes"):
        AuditLogHook(tmp_path / "audit.jsonl", max_bytes=0)


# ---------------------------------------------------------------- alerts


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_an_alert_comes_once_per_kind_and_window_and_counts_what_it_stands_for() -> None:
    clock, alerts = Clock(), list[Alert]()
    hook = AlertHook(alerts.append, window_seconds=60, clock=clock)
    full = StorageError("planted", code="full")
    for _ in range(5):
        await hook.on_session_error("s", full)
    await hook.on_session_error("s", StorageError("planted", code="busy"))
    clock.now = 60.0
    await hook.on_session_error("s", full)
    assert [(alert.kind, alert.repeated) for alert in alerts] == [
        ("StorageError:full", 0),
        ("StorageError:busy", 0),
        ("StorageError:full", 4),
    ]
    assert hook.suppressed == 4


async def test_alerts_of_all_kinds_are_bounded_and_so_is_what_is_remembered() -> None:
    clock, alerts = Clock(), list[Alert]()
    hook = AlertHook(alerts.append, alerts_per_minute=3, max_kinds=10, clock=clock)
    for number in range(100):
        await hook.on_session_error("s", type(f"Error{number}", (Exception,), {})())
    assert len(alerts) == 3
    clock.now = 20.0
    await hook.on_session_error("s", ValueError())
    await hook.on_session_error("s", KeyError())
    assert len(alerts) == 4
    assert len(hook._filter._kinds) == 10


async def test_alerts_are_told_in_the_runtime_and_a_callback_that_fails_is_isolated() -> None:
    alerts: list[Alert] = []

    async def call(alert: Alert) -> None:
        await anyio.lowlevel.checkpoint()
        alerts.append(alert)
        raise ValueError("planted")

    mock = failing_mock()
    async with create_session_manager(
        hooks=[AlertHook(call)], providers={"mock": mock}, middleware=[LengthLimitMiddleware(10)]
    ) as manager:
        session = await mock_session(manager)
        with pytest.raises(MessageRefused):
            await session.send_message("far too long for it")
        with pytest.raises(ProviderError):
            await session.send_message("bad")
        await session.send_message("good")
    assert [(alert.kind, alert.session_id) for alert in alerts] == [
        ("ProviderError:rate_limit", session.session_id)
    ]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MessageRefused("no"), False),
        (ProviderError("stopped", code="interrupted"), False),
        (ProviderError("planted", code="auth"), True),
        (StorageError("planted", code="full"), True),
        (SessionError("planted"), True),
        (ValueError("a hook failed"), True),
    ],
)
def test_who_must_act_decides_about_an_alert(error: Exception, expected: bool) -> None:
    assert needs_an_operator(error) is expected


# ---------------------------------------------------------------- slow turns and errors


async def test_slow_turns_are_counted_and_the_last_are_kept() -> None:
    hook = SlowTurnHook(1e-9, keep=2)
    patient = SlowTurnHook(3600)
    async with create_session_manager(hooks=[hook, patient]) as manager:
        session = await mock_session(manager)
        await session.send_system_message("no turn")
        for _ in range(4):
            await session.send_message("hello")
        await session.regenerate()
        last = (await session.get_messages())[-1]
    assert hook.count == 5
    assert len(hook.snapshot()) == 2
    assert hook.snapshot()[-1].turn_id == last.turn_id
    assert 0 < hook.snapshot()[-1].seconds < 20
    assert (patient.count, len(patient._begun)) == (0, 0)


async def test_slow_turns_that_never_end_are_forgotten_beyond_the_limit() -> None:
    hook = SlowTurnHook(1.0, max_open=10)
    for number in range(1_000):
        message = SessionMessage("user", "a", turn_id=f"s{number}/1")
        await hook.on_message_sent(f"s{number}", message)
    assert len(hook._begun) == 10


async def test_errors_are_counted_by_code_and_their_texts_kept_only_if_asked() -> None:
    quiet, talking = ErrorTrackingHook(keep=2), ErrorTrackingHook(texts=True)

    class Failing(ISessionLifecycleHook):
        async def on_session_archived(self, session_id: str) -> None:
            raise ValueError("planted")

    async with create_session_manager(
        hooks=[quiet, talking, Failing()],
        providers={"mock": failing_mock()},
        middleware=[LengthLimitMiddleware(10)],
    ) as manager:
        session = await mock_session(manager)
        with pytest.raises(MessageRefused):
            await session.send_message("far too long for it")
        with pytest.raises(ProviderError):
            await session.send_message("bad")
        await session.archive()
    expected = {"MessageRefused": 1, "ProviderError:rate_limit": 1, "ValueError": 1}
    assert quiet.counts() == talking.counts() == expected
    assert [error.code for error in quiet.last()] == ["ProviderError:rate_limit", "ValueError"]
    assert {error.text for error in quiet.last()} == {""}
    assert talking.last()[-1].text == "planted"
