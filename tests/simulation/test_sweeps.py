"""The sweeps count what there is, reach every point, and report what goes wrong with its replay."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from langswarm.core.session import (
    InMemorySessionStorage,
    ISessionLifecycleHook,
    ISessionMiddleware,
    SessionError,
    SessionMessage,
    create_session_manager,
)
from langswarm.core.session.testing import (
    Backend,
    CallEnd,
    Cancellations,
    Ended,
    FaultPoint,
    Faults,
    FaultyStorage,
    MiddlewareFault,
    ProviderFault,
    ScriptedProvider,
    sweep_cancellations,
    sweep_faults,
)

BACKENDS: tuple[Backend, ...] = ("asyncio", "trio")
both = pytest.mark.parametrize("backend", BACKENDS)
modes = pytest.mark.parametrize(
    ("backend", "native"), [("asyncio", False), ("asyncio", True), ("trio", False)]
)


class Steps:
    """A call of three steps, and a clean-up of two that shields itself if it is told to."""

    def __init__(self, *, shielded: bool) -> None:
        self.shielded = shielded
        self.taken: list[str] = []

    async def call(self) -> str:
        try:
            for step in "abc":
                await anyio.lowlevel.checkpoint()
                self.taken.append(step)
            return "done"
        except BaseException:
            with anyio.CancelScope(shield=self.shielded):
                for step in "xy":
                    await anyio.lowlevel.checkpoint()
                    self.taken.append(step)
            raise


def ends_of(
    backend: Backend, *, shielded: bool = True, native: bool = False, points: int = 1
) -> set[tuple[str, str]]:
    """(what was done, how it ended) over a whole sweep."""
    ends: set[tuple[str, str]] = set()

    async def program(sweep: Cancellations) -> tuple[str, Ended]:
        steps = Steps(shielded=shielded)
        end = await sweep.call(steps.call)
        assert (end.value == "done") == (end.how is Ended.RETURNED)
        await anyio.lowlevel.checkpoint()  # whatever was cancelled, the program goes on
        return "".join(steps.taken), end.how

    def check(end: tuple[str, Ended]) -> list[str]:
        ends.add((end[0], end[1].value))
        return []

    report = sweep_cancellations(program, check, backend=backend, native=native, points=points)
    assert not report.violations, report
    assert report.runs > report.points > 2
    return ends


@modes
def test_every_suspension_is_a_point(backend: Backend, native: bool) -> None:
    assert ends_of(backend, native=native) == {
        ("abc", "returned"),
        ("xy", "cancelled"),
        ("axy", "cancelled"),
        ("abxy", "cancelled"),
    }


@both
def test_a_cancellation_by_level_stays(backend: Backend) -> None:
    """A clean-up that awaits without a shield is cancelled again at once."""
    assert ends_of(backend, shielded=False) == {
        ("abc", "returned"),
        ("", "cancelled"),
        ("a", "cancelled"),
        ("ab", "cancelled"),
    }


def test_two_native_cancellations_hit_the_clean_up_through_its_shield() -> None:
    ends = ends_of("asyncio", native=True, points=2)
    assert {taken for taken, how in ends if how == "cancelled"} == {
        before + after for before in ("", "a", "ab") for after in ("", "x", "xy")
    }


@both
def test_the_steps_of_others_are_points_while_the_call_waits(backend: Backend) -> None:
    """A call that awaits one event is cancelled at every stage of what leads to it."""
    stages: set[int] = set()

    async def program(sweep: Cancellations) -> None:
        stage = 0
        event = anyio.Event()

        async def lead_to_it() -> None:
            nonlocal stage
            for _ in range(5):
                stage += 1
                await anyio.lowlevel.checkpoint()
            event.set()

        async with anyio.create_task_group() as group:
            group.start_soon(lead_to_it)
            end = await sweep.call(event.wait)
            if end.how is Ended.CANCELLED:
                stages.add(stage)

    report = sweep_cancellations(program, backend=backend)
    assert not report.violations, report
    assert stages >= {1, 2, 3, 4, 5}


@both
def test_what_goes_wrong_is_reported_with_its_replay(backend: Backend) -> None:
    async def program(sweep: Cancellations) -> CallEnd[str]:
        steps = Steps(shielded=True)
        end = await sweep.call(steps.call)
        if steps.taken == ["a", "x", "y"]:
            raise ZeroDivisionError
        if steps.taken == ["a", "b", "x", "y"]:
            await anyio.sleep_forever()
        return end

    def check(end: CallEnd[str]) -> list[str]:
        return ["not done"] if end.value != "done" else []

    report = sweep_cancellations(program, check, backend=backend, seed=4)
    texts = {violation.text.partition("(")[0] for violation in report.violations}
    assert texts == {"not done", "ZeroDivisionError", "DeadlockError"}
    for violation in report.violations:
        point = int(violation.where.rpartition(" ")[2])
        assert f"backend={backend!r}, seed=4, at=({point},)" in violation.replay
        again = sweep_cancellations(program, check, backend=backend, seed=4, at=(point,))
        assert again.runs == 1
        assert again.violations == (violation,)
    assert "violations\ncancelled at point" in str(report)


@both
def test_a_first_run_that_fails_ends_the_sweep(backend: Backend) -> None:
    async def program(sweep: Cancellations) -> None:
        await sweep.call(anyio.sleep, 1)
        raise ZeroDivisionError

    report = sweep_cancellations(program, backend=backend)
    assert (report.runs, len(report.violations)) == (1, 1)
    assert report.violations[0].where == "not cancelled"


@both
def test_an_error_of_the_call_is_handed_to_the_program(backend: Backend) -> None:
    async def fail() -> None:
        await anyio.lowlevel.checkpoint()
        raise ValueError("mine")

    async def program(sweep: Cancellations) -> CallEnd[None]:
        return await sweep.call(fail)

    def check(end: CallEnd[None]) -> list[str]:
        if end.how is not Ended.CANCELLED:
            assert end.how is Ended.RAISED
            assert isinstance(end.error, ValueError)
        return []

    report = sweep_cancellations(program, check, backend=backend)
    assert not report.violations, report
    assert report.runs == report.points + 1 > 1


@both
def test_a_program_that_is_not_repeatable_is_reported(backend: Backend) -> None:
    runs = itertools.count()

    async def program(sweep: Cancellations) -> None:
        steps = Steps(shielded=True)
        if next(runs) == 0:
            await sweep.call(steps.call)

    report = sweep_cancellations(program, backend=backend)
    assert "not repeatable" in report.violations[0].text


@both
def test_a_sweep_with_nothing_under_test_says_what_was_forgotten(backend: Backend) -> None:
    async def forgotten(sweep: Cancellations) -> None:
        await anyio.sleep(1)

    with pytest.raises(ValueError, match=r"await sweep\.call"):
        sweep_cancellations(forgotten, backend=backend)


@both
def test_a_call_that_never_waits_has_no_point(backend: Backend) -> None:
    async def at_once() -> None: ...

    async def program(sweep: Cancellations) -> None:
        await sweep.call(at_once)

    report = sweep_cancellations(program, backend=backend)
    assert (report.points, report.runs, report.violations) == (0, 1, ())


def test_a_run_has_one_cancellation_or_more() -> None:
    async def program(sweep: Cancellations) -> None:
        await sweep.call(anyio.sleep, 1)

    with pytest.raises(ValueError, match="points=0"):
        sweep_cancellations(program, backend="asyncio", points=0)


@both
@pytest.mark.parametrize("said", [None, "all is well", [1]])
def test_a_check_that_returns_no_list_of_texts_is_told_so(backend: Backend, said: Any) -> None:
    async def program(sweep: Cancellations) -> None:
        await sweep.call(anyio.sleep, 1)

    for report in (
        sweep_cancellations(program, lambda _: said, backend=backend),
        sweep_faults(one_turn, lambda _: said, backend=backend),
    ):
        (found,) = report.violations
        assert f"returned {said!r}; it must return what is wrong as a list" in found.text


def test_only_asyncio_cancels_natively() -> None:
    async def program(_sweep: Cancellations) -> None: ...

    with pytest.raises(ValueError, match="only asyncio"):
        sweep_cancellations(program, backend="trio", native=True)


# ---------------------------------------------------------------- faults


class Hook(ISessionLifecycleHook):
    async def on_message_received(self, session_id: str, message: SessionMessage) -> None:
        await anyio.lowlevel.checkpoint()


async def one_turn(faults: Faults) -> tuple[str, list[str]]:
    """The error's name or the answer, and what the history says."""
    manager = create_session_manager(
        faults.storage(InMemorySessionStorage()),
        providers={
            "one": faults.provider(ScriptedProvider(lambda _: "an answer")),
            "two": faults.provider(ScriptedProvider(lambda _: "another")),
        },
        middleware=[faults.middleware(ISessionMiddleware())],
        hooks=[faults.hook(Hook())],
    )
    try:
        session = await manager.create_session("ada", "two", "m", session_id="s")
    except SessionError as error:
        await manager.aclose()
        return type(error).__name__, []
    try:
        told = (await session.send_message("a question")).content
    except SessionError as error:
        told = type(error).__name__
    try:
        history = [message.content for message in await session.get_messages()]
    except SessionError:
        history = [message.content for message in await session.get_messages()]
    await manager.aclose()
    return told, history


