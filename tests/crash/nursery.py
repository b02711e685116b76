"""Started as a process of its own, with the shim: forks one child per order.

A fork takes a hundredth of the time of a new interpreter with all its imports, so that a test can
afford a process per write of a scenario. It never opens a storage itself, and so has no threads.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import pkgutil
import sys
import traceback

import anyio

from . import troubles, workload
from .order import ACTIONS, Order

# A process that has run for a while has imported everything; one without descriptors cannot.
for _name in ("anyio._backends._asyncio", "anyio._backends._trio", "aiosqlite", "sqlite3"):
    importlib.import_module(_name)
for _package in ("actors", "adapters.storage", "adapters.storage.sqlite", "runtime"):
    _parent = importlib.import_module(f"langswarm.core.session.{_package}")
    for _module in pkgutil.iter_modules(_parent.__path__, f"{_parent.__name__}."):
        importlib.import_module(_module.name)

WORKS = {**workload.WORKS, **troubles.TROUBLES}


def arm(order: Order) -> None:
    """Tell the shim, if it is there."""
    shim = workload.shim()
    if shim is None:
        return
    shim.shim_arm(
        os.fsencode(order.path),
        os.fsencode(order.journal),
        os.fsencode(order.record),
        ACTIONS.index(order.action),
        ctypes.c_long(order.nth),
        ctypes.c_long(order.times),
        order.error,
        int(order.skip_sync),
    )


def child(order: Order) -> None:
    """Does what is ordered; never returns."""
    status = 1
    try:
        arm(order)
        anyio.run(WORKS[order.work], order, backend=order.backend)
        status = 0
    except BaseException:  # noqa: BLE001 - the process ends here, whatever it is
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """One order per line; answers with the child's id, and at its end with its wait status."""
    for line in sys.stdin:
        order = Order(**json.loads(line))
        pid = os.fork()
        if pid == 0:
            child(order)
        print(pid, flush=True)  # noqa: T201 - this is how it answers
        _, status = os.waitpid(pid, 0)
        print(status, flush=True)  # noqa: T201 - this is how it answers


if __name__ == "__main__":
    main()
