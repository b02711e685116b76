"""A storage of your own: sessions in a file of JSON lines.

It keeps the whole contract of `ISessionStorage` in little code, by one idea: the file is a log of
*what was asked for*, and the state is what comes out when that is done in order. So

* `commit` appends the batch to the file as one line, waits until the disk has it (fsync), and only
  then does it, to an `InMemorySessionStorage`, which also decides what conflicts;
* `sweep_claims` and `settle_purge`, which change something too, do the same;
* `open` reads the file and does everything again, with the same decisions and the same keys;
* reads are those of the memory storage.

A process killed in the middle of an append leaves a torn last line. Nobody was told that this batch
is stored, so `open` drops it. A broken line anywhere else is damage, and `open` refuses.

What it does not do. The file only grows, and all of it is read at each start and held in memory: it
suits some ten thousand messages. A line has no checksum, so damage that is still JSON is not found.
When an append or its fsync fails, nobody knows what the disk holds: this object then stores nothing
more. One process at a time uses the file, by a lock that only Unix has. There are no backups.

Try it: python examples/jsonl_storage.py
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
)
from langswarm.core.session.actors.ports import StorageHealth

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from langswarm.core.session.actors.model import MessageQuery, SessionQuery
    from langswarm.core.session.actors.ports import WriteOutcome

    Step = Callable[[InMemorySessionStorage], Awaitable[Any]]


class JsonLinesStorage(ISessionStorage):
    """Keeps sessions in the file at `path`, which is made if it is missing."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).absolute()
        self._state = InMemorySessionStorage()  # closed: it refuses every call until open()
        self._file: int | None = None
        self._size_bytes = 0
        self._broken: str | None = None
        self._one_at_a_time = anyio.Lock()

    # Each change waits for the one before it, and once it has begun it goes to its end: a caller
    # that is cancelled leaves a batch that is stored and done, or one that never began.

    async def open(self) -> None:
        async with self._one_at_a_time:
            if self._file is not None:
                return
            state = InMemorySessionStorage()
            await state.open()
            file, steps = await anyio.to_thread.run_sync(self._open_file)
            for step in steps:
                await step(state)
            self._file, self._state = file, state

    async def close(self) -> None:
        async with self._one_at_a_time:
            if self._file is not None:
                os.close(self._file)  # and with it the lock
                self._file = None
                await self._state.close()

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        async with self._one_at_a_time:
            lines = [_as_json(write) for write in writes]
            good = [line for line in lines if isinstance(line, str)]
            await self._write(f'{{"commit": [{",".join(good)}]}}')
            return await self._do(writes, lines)

    async def sweep_claims(self, before_us: int, limit: int) -> int:
        async with self._one_at_a_time:
            await self._write(json.dumps({"sweep_claims": [before_us, limit]}))
            return await self._state.sweep_claims(before_us, limit)

    async def settle_purge(self, purge: Purge, *, retry_us: int | None, error: str | None) -> None:
        async with self._one_at_a_time:
            await self._write(json.dumps({"settle_purge": [attrs.asdict(purge), retry_us, error]}))
            await self._state.settle_purge(purge, retry_us=retry_us, error=error)

    async def read_back(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        async with self._one_at_a_time:  # behind every commit
            self._check_disk()  # or this would say "not stored" of what the disk may well hold
            return await self._state.load(session_ids)

    async def load(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        return await self._state.load(session_ids)

    async def load_unfinished(self, limit: int) -> Sequence[StoredSession]:
        return await self._state.load_unfinished(limit)

    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        return await self._state.read_messages(key, query)

    async def list_sessions(self, query: SessionQuery) -> Sequence[SessionRecord]:
        return await self._state.list_sessions(query)

    async def read_turn(self, key: int, turn_no: int) -> TurnRecord | None:
        return await self._state.read_turn(key, turn_no)

    async def find_claim(self, scope: str, method: str, key: str) -> Claim | None:
        return await self._state.find_claim(scope, method, key)

    async def load_purges(self, now_us: int, limit: int) -> Sequence[Purge]:
        return await self._state.load_purges(now_us, limit)

    def health(self) -> StorageHealth:
        """Whether it is open, how long the file is, and whether it has stopped writing."""
        return StorageHealth(
            is_open=self._file is not None,
            writes_stopped=self._broken is not None,
            warning=self._broken,
            facts={"path": str(self._path), "size_bytes": self._size_bytes},
        )

    async def _write(self, line: str) -> None:
        """Put what is asked for on the disk; where that fails, nobody knows what the disk holds."""
        if self._file is None:
            raise StorageError("the storage is not open: call open()", code="closed")
        self._check_disk()
        try:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._append, self._file, f"{line}\n".encode())
        except BaseException as error:  # asyncio's own task.cancel() passes every shield
            self._broken = f"{self._path}: {error!r}; nothing more is stored until a restart"
            raise  # the runtime takes it for an outcome unknown, and asks read_back

    async def _do(
        self, writes: Sequence[SessionWrite], lines: Sequence[str | StorageError]
    ) -> list[WriteOutcome]:
        """What is on the disk now is done; the others keep their error."""
        pairs = zip(writes, lines, strict=True)
        good = [write for write, line in pairs if isinstance(line, str)]
        done = iter(await self._state.commit(good))
        return [line if isinstance(line, StorageError) else next(done) for line in lines]

    # ------------------------------------------------------------ the file, in a worker thread

    def _open_file(self) -> tuple[int, list[Step]]:
        """Lock the file and read it; whatever fails leaves nothing open."""
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                text = f"another process or storage object uses {self._path}"
                raise StorageError(text, code="busy", retryable=True) from error
            steps = self._read(file)
            os.fsync(file)  # what was written before a kill is perhaps not on the disk yet
            _sync_folder(self._path.parent)  # a new file is durable once its folder says so
        except BaseException:
            os.close(file)
            raise
        return file, steps

    def _read(self, file: int) -> list[Step]:
        """What the file asks for; cuts off a torn last line."""
        data = self._path.read_bytes()
        lines = data.split(b"\n")
        tail = lines.pop()  # empty, if the last line is whole
        self._size_bytes = len(data) - len(tail)
        steps: list[Step] = []
        for number, line in enumerate(lines, 1):
            try:
                steps.append(_as_step(json.loads(line)))
            except (ValueError, TypeError, KeyError) as error:
                if number < len(lines) or tail:
                    text = f"line {number} of {self._path} is damaged"
                    raise StorageError(text, code="corrupt") from error
                self._size_bytes -= len(line) + 1  # its end can be there before its middle
        if self._size_bytes < len(data):
            os.ftruncate(file, self._size_bytes)
        return steps

    def _append(self, file: int, line: bytes) -> None:
        rest = memoryview(line)
        while rest:
            rest = rest[os.write(file, rest) :]
        os.fsync(file)
        self._size_bytes += len(line)

    def _check_disk(self) -> None:
        if self._broken is not None:
            raise StorageError(self._broken, code="failed_sync")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------- a line, and a write as JSON


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
    return SessionWrite(**fields)


def _as_message(fields: dict[str, Any]) -> MessageRecord:
    fields["role"] = Role(fields["role"])
    return MessageRecord(**fields)


def _as_turn(fields: dict[str, Any] | None) -> TurnRecord | None:
    if fields is None:
        return None
    fields["state"] = TurnState(fields["state"])
    if fields["payload_hash"] is not None:
        fields["payload_hash"] = bytes.fromhex(fields["payload_hash"])
    return TurnRecord(**fields)


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
