"""What a case is, and how it speaks when a provider breaks its promise."""

from __future__ import annotations

import contextlib
import gc
import unittest
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

import anyio
import attrs
from langswarm.core.session.actors.ports import IProvider
from langswarm.core.session.testing.expectations import UnmetError, expect, first_of
from langswarm.core.session.testing.provider_contract.harness import ProviderHarness, missing

if TYPE_CHECKING:
    from collections.abc import Generator

    from langswarm.core.session.testing.simulation import Backend

Make = Callable[[], ProviderHarness]
Program = Callable[[ProviderHarness], Awaitable[None]]

_CASE_SECONDS = 30.0
_CLOSE_SECONDS = 10.0


class ContractBrokenError(AssertionError):
    """A provider broke a promise of its port: which one, what was expected, what was found."""


class CaseSkipped(unittest.SkipTest):
    """The case could not find out: it names what the harness would have to arrange."""


@attrs.frozen(kw_only=True, eq=False)
class ProviderCase:
    """One promise that every provider keeps, and the program that finds out."""

    name: str
    """The guarantee, as a sentence."""
    promise: str
    """Where it is promised, and the words: "IProvider.stream: Answer one turn: ..."."""
    needs: tuple[str, ...]
    """What of `ProviderHarness` must be there."""
    loops: str = "a"
    """The event loops that it runs in, with one provider: "a" of the backend, "b" of the other."""
    _program: Program = attrs.field(alias="program", repr=False)

    def __str__(self) -> str:
        """The name in one word, as a test's id."""
        return self.name.replace(" ", "_")

    def check(self, make: Make, *, backend: Backend = "asyncio") -> None:
        """Run the case in an event loop of its own; at most 30 seconds.

        `make` returns a new harness with a new provider. The case closes the provider at the end of
        each event loop, and the harness.

        Raises ContractBrokenError when the provider breaks the promise, and CaseSkipped where the
        harness lacks what the case needs. What the provider raises where it should not comes out
        unchanged, with a note that names the case. Raises TypeError where `make` returns no
        `ProviderHarness` with an `IProvider`.
        """
        harness = _checked(make())
        with contextlib.closing(harness):
            self._skip_unless_able(harness)
            for loop in self.loops:
                with self._named():
                    anyio.run(self._run, harness, backend=_backend(backend, loop))
            gc.collect()  # what was forgotten says so now, not in the next test

    def missing(self, harness: ProviderHarness) -> list[str]:
        """What `check` would skip the case for; []: nothing."""
        lacking = missing(harness, self.needs)
        config = harness.config_of("")
        if "conversations" in self.needs and not harness.provider.holds_conversation(config):
            lacking.append("provider.holds_conversation()")
        return lacking

    def _skip_unless_able(self, harness: ProviderHarness) -> None:
        lacking = self.missing(harness)
        if lacking:
            raise CaseSkipped(
                f"{self.name}: {type(harness).__name__} has no {', '.join(lacking)}; "
                "see ProviderHarness"
            )
        if "b" in self.loops and find_spec("trio") is None:
            raise CaseSkipped(f"{self.name}: there is no second backend, install trio")

    @contextlib.contextmanager
    def _named(self) -> Generator[None, None, None]:
        heading = f"the contract of providers: {self.name}\npromised by {self.promise}"
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised again, with the name of the case
            cause = first_of(error)
            if isinstance(cause, UnmetError):
                notes = getattr(cause, "__notes__", ())
                raise ContractBrokenError("\n".join([heading, str(cause), *notes])) from cause
            cause.add_note(heading)
            raise cause from None

    async def _run(self, harness: ProviderHarness) -> None:
        try:
            with anyio.move_on_after(_CASE_SECONDS) as scope:
                await self._program(harness)
        except BaseException as error:
            await _close_beside(error, harness.provider)
            raise
        expect("all calls return", not scope.cancelled_caught, f"not within {_CASE_SECONDS} s")
        await _close(harness.provider)


def _checked(made: object) -> ProviderHarness:
    if not isinstance(made, ProviderHarness):
        raise TypeError(f"make() must return a new ProviderHarness, not {made!r}")
    if not isinstance(made.provider, IProvider):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"the provider of a harness must be an IProvider, not {made.provider!r}")
    return made


def _backend(backend: Backend, loop: str) -> Backend:
    if loop == "a":
        return backend
    return "trio" if backend == "asyncio" else "asyncio"


async def _close(provider: IProvider) -> None:
    with anyio.move_on_after(_CLOSE_SECONDS, shield=True) as scope:
        await provider.aclose()
    late = scope.cancelled_caught
    expect("aclose() returns", not late, f"it did not within {_CLOSE_SECONDS} s")


async def _close_beside(broken: BaseException, provider: IProvider) -> None:
    """When the case has failed: what aclose() says must not hide that."""
    try:
        await _close(provider)
    except Exception as error:  # noqa: BLE001 - told in a note
        cause = first_of(broken) if isinstance(broken, Exception) else broken
        cause.add_note(f"and aclose() failed: {error!r}")


class Part:
    """Cases that belong together, in the order in which they are written."""

    def __init__(self) -> None:
        self.cases: list[ProviderCase] = []

    def case(
        self, promise: str, *, needs: tuple[str, ...] = ("answer",), loops: str = "a"
    ) -> Callable[[Program], Program]:
        """A case; its name is that of the function."""

        def add(program: Program) -> Program:
            name = getattr(program, "__name__", "").replace("_", " ")
            self.cases.append(
                ProviderCase(name=name, promise=promise, needs=needs, loops=loops, program=program)
            )
            return program

        return add
