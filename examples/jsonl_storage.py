"""A storage of your own: sessions in a file of JSON lines.

It keeps the whole contract of `ISessionStorage` in little code, by one idea: the file is a log of
*what was asked for*, and the state is what comes out when that is done in order. So

* `commit` appends the batch to the file as one line, waits until the disk has it (fsync), and only
  then does it, to an `InMemorySessionStorage`, which also decides what conflicts;
* `sweep_claims`, `settle_purge` and `erase_user`, which change something too, do the same;
* `open` reads the file and does everything again, with the same decisions and the same keys;
* reads are those of the memory storage.

Callers go away in the middle of it: a task is cancelled, an event loop ends. So one thread of the
storage's own does all that touches the file, one thing after the other, whether or not somebody
still waits. What it has appended is a *step* that is left to be done to the state, by that caller
or by the next one. `read_back`, `close` and `open` queue behind the append that is running.

A process killed in the middle of an append leaves a torn last line, which its checksum gives away.
Nobody was told that this batch is stored, so `open` drops it, and `health` counts its bytes. A line
before others that is not as it was written is damage, and so is a whole line that asks for
something unknown, as another version of this program might write it: then `open` refuses.

What it does not do. The file only grows, and all of it is read at each start and held in memory: it
suits some ten thousand messages. Damage to the last line looks as if that were torn. When an append
or its fsync fails, or the file was moved or replaced meanwhile, nobody knows what the disk holds:
this object then stores nothing more. One process at a time uses the file, by a lock that only Unix
has; a forked child has to make a storage of its own. There are no backups.

Try it: python examples/jsonl_storage.py
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import tempfile
import zlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import anyio
import anyio.to_thread
import attrs
from langswarm.core.session import (
    InMemorySessionStorage,
    ISessionStorage,
    StorageError,
    create_session_manager,
)
from langswarm.core.session.actors.model import (
    Claim,
    Counters,
    MessageRecord,
    Purge,
    Role,
    SessionDocuments,
    SessionRecord,
    SessionStatus,
    SessionWrite,
    StoredSession,
    TurnRecord,
    TurnState,
    UsageRecord,
)
from langswarm.core.session.actors.ports import StorageHealth

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from langswarm.core.session.actors.model import (
        MessageQuery,
        SessionPage,
        SessionQuery,
        UsageQuery,
        UsageReport,
    )
    from langswarm.core.session.actors.ports import WriteOutcome

    Step = Callable[[InMemorySessionStorage], Awaitable[Any]]

P = ParamSpec("P")
T = TypeVar("T")


class JsonLinesStorage(ISessionStorage):
    """Keeps sessions in the file at `path`, which is made if it is missing."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).absolute()
        self._state = InMemorySessionStorage()  # closed: it refuses every call until open()
        self._one_at_a_time = anyio.Lock()
        self._thread = ThreadPoolExecutor(1, "json-lines")
        self._process = os.getpid()
        # From here on, only the thread changes anything; but for steps, which are taken off.
        self._file: int | None = None
        self._steps: deque[Step] = deque()
        self._size_bytes = 0
        self._dropped_bytes = 0
        self._broken: str | None = None

    async def open(self) -> None:
        async with self._one_at_a_time:
            if self._state.health().is_open:
                return
            try:
                await self._in_thread(self._open_file)
            except BaseException:
                await self._in_thread(self._close_file)  # behind an opening that was cancelled
                raise
            self._state = InMemorySessionStorage()
            await self._state.open()
            await self._do_steps()

    async def close(self) -> None:
        async with self._one_at_a_time:
            await self._state.close()
            await self._in_thread(self._close_file)

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        lines = [_as_json(write) for write in writes]
        pairs = zip(writes, lines, strict=True)
        good = [write for write, line in pairs if isinstance(line, str)]
        batch = ",".join(line for line in lines if isinstance(line, str))
        outcomes = await self._change(f'{{"commit": [{batch}]}}', lambda state: state.commit(good))
        done = iter(outcomes)
        return [line if isinstance(line, StorageError) else next(done) for line in lines]

    async def sweep_claims(self, before_us: int, limit: int) -> int:
        line = json.dumps({"sweep_claims": [before_us, limit]})
        swept: int = await self._change(line, lambda state: state.sweep_claims(before_us, limit))
        return swept

    async def settle_purge(self, purge: Purge, *, retry_us: int | None, error: str | None) -> None:
        line = json.dumps({"settle_purge": [attrs.asdict(purge), retry_us, error]})
        await self._change(
            line, lambda state: state.settle_purge(purge, retry_us=retry_us, error=error)
        )

    async def erase_user(self, user_id: str) -> None:
        line = json.dumps({"erase_user": user_id})
        await self._change(line, lambda state: state.erase_user(user_id))

    async def read_back(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        async with self._one_at_a_time:
            # Behind every append; or this would say "not stored" of what the disk may well hold.
            await self._in_thread(self._check_disk)
            await self._do_steps()
            return await self._state.load(session_ids)

    async def load(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        return await self._state.load(session_ids)

    async def load_unfinished(self, limit: int) -> Sequence[StoredSession]:
        return await self._state.load_unfinished(limit)

    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        return await self._state.read_messages(key, query)

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        return await self._state.list_sessions(query)

    async def read_usage(self, query: UsageQuery) -> UsageReport:
        return await self._state.read_usage(query)

    async def read_turn(self, key: int, turn_no: int) -> TurnRecord | None:
        return await self._state.read_turn(key, turn_no)

    async def find_claim(self, scope: str, method: str, key: str) -> Claim | None:
        return await self._state.find_claim(scope, method, key)

    async def load_purges(self, now_us: int, limit: int) -> Sequence[Purge]:
        return await self._state.load_purges(now_us, limit)

    def health(self) -> StorageHealth:
        """Whether it is open, how long the file is, and whether it has stopped writing."""
        return StorageHealth(
            is_open=self._state.health().is_open,
            writes_stopped=self._broken is not None,
            warning=self._broken,
            facts={
                "path": str(self._path),
                "size_bytes": self._size_bytes,
                "dropped_bytes": self._dropped_bytes,
            },
        )

    async def _change(self, line: str, step: Step) -> Any:
        """Put what is asked for on the disk, and do it; returns what came out."""
        async with self._one_at_a_time:
            if not self._state.health().is_open:
                raise StorageError("the storage is not open: call open()", code="closed")
            await self._in_thread(self._append, line, step)
            return await self._do_steps()

    async def _do_steps(self) -> Any:
        """Do what the disk has and the state has not; returns what came out of the last step."""
        done = None
        while self._steps:
            done = await self._steps.popleft()(self._state)
        return done

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Have the thread do it, and wait for that. Once it has begun it goes to its end."""
        if os.getpid() != self._process:
            text = f"this process was forked: it cannot use the storage of its parent: {self._path}"
            raise StorageError(text, code="closed")
        job = self._thread.submit(work, *args, **kwargs)
        with anyio.CancelScope(shield=True):
            try:
                await anyio.to_thread.run_sync(wait_for, [job])
            except anyio.get_cancelled_exc_class():  # asyncio's own task.cancel() passes shields
                await anyio.to_thread.run_sync(wait_for, [job])
                raise
        return job.result()

    # ------------------------------------------------------------ the file, in the thread

    def _open_file(self) -> None:
        """Lock the file and read it; whatever fails leaves nothing open."""
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                text = f"another process or storage object uses {self._path}"
                raise StorageError(text, code="busy", retryable=True) from error
            self._steps = deque(self._read(file))
            os.fsync(file)  # what was written before a kill is perhaps not on the disk yet
            _sync_folder(self._path.parent)  # a new file is durable once its folder says so
        except BaseException:
            os.close(file)
            raise
        self._file = file

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)  # and with it the lock
            self._file = None

    def _read(self, file: int) -> list[Step]:
        """What the file asks for; cuts off a torn last line."""
        data = _read_all(file)
        lines = data.split(b"\n")
        torn_bytes = len(lines.pop())  # 0, if the last line has its end
        steps: list[Step] = []
        for number, line in enumerate(lines, 1):
            asked = _unsealed(line)
            if asked is None and number == len(lines) and not torn_bytes:
                torn_bytes = len(line) + 1  # its end can be on the disk before its middle
                break
            try:
                steps.append(_as_step(json.loads(asked or b"")))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                what = "is damaged" if asked is None else "asks for something unknown"
                text = f"line {number} of {self._path} {what}"
                raise StorageError(text, code="corrupt") from error
        if torn_bytes:
            os.ftruncate(file, len(data) - torn_bytes)
        self._size_bytes, self._dropped_bytes = len(data) - torn_bytes, torn_bytes
        return steps

    def _append(self, line: str, step: Step) -> None:
        """Append the line, for good; where that fails, nobody knows what the disk holds."""
        self._check_disk()
        assert self._file is not None
        data = _sealed(line)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
            _check_place(self._file, self._path)
        except BaseException as error:
            self._broken = f"{self._path}: {error!r}; nothing more is stored until a restart"
            raise  # the runtime takes it for an outcome unknown, and asks read_back
        self._size_bytes += len(data)
        self._steps.append(step)

    def _check_disk(self) -> None:
        if self._broken is not None:
            raise StorageError(self._broken, code="failed_sync")


def _read_all(file: int) -> bytes:
    with open(file, "rb", closefd=False) as stream:
        return stream.read()


def _check_place(file: int, path: Path) -> None:
    """That who opens the path finds what was written to this file."""
    if not os.path.samestat(os.fstat(file), path.stat()):
        raise OSError(errno.ESTALE, "another file has taken its place")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------- a line, and a write as JSON


def _sealed(asked: str) -> bytes:
    """A line of the file: the checksum of what is asked for, and that."""
    data = asked.encode()
    return b"%08x %b\n" % (zlib.crc32(data), data)


def _unsealed(line: bytes) -> bytes | None:
    """What was asked for; None: the line is not as it was written."""
    checksum, _, asked = line.partition(b" ")
    return asked if checksum == b"%08x" % zlib.crc32(asked) else None


def _as_step(asked: dict[str, Any]) -> Step:
    """What a line asks for, to be done to the state."""
    match asked:
        case {"commit": [*batch]}:
            writes = [_as_write(fields) for fields in batch]
            return lambda state: state.commit(writes)
        case {"sweep_claims": [before_us, limit]}:
            return lambda state: state.sweep_claims(before_us, limit)
        case {"settle_purge": [fields, retry_us, error]}:
            purge = Purge(**fields)
            return lambda state: state.settle_purge(purge, retry_us=retry_us, error=error)
        case {"erase_user": user_id}:
            return lambda state: state.erase_user(user_id)
        case _:
            raise ValueError("no such line")


def _as_json(write: SessionWrite) -> str | StorageError:
    """The write in one line, or why it alone cannot be stored."""

    def plain(_owner: object, _field: object, value: Any) -> Any:
        return value.hex() if isinstance(value, bytes) else value

    try:
        line = json.dumps(attrs.asdict(write, value_serializer=plain))
        if _as_write(json.loads(line)) == write:
            return line
        return StorageError("the write would come back as another one", code="invalid")
    except (TypeError, ValueError) as error:
        return StorageError(f"the write cannot be stored: {error}", code="invalid")


def _as_write(fields: dict[str, Any]) -> SessionWrite:
    after, record = fields["after"], fields["after"]["record"]
    record["status"] = SessionStatus(record["status"])
    record["counters"] = Counters(**record["counters"])
    fields["after"] = StoredSession(
        record=SessionRecord(**record),
        documents=SessionDocuments(**after["documents"]),
        open_turn=_as_turn(after["open_turn"]),
    )
    fields["messages"] = tuple(_as_message(message) for message in fields["messages"])
    fields["marks"] = tuple((seq, finish_reason) for seq, finish_reason in fields["marks"])
    fields["hides"] = tuple((first, last, by) for first, last, by in fields["hides"])
    fields["turn"] = _as_turn(fields["turn"])
    fields["claim"] = _as_claim(fields["claim"])
    fields["purges"] = tuple(Purge(**purge) for purge in fields["purges"])
    fields["past_turns"] = tuple(_as_past_turn(turn) for turn in fields["past_turns"])
    fields["tags"] = None if fields["tags"] is None else tuple(fields["tags"])
    fields["usage"] = _as_usage(fields["usage"])
    return SessionWrite(**fields)


def _as_message(fields: dict[str, Any]) -> MessageRecord:
    fields["role"] = Role(fields["role"])
    return MessageRecord(**fields)


def _as_turn(fields: dict[str, Any] | None) -> TurnRecord | None:
    return None if fields is None else _as_past_turn(fields)


def _as_past_turn(fields: dict[str, Any]) -> TurnRecord:
    fields["state"] = TurnState(fields["state"])
    if fields["payload_hash"] is not None:
        fields["payload_hash"] = bytes.fromhex(fields["payload_hash"])
    return TurnRecord(**fields)


def _as_usage(fields: dict[str, Any] | None) -> UsageRecord | None:
    if fields is None:
        return None
    fields["latencies"] = tuple(fields["latencies"])
    return UsageRecord(**fields)


def _as_claim(fields: dict[str, Any] | None) -> Claim | None:
    if fields is None:
        return None
    fields["payload_hash"] = bytes.fromhex(fields["payload_hash"])
    return Claim(**fields)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.jsonl"
        async with create_session_manager(JsonLinesStorage(path)) as manager:
            session = await manager.create_session("ada", "mock", "mock-model")
            await session.send_message("Hello")
        async with create_session_manager(JsonLinesStorage(path)) as manager:
            again = await manager.get_session(session.session_id)
            for message in await again.get_messages():
                print(f"{message.role}: {message.content}")


if __name__ == "__main__":
    anyio.run(main)
