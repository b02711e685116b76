"""What a case is, and how it speaks when a storage breaks its promise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio
import attrs
from langswarm.core.session.actors.errors import StorageError
from langswarm.core.session.actors.model import Committed
from langswarm.core.session.actors.ports import ISessionStorage
from langswarm.core.session.testing.expectations import (
    UnmetError,
    expect,
    expect_equal,
    first_of,
    present,
    shown,
)

if TYPE_CHECKING:
    from langswarm.core.session.testing.simulation import Backend

__all__ = [
    "ContractBrokenError",
    "Make",
    "Part",
    "StorageCase",
    "expect",
    "expect_closed",
    "expect_committed",
    "expect_equal",
    "expect_failed",
    "present",
]

Make = Callable[[], ISessionStorage]

_CASE_SECONDS = 30.0
_CLOSE_SECONDS = 10.0


class ContractBrokenError(AssertionError):
    """A storage broke a promise of its port: which one, what was expected, what was found."""


@attrs.frozen(kw_only=True, eq=False)
class StorageCase:
    """One promise that every storage keeps, and the program that finds out."""

    name: str
    """The guarantee, as a sentence."""
    promise: str
    """Where it is promised, and the words: "ISessionStorage.load: The sessions as ..."."""
    _program: Callable[[Make], Awaitable[None]] = attrs.field(alias="program", repr=False)

    def __str__(self) -> str:
        """The name in one word, as a test's id."""
        return self.name.replace(" ", "_")

    def check(self, make: Make, *, backend: Backend = "asyncio") -> None:
        """Run the case in an event loop of its own; at most 30 seconds.

        `make` returns a new, unopened storage, on the same empty place each time it is called in
        one check. The case opens what it needs and closes all that it made.

        Raises ContractBrokenError when the storage breaks the promise. What the storage raises
        itself comes out unchanged, with a note that names the case; what `close` raises beside
        that is a note too. Raises TypeError where `make` returns no `ISessionStorage`.
        """
        try:
            anyio.run(self._run, make, backend=backend)
        except Exception as error:  # noqa: BLE001 - raised again, with the name of the case
            cause = first_of(error)
            if isinstance(cause, UnmetError):
                notes = getattr(cause, "__notes__", ())
                text = "\n".join([self._heading(), str(cause), *notes])
                raise ContractBrokenError(text) from cause
            cause.add_note(self._heading())
            raise cause from None

    async def _run(self, make: Make) -> None:
        made: list[ISessionStorage] = []

        def make_and_note() -> ISessionStorage:
            made.append(_checked(make()))
            return made[-1]

        try:
            with anyio.move_on_after(_CASE_SECONDS) as scope:
                await self._program(make_and_note)
        except BaseException as error:
            await _close_beside(error, made)
            raise
        expect(
            "all calls return",
            not scope.cancelled_caught,
            f"one that did not within {_CASE_SECONDS} s",
        )
        await _close_all(made)

    def _heading(self) -> str:
        return f"the contract of storages: {self.name}\npromised by {self.promise}"


def _checked(made: object) -> ISessionStorage:
    if not isinstance(made, ISessionStorage):
        raise TypeError(f"make() must return a new storage, an ISessionStorage; not {made!r}")
    return made


async def _close_all(made: list[ISessionStorage]) -> None:
    """Each of them, whatever the others say; raises the first error."""
    errors: list[Exception] = []
    with anyio.move_on_after(_CLOSE_SECONDS, shield=True) as scope:
        for storage in made:
            try:
                await storage.close()
            except Exception as error:  # noqa: BLE001 - raised when the others are closed, too
                errors.append(error)
    late = scope.cancelled_caught
    expect("close() returns", not late, f"it did not within {_CLOSE_SECONDS} s")
    if errors:
        raise errors[0]


async def _close_beside(broken: BaseException, made: list[ISessionStorage]) -> None:
    """When the case has failed: what close() says must not hide that."""
    try:
        await _close_all(made)
    except Exception as error:  # noqa: BLE001 - told in a note
        cause = first_of(broken) if isinstance(broken, Exception) else broken
        cause.add_note(f"and close() failed: {error!r}")


class Part:
    """Cases that belong together, in the order in which they are written."""

    def __init__(self) -> None:
        self.cases: list[StorageCase] = []

    def opened(
        self, promise: str
    ) -> Callable[[Callable[[ISessionStorage], Awaitable[None]]], None]:
        """A case that is given an open storage; its name is that of the function."""

        def add(program: Callable[[ISessionStorage], Awaitable[None]]) -> None:
            async def open_first(make: Make) -> None:
                storage = make()
                await storage.open()
                await program(storage)

            self.add(program.__name__, promise, open_first)

        return add

    def unopened(self, promise: str) -> Callable[[Callable[[Make], Awaitable[None]]], None]:
        """A case that makes and opens its storages itself."""

        def add(program: Callable[[Make], Awaitable[None]]) -> None:
            self.add(program.__name__, promise, program)

        return add

    def add(self, name: str, promise: str, program: Callable[[Make], Awaitable[None]]) -> None:
        """A case by its parts."""
        name = name.replace("_", " ")
        self.cases.append(StorageCase(name=name, promise=promise, program=program))


# ---------------------------------------------------------------- expectations


def expect_committed(what: str, outcome: object) -> Committed:
    """That the outcome of a write is Committed."""
    if not isinstance(outcome, Committed):
        raise UnmetError(f"expected: {what}: Committed\nfound:    {shown(outcome)}")
    return outcome


def expect_failed(what: str, outcome: object) -> StorageError:
    """That the outcome of a write is a StorageError which says that nothing of it is stored."""
    if not isinstance(outcome, StorageError) or outcome.outcome != "failed":
        raise UnmetError(
            f'expected: {what}: a StorageError(outcome="failed")\nfound:    {shown(outcome)}'
        )
    return outcome


async def expect_closed(what: str, call: Callable[[], Awaitable[object]]) -> None:
    """That the call raises StorageError of code "closed"."""
    try:
        found = await call()
    except StorageError as error:
        expect_equal(f"{what} on a storage that is not open", error.code, "closed")
        expect_equal(f"{what} on a storage that is not open", error.outcome, "failed")
        return
    raise UnmetError(
        f'expected: {what} on a storage that is not open raises StorageError(code="closed")\n'
        f"found:    it returned {shown(found)}"
    )
