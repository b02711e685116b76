"""Points at which a test holds the server, so that no test needs to sleep."""

from __future__ import annotations

import asyncio
import threading

import anyio.to_thread

PATIENCE_SECONDS = 40.0


class Gate:
    """Requests that come to it wait until the test lets them pass.

    `wait()` (or `await reached()`) returns when one waits there; `release()` lets all pass, from
    then on; `step(n)` lets n pass.

    What the server wrote before the gate is on its way then; whether the client has read it, only
    the client knows.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._arrived = 0
        self._permits = 0
        self._open = False
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    @property
    def arrivals(self) -> int:
        """How often something came to it."""
        with self._changed:
            return self._arrived

    def wait(self, arrivals: int = 1, seconds: float = PATIENCE_SECONDS) -> None:
        """Until something came to it so many times. TimeoutError after `seconds`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._arrived >= arrivals, seconds):
                raise TimeoutError(f"{self._arrived} of {arrivals} came to the gate")

    async def reached(self, arrivals: int = 1) -> None:
        """`wait()` for async tests."""
        await anyio.to_thread.run_sync(self.wait, arrivals, abandon_on_cancel=True)

    def release(self) -> None:
        """It is open from now on."""
        with self._changed:
            self._open = True
            self._wake()

    def step(self, count: int = 1) -> None:
        """Let `count` pass: of those that wait, or that come later."""
        with self._changed:
            self._permits += count
            self._wake()

    def _wake(self) -> None:
        for loop, event in self._waiting:
            loop.call_soon_threadsafe(event.set)

    async def hold(self) -> None:
        """The server's side: wait to be let through."""
        event = asyncio.Event()
        entry = (asyncio.get_running_loop(), event)
        with self._changed:
            self._arrived += 1
            self._waiting.append(entry)
            self._changed.notify_all()
        try:
            while not self._passes():
                await event.wait()
                event.clear()
        finally:
            with self._changed:
                self._waiting.remove(entry)

    def _passes(self) -> bool:
        with self._changed:
            if self._open:
                return True
            if self._permits:
                self._permits -= 1
                return True
            return False
