"""The contract of providers rejects what is wrong, and says what is wrong with it."""

from __future__ import annotations

import re
import unittest
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session import ProviderError
from langswarm.core.session.actors import ports
from langswarm.core.session.testing.provider_contract import (
    CONTRACT,
    CONVERSATIONS,
    CaseSkipped,
    ContractBrokenError,
    ProviderCase,
    ProviderHarness,
    case,
    promises,
    turns,
)

from ..docs.blocks import ROOT
from .providers import SimpleHarness
from .stub_vendor import KEY, Good, StubHarness
from .wrong_providers import (
    CAUGHT_BY,
    ClosesOnce,
    HasItInACause,
    SwapsNeighbours,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from langswarm.core.session.testing import Backend

CASES = CONTRACT + CONVERSATIONS
BY_NAME = {str(one): one for one in CASES}


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes too long does so sooner: for wrong providers alone, a right one may be slow."""
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.5)
    monkeypatch.setattr(turns, "RELEASE_SECONDS", 0.2)


def harness_of(wrong: type[Good]) -> Callable[[], StubHarness]:
    return lambda: StubHarness(wrong)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("one", CASES, ids=str)
def test_a_right_provider_passes_every_case(one: ProviderCase, backend: Backend) -> None:
    assert one.missing(StubHarness()) == []
    one.check(StubHarness, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("wrong", CAUGHT_BY, ids=lambda wrong: wrong.__name__)
# A generator that nobody closes is what some of them are about.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.usefixtures("_impatient")
def test_a_wrong_provider_is_caught_by_the_case_that_names_its_fault(
    wrong: type[Good], backend: Backend
) -> None:
    with pytest.raises((ContractBrokenError, ProviderError, RuntimeError, KeyError)) as caught:
        BY_NAME[CAUGHT_BY[wrong]].check(harness_of(wrong), backend=backend)
    told = [str(caught.value), *getattr(caught.value, "__notes__", ())]
    assert BY_NAME[CAUGHT_BY[wrong]].name in "\n".join(told)


def test_every_case_has_a_wrong_provider() -> None:
    assert set(CAUGHT_BY.values()) == set(BY_NAME)


def test_every_case_has_a_name_of_its_own() -> None:
    assert [name for name, count in Counter(map(str, CASES)).items() if count > 1] == []


@pytest.mark.usefixtures("_impatient")
class TestWhatItSays:
    def test_the_error_names_case_promise_expected_and_found(self) -> None:
        with pytest.raises(ContractBrokenError) as caught:
            BY_NAME["the_text_arrives_in_order"].check(harness_of(SwapsNeighbours))
        first, second, *rest = str(caught.value).splitlines()
        assert first == "the contract of providers: the text arrives in order"
        assert second == "promised by TextDelta: A piece of the answer, in order."
        assert [line.split()[0] for line in rest] == ["wrong:", "expected:", "found:"]
        assert max(map(len, rest)) < 1_000

    def test_an_error_of_the_provider_itself_comes_out_with_a_note(self) -> None:
        with pytest.raises(RuntimeError, match="nothing to close") as caught:
            BY_NAME["aclose_may_come_twice_and_before_any_turn"].check(harness_of(ClosesOnce))
        assert "aclose may come twice" in caught.value.__notes__[-1]

    def test_a_close_that_fails_does_not_hide_the_broken_promise(self) -> None:
        class Both(SwapsNeighbours):
            async def aclose(self) -> None:
                raise RuntimeError("cannot close")

        with pytest.raises(ContractBrokenError, match="arrives in order") as caught:
            BY_NAME["the_text_arrives_in_order"].check(harness_of(Both))
        assert "cannot close" in str(caught.value)

    def test_a_close_that_never_ends_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class NeverCloses(Good):
            async def aclose(self) -> None:
                await anyio.sleep_forever()

        monkeypatch.setattr(case, "_CLOSE_SECONDS", 0.05)
        with pytest.raises(ContractBrokenError, match=r"aclose\(\) returns"):
            BY_NAME["the_text_arrives_in_order"].check(harness_of(NeverCloses))

    def test_a_turn_that_never_ends_is_given_up(self) -> None:
        class NeverAnswers(Good):
            async def next_text(self, lines: object) -> str | None:
                await anyio.sleep_forever()
                return None

        with pytest.raises(ContractBrokenError, match="the turn ends"):
            BY_NAME["the_text_arrives_in_order"].check(harness_of(NeverAnswers))

    def test_a_key_that_is_found_is_not_shown(self) -> None:
        one = BY_NAME["no_key_is_in_an_error_or_its_traceback"]
        with pytest.raises(ContractBrokenError, match="<secret 0>") as caught:
            one.check(harness_of(HasItInACause))
        assert KEY not in str(caught.value)

    @pytest.mark.parametrize("made", [None, Good, object()])
    def test_a_make_that_makes_no_harness_is_named(self, made: object) -> None:
        make: Callable[[], Any] = lambda: made  # noqa: E731 - as it is forgotten
        with pytest.raises(TypeError, match="ProviderHarness"):
            BY_NAME["the_text_arrives_in_order"].check(make)

    def test_a_harness_without_a_provider_is_named(self) -> None:
        nothing: Any = None
        with pytest.raises(TypeError, match="must be an IProvider"):
            BY_NAME["the_text_arrives_in_order"].check(lambda: ProviderHarness(nothing))


class TestSkipping:
    def test_what_cannot_be_arranged_is_skipped_and_named(self) -> None:
        with pytest.raises(CaseSkipped, match="SimpleHarness has no stall_seconds"):
            BY_NAME["a_vendor_that_falls_silent_is_a_failure"].check(SimpleHarness)
        assert issubclass(CaseSkipped, unittest.SkipTest)

    def test_conversations_are_for_who_keeps_them(self) -> None:
        class KeepsNone(Good):
            keeps_conversations = False

        with pytest.raises(CaseSkipped, match=r"no provider\.holds_conversation"):
            CONVERSATIONS[0].check(harness_of(KeepsNone))

    def test_a_harness_that_was_made_is_closed_also_when_skipped_or_broken(self) -> None:
        closed: list[str] = []

        class Counts(StubHarness):
            def close(self) -> None:
                closed.append(type(self.provider).__name__)

        class CannotAnswer(Counts):
            answer = ProviderHarness.answer

        one = BY_NAME["the_text_arrives_in_order"]
        one.check(Counts)
        with pytest.raises(CaseSkipped):
            one.check(CannotAnswer)
        with pytest.raises(ContractBrokenError):
            one.check(lambda: Counts(SwapsNeighbours))
        assert closed == ["Good", "Good", "SwapsNeighbours"]


def one_line(text: str) -> str:
    return " ".join(text.split())


def docstrings() -> dict[str, str]:
    """Where promises may be made, and what is said there."""
    page = (ROOT / "docs/how-to/write-a-provider.md").read_text(encoding="utf-8")
    found = {"Write a provider": one_line(page)}
    source = (ROOT / "actors/ports.py").read_text(encoding="utf-8")
    for name in ("IProvider", "TextDelta", "Completed", "ConversationStarted"):
        found[name] = one_line(getattr(ports, name).__doc__ or "")
    for name, value in vars(ports.IProvider).items():
        if callable(value) and value.__doc__ and not name.startswith("_"):
            found[f"IProvider.{name}"] = one_line(value.__doc__)
    [told] = re.findall(r'provider_session_id: str \| None\n    """(.*?)"""', source, re.DOTALL)[:1]
    found["ProviderRequest.provider_session_id"] = one_line(told)
    return found


@pytest.mark.parametrize("one", CASES, ids=str)
def test_every_case_stands_on_a_sentence_that_is_there(one: ProviderCase) -> None:
    place, _, words = one.promise.partition(": ")
    assert words in docstrings()[place]


def test_every_promise_has_a_case() -> None:
    made = {value for name, value in vars(promises).items() if name.isupper() and name[0] != "_"}
    assert made == {one.promise for one in CASES}