@both
def test_every_fault_of_every_call_happens_once(backend: Backend) -> None:
    told: dict[str, int] = {}

    def check(result: tuple[str, list[str]]) -> list[str]:
        told[result[0]] = told.get(result[0], 0) + 1
        return []

    report = sweep_faults(one_turn, check, backend=backend)
    assert not report.violations, report
    assert report.runs == report.points + 1 == sum(told.values())
    assert set(told) >= {"another", "ProviderError", "ProviderTimeoutError", "MessageRefused"}
    assert set(told) >= {"MiddlewareError", "StorageError"}
    # Provider: FAILS, RAISES, BREAKS_OFF, TRUNCATES; middleware: REFUSES for question and answer,
    # RAISES, HANGS and RETURNS_NOTHING for both.
    assert (told["ProviderError"], told["ProviderTimeoutError"]) == (4, 1)
    assert (told["MessageRefused"], told["MiddlewareError"]) == (2, 6)


@both
def test_a_fault_can_be_replayed(backend: Backend) -> None:
    def check(result: tuple[str, list[str]]) -> list[str]:
        return [] if result == ("another", ["a question", "another"]) else [str(result)]

    report = sweep_faults(one_turn, check, backend=backend, seed=2)
    cut = FaultPoint("provider 2", "stream", 1, ProviderFault.TRUNCATES.value)
    (found,) = [violation for violation in report.violations if violation.where == str(cut)]
    assert f"backend={backend!r}, seed=2, at={cut!r}" in found.replay
    again = sweep_faults(one_turn, check, backend=backend, seed=2, at=cut)
    assert (again.runs, again.violations) == (1, (found,))
    where = " ".join(violation.where for violation in report.violations)
    assert MiddlewareFault.RETURNS_NOTHING in where
    assert {f"storage: call {call} of commit full" for call in (1, 2)} <= {
        violation.where for violation in report.violations
    }
    assert "hook" not in where  # what hooks do concerns nobody


@both
def test_a_sweep_without_a_leaf_says_what_was_forgotten(backend: Backend) -> None:
    async def forgotten(faults: Faults) -> None:
        await anyio.sleep(1)

    async def pointless(faults: Faults) -> None:
        faults.storage(InMemorySessionStorage())

    with pytest.raises(ValueError, match="no leaf is wrapped"):
        sweep_faults(forgotten, backend=backend)
    with pytest.raises(ValueError, match="ever called"):
        sweep_faults(pointless, backend=backend)


def test_a_port_that_grows_stops_nobody_from_importing_the_kit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a new method would have to be in every tool before any test can run."""
    monkeypatch.setattr(FaultyStorage, "__abstractmethods__", frozenset({"grown"}))
    module = sys.modules[sweep_faults.__module__]
    spec = importlib.util.find_spec(module.__name__)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


@both
def test_a_fault_that_is_not_met_is_reported(backend: Backend) -> None:
    for leaf, method in (("storage", "commit"), ("provider", "stream"), ("hook 2", "on_x")):
        report = sweep_faults(one_turn, backend=backend, at=FaultPoint(leaf, method, 9, "fails"))
        assert "not repeatable" in report.violations[0].text
