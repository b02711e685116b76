"""Processes that get into trouble with the machine, and out of it again."""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from langswarm.core.session import SessionError

from .mounts import CannotMountError, mount_ext4, mount_tmpfs, remount_read_only
from .workload import (
    Journal,
    attempt,
    close,
    drawn_steps,
    manager_for,
    obtain,
    perform,
    run_sessions,
    sent_steps,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from langswarm.core.session import Session, SessionManager

    from .order import Order
    from .workload import Work

UNTIL_FULL = 2_000
"""Calls after which something should have been full."""
BALLAST_BYTES = 450_000


async def until_refused(
    order: Order, journal: Journal, session: Session, numbers: Iterator[int]
) -> None:
    """Send until it fails three times in a row."""
    failures = 0
    for number in numbers:
        step = "send", text_of(order, session.session_id, number)
        failures = 0 if await perform(journal, session, step) else failures + 1
        if failures == 3 or number > UNTIL_FULL:
            return


async def fill_and_free(order: Order, journal: Journal, free: contextlib.ExitStack) -> None:
    """Send until there is no room, make some, and go on without a restart."""
    manager = manager_for(order)
    numbers = iter(range(UNTIL_FULL * 2))
    session = await obtain(journal, manager, "s0")
    assert session is not None
    await until_refused(order, journal, session, numbers)
    journal.say(full=True)
    free.close()
    for number in range(5):
        step = "send", text_of(order, "s0", UNTIL_FULL * 3 + number)
        await perform(journal, session, step)
    await close(journal, manager)


@contextlib.contextmanager
def limited(kind: int, soft: int) -> Generator[None]:
    """A limit of the process, until it is lifted."""
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


async def small_files(order: Order) -> None:
    """No file may become larger than `value` bytes (RLIMIT_FSIZE)."""
    with contextlib.ExitStack() as limits:
        limits.enter_context(limited(resource.RLIMIT_FSIZE, order.value))
        await fill_and_free(order, Journal(order.journal), limits)


async def small_disk(order: Order) -> None:
    """The folder is a file system of its own of `value` megabytes; 0: in memory, of one."""
    journal = Journal(order.journal)
    folder = Path(order.path).parent
    try:
        if order.value:
            mount_ext4(str(folder), Path(f"{order.journal}.ext4"), order.value)
        else:
            mount_tmpfs(str(folder), "size=1m,mode=700")
    except CannotMountError as error:
        journal.say(skip=str(error))
        return
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(BALLAST_BYTES))
    with contextlib.ExitStack() as room:
        room.callback(ballast.unlink)
        await fill_and_free(order, journal, room)
    for file in folder.glob("sessions.db*"):  # the mount is gone with this process
        shutil.copy(file, f"{order.journal}.{file.name}")


async def try_once(order: Order, journal: Journal, label: str) -> None:
    """Open, one session, one message, close."""
    manager = manager_for(order)
    create = ("create", "")
    session: Session | None = await attempt(
        journal,
        label,
        create,
        lambda: manager.create_session("ann", "mock", "mock-model", session_id=label),
    )
    if session is not None:
        await perform(journal, session, ("send", f"{label}/hello"))
    await close(journal, manager)


async def few_descriptors(order: Order) -> None:
    """Opening with no, one, two ... `value` descriptors left; and again with enough."""
    journal = Journal(order.journal)
    for left in range(order.value):
        with limited(resource.RLIMIT_NOFILE, descriptors() + left):
            await try_once(order, journal, f"with-{left}")
    await try_once(order, journal, "enough")


def descriptors() -> int:
    """One more than the highest that is in use."""
    return max(int(link.name) for link in Path("/proc/self/fd").iterdir()) + 1


async def no_descriptors_later(order: Order) -> None:
    """None is left while it works; then there are some again."""
    journal = Journal(order.journal)
    manager = manager_for(order)
    await run_sessions(order, journal, manager, sent_steps)
    with limited(resource.RLIMIT_NOFILE, 3):
        await send_to_all(order, journal, manager, "without")
    await send_to_all(order, journal, manager, "with")
    with limited(resource.RLIMIT_NOFILE, 3):
        await close(journal, manager)


async def send_to_all(order: Order, journal: Journal, manager: SessionManager, label: str) -> None:
    """One message to each session."""
    for number in range(order.sessions):
        session = await obtain(journal, manager, f"s{number}")
        if session is not None:
            await perform(journal, session, ("send", f"s{number}/{label}"))


async def stepping_clock(order: Order) -> None:
    """The wall clock is off by `value` seconds, and jumps to and fro with every look at it."""
    real, looks = time.time_ns, itertools.count()

    def jumping() -> int:
        return real() + order.value * 10**9 + (next(looks) % 2) * 3_600 * 10**9

    time.time_ns = jumping
    journal = Journal(order.journal)
    manager = manager_for(order)
    await run_sessions(order, journal, manager, sent_steps)
    await close(journal, manager)


async def read_only_folder(order: Order) -> None:
    """Nothing can be written where the database is."""
    journal = Journal(order.journal)
    folder = Path(order.path).parent
    if os.geteuid() != 0:
        folder.chmod(0o500)
    else:
        try:
            copy = folder.with_name("copy")
            folder.rename(copy)
            folder.mkdir()
            mount_tmpfs(str(folder), "size=9m,mode=700")
            shutil.copytree(copy, folder, dirs_exist_ok=True)
            remount_read_only(str(folder))
        except CannotMountError as error:
            journal.say(skip=str(error))
            return
    await try_once(order, journal, "refused")


async def deleted_file(order: Order) -> None:
    """Somebody deletes the database while it is in use."""
    journal = Journal(order.journal)
    manager = manager_for(order)
    await run_sessions(order, journal, manager, sent_steps)
    journal.say(deleted=True)
    for file in Path(order.path).parent.glob("sessions.db*"):
        file.unlink()
    await send_to_all(order, journal, manager, "after")
    await close(journal, manager)


async def with_backup(order: Order) -> None:
    """Backups are made while sessions go on."""
    journal = Journal(order.journal)
    manager = manager_for(order)
    await run_sessions(order, journal, manager, drawn_steps)
    target = Path(f"{order.path}.backup")
    journal.say(begins="backup")
    try:
        await manager.backup(target)
        journal.say(backup=str(target))
    except SessionError as error:
        journal.say(failed="backup", session="", error=type(error).__name__, says=str(error))
    await send_to_all(order, journal, manager, "after the backup")
    await close(journal, manager)


TROUBLES: dict[str, Work] = {
    "small files": small_files,
    "small disk": small_disk,
    "few descriptors": few_descriptors,
    "no descriptors later": no_descriptors_later,
    "stepping clock": stepping_clock,
    "read-only folder": read_only_folder,
    "deleted file": deleted_file,
    "with backup": with_backup,
}
