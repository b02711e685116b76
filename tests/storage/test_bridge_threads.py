"""No wake-up is lost however the two threads of the bridge preempt each other, line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from langswarm.core.session.adapters.storage.loop_thread import Bridge, _Call, _Host

from .interleaving import every_interleaving

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from types import CodeType

    from langswarm.core.session.actors.wait import Backend


class Cell:
    """Waits for ever, and counts how often it is set."""

    def __init__(self) -> None:
        self.values = 0

    def __await__(self) -> Generator[None, None, None]:
        yield

    async def wait(self) -> None:
        await self

    def set(self, _value: object) -> None:
        self.values += 1


class Loop:
    """Stands for the host's event loop, wherever it is looked at."""

    def __init__(self) -> None:
        self.cells: list[Cell] = []

    def is_current(self) -> bool:
        return True

    def cell(self) -> Cell:
        self.cells.append(Cell())
        return self.cells[-1]


async def operation() -> None: ...


def finish(coroutine: Coroutine[Any, Any, object]) -> None:
    with pytest.raises(StopIteration):
        coroutine.send(None)


class Crossing:
    """A bridge whose wake-ups are lists: they are delivered when the threads are done."""

    def __init__(self, make: Callable[..., Bridge]) -> None:
        self.to_worker: list[Callable[[], None]] = []
        self.to_host: list[Callable[[], None]] = []
        self.started: list[Coroutine[Any, Any, None]] = []
        self.calls: list[Coroutine[Any, Any, None]] = []
        self.loop = Loop()
        self.bridge = make(
            start=self.started.append,
            wake_worker=self.to_worker.append,
            wake_host=self.post_to_host,
        )
        self.bridge._host = _Host(cast("Backend", self.loop), self.bridge._wake_host)

    def post_to_host(self, _backend: Backend, callback: Callable[[], None]) -> None:
        self.to_host.append(callback)

    def hand_over(self) -> None:
        """A call, up to where it waits."""
        call = self.bridge.call(operation)
        self.calls.append(call)
        call.send(None)

    def wake_worker(self) -> None:
        """One wake-up arrives."""
        self.to_worker.pop(0)()

    def wake_host(self) -> None:
        self.to_host.pop(0)()

    def work(self) -> None:
        """Whatever has been started ends, which gives its result."""
        while self.started:
            finish(self.started.pop(0))

    def close(self) -> None:
        for call in self.calls:
            call.close()
        for coroutine in self.started:
            coroutine.close()


def code_of(function: Callable[..., object]) -> CodeType:
    return function.__code__


def lost_calls(make: Callable[..., Bridge], codes: set[CodeType]) -> tuple[int, int]:
    """A call is handed over while the worker drains an earlier one: (orders, orders that lose)."""
    crossings: list[Crossing] = []

    def prepare() -> tuple[Callable[[], None], Callable[[], None]]:
        crossing = Crossing(make)
        crossing.hand_over()
        crossings.append(crossing)
        return crossing.wake_worker, crossing.hand_over

    orders = lost = 0
    for _ in every_interleaving(prepare, codes):
        crossing = crossings.pop()
        while crossing.to_worker:
            crossing.wake_worker()
        orders += 1
        lost += len(crossing.started) != 2
        crossing.close()
    return orders, lost


def lost_results(make: Callable[..., Bridge], codes: set[CodeType]) -> tuple[int, int]:
    """A result is given while the host takes an earlier one."""
    crossings: list[Crossing] = []

    def prepare() -> tuple[Callable[[], None], Callable[[], None]]:
        crossing = Crossing(make)
        crossing.hand_over()
        crossing.hand_over()
        crossing.wake_worker()
        finish(crossing.started.pop(0))
        crossings.append(crossing)
        return crossing.wake_host, crossing.work

    orders = lost = 0
    for _ in every_interleaving(prepare, codes):
        crossing = crossings.pop()
        while crossing.to_host:
            crossing.wake_host()
        orders += 1
        lost += [cell.values for cell in crossing.loop.cells] != [1, 1]
        crossing.close()
    return orders, lost


def test_no_call_is_lost_between_the_threads() -> None:
    orders, lost = lost_calls(Bridge, {code_of(Bridge.call), code_of(Bridge.drain)})
    assert orders > 100
    assert lost == 0


def test_no_result_is_lost_between_the_threads() -> None:
    orders, lost = lost_results(Bridge, {code_of(_Host.give), code_of(_Host._deliver)})
    assert orders > 20
    assert lost == 0


def test_a_flag_that_is_lowered_after_draining_loses_calls() -> None:
    """The test has teeth."""

    class Late(Bridge):
        def drain(self) -> None:
            while self._inbox:
                self._start(self._run(self._inbox.popleft()))
            self._woken = False

    assert lost_calls(Late, {code_of(Bridge.call), code_of(Late.drain)})[1] > 0


def test_a_flag_that_is_lowered_after_delivering_loses_results(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def deliver(host: _Host) -> None:
        while host._finished:
            call: _Call = host._finished.popleft()
            call.cell.set(None)
        host._woken = False

    monkeypatch.setattr(_Host, "_deliver", deliver)
    assert lost_results(Bridge, {code_of(_Host.give), code_of(deliver)})[1] > 0
