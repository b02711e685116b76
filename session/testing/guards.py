"""What must hold around a simulation, and be as before when it is over."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import gc
import importlib
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from langswarm.core.session.testing.failures import (
    OutsideSimulationError,
    SimulationInUseError,
    SimulationUnsupportedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

_running = threading.Lock()


def require(owner: object, name: str) -> Any:
    """Get an internal of a library, or say clearly that this version does not have it."""
    try:
        return getattr(owner, name)
    except AttributeError:
        label = getattr(owner, "__name__", type(owner).__name__)
        raise SimulationUnsupportedError(
            f"simulate() needs the internal {label}.{name}, which this version of the library "
            f"(Python {sys.version.split()[0]}) does not have"
        ) from None


def require_module(name: str) -> object:
    """Import a library's internal module, with the same clear refusal."""
    try:
        return importlib.import_module(name)
    except ImportError as exc:
        raise SimulationUnsupportedError(f"simulate() needs the module {name}: {exc}") from exc


@contextmanager
def swapped(owner: object, name: str, replacement: object) -> Generator[None]:
    """Replace an attribute for the length of the block."""
    before = require(owner, name)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def exclusive() -> Generator[None]:
    """Refuse a simulation inside an event loop, or beside another one.

    Trio keeps its scheduling hooks in module globals, so two simulations cannot run side by side in
    one process. Test runners that want parallel work use processes anyhow.
    """
    if _inside_event_loop():
        raise SimulationInUseError(
            "simulate() starts an event loop of its own: call it from plain, synchronous code"
        )
    if not _running.acquire(blocking=False):
        raise SimulationInUseError(
            "another thread runs a simulation: only one at a time can run in a process"
        )
    try:
        yield
    finally:
        _running.release()


def _inside_event_loop() -> bool:
    trio = sys.modules.get("trio")  # never imported for the sake of asyncio users
    if trio is not None and trio.lowlevel.in_trio_run():
        return True
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@contextmanager
def no_cycle_collector() -> Generator[None]:
    """Keep the cyclic garbage collector from running finalizers in the middle of a schedule.

    When it runs depends on everything the process has allocated before, not on the seed, and it can
    wake tasks (weak references, ``__del__``, forgotten async generators).
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def no_threads() -> Generator[None]:
    """Refuse the threads that a program makes itself, as a storage with a driver of its own does.

    Else whoever waits for one looks like a deadlock. Refused when it is made, not when it is
    started: so that nobody holds a thread that will never run.
    """
    with swapped(threading.Thread, "__init__", refuse_threads(threading.Thread.__init__)):
        yield


def refuse_threads(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a library's way to a worker thread, so that the simulated thread cannot take it."""
    simulated = threading.get_ident()

    @functools.wraps(original)
    def guard(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == simulated:
            raise thread_refusal()
        return original(*args, **kwargs)

    return guard


def thread_refusal() -> OutsideSimulationError:
    """Explain why there are no worker threads here."""
    return OutsideSimulationError(
        "threads are outside the simulation: no seed decides when they run; "
        "put a simulated twin behind the same port instead"
    )


def keep_for_ever(objects: Iterable[object]) -> None:
    """Leak on purpose what a run that had to be stopped by force leaves behind.

    A suspended coroutine runs its ``finally`` blocks when it is dropped. With no loop around it,
    such code warns, acts on the next test, or (if it swallows every exception) never returns.
    """
    for item in objects:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(item))
