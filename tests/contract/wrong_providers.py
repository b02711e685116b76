"""Providers that break the contract, each in one way and named by the case that finds it."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import attrs
from langswarm.core.session import ConfigurationError, ProviderError
from langswarm.core.session.actors.model import Role
from langswarm.core.session.providers import Completed, ConversationStarted, TextDelta

from .stub_vendor import KEY, Good, VendorError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from langswarm.core.session.providers import ProviderEvent, ProviderRequest

CAUGHT_BY: dict[type[Good], str] = {}


def caught_by(case: str) -> Callable[[type[Good]], type[Good]]:
    def note(wrong: type[Good]) -> type[Good]:
        CAUGHT_BY[wrong] = case
        return wrong

    return note


def events_of(wrong: Good, request: ProviderRequest) -> Any:
    """Those of the right one."""
    return Good.stream(wrong, request)


# ---------------------------------------------------------------- answers


@caught_by("the_text_arrives_in_order")
class SwapsNeighbours(Good):
    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        held: ProviderEvent | None = None
        async for event in events_of(self, request):
            if held is not None:
                yield event
                yield held
                held = None
            elif isinstance(event, TextDelta):
                held = event
            else:
                yield event
        if held is not None:
            yield held


@caught_by("every_character_arrives_as_it_was_said")
class StripsPieces(Good):
    """Harmless for words, not for line ends."""

    def read(self, line: str) -> str | None:
        text = super().read(line)
        return text if text is None else text.rstrip("\r\n")


@caught_by("a_long_answer_arrives_whole")
class StopsAtSomeLength(Good):
    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        size = 0
        async for event in events_of(self, request):
            if isinstance(event, TextDelta):
                size += len(event.text)
                if size > 65_536:
                    continue
            yield event


@caught_by("completed_is_the_last_event_and_comes_once")
class CompletesTwice(Good):
    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        async for event in events_of(self, request):
            yield event
            if isinstance(event, Completed):
                yield event


@caught_by("completed_is_the_last_event_and_comes_once")
class CompletesAtFirst(Good):
    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        yield Completed()
        async for event in events_of(self, request):
            yield event


@caught_by("the_whole_window_is_taken")
class TakesShortWindows(Good):
    def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        if len(request.messages) > 10:
            raise ProviderError("too long", code="context_length")
        return super().stream(request)


@caught_by("two_user_messages_side_by_side_are_taken")
class WantsRolesToAlternate(Good):
    def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        roles = [message.role for message in request.messages]
        if [Role.USER, Role.USER] in [roles[at : at + 2] for at in range(len(roles))]:
            raise ProviderError("roles must alternate", code="invalid_request")
        return super().stream(request)


@caught_by("counts_and_ids_are_within_their_bounds")
class CountsInHalves(Good):
    def last(self, name: str) -> Completed:
        half: Any = 1.5
        return attrs.evolve(super().last(name), output_tokens=half)


@caught_by("counts_and_ids_are_within_their_bounds")
class NamesItWithNothing(Good):
    def last(self, name: str) -> Completed:
        return attrs.evolve(super().last(name), provider_message_id="")


@caught_by("counts_and_ids_are_within_their_bounds")
class TellsObjects(Good):
    def last(self, name: str) -> Completed:
        return attrs.evolve(super().last(name), metadata={"provider": self})


@caught_by("many_turns_at_once_do_not_mix")
class SharesABuffer(Good):
    buffer = ""

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        self.buffer = ""
        async for event in events_of(self, request):
            if isinstance(event, TextDelta):
                self.buffer += event.text
            elif isinstance(event, Completed):
                yield TextDelta(self.buffer)
                yield event
            else:
                yield event


@caught_by("a_request_is_left_as_it_is")
class AddsADefault(Good):
    def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        config: Any = request.config
        config.setdefault("temperature", 1.0)
        return super().stream(request)


@caught_by("a_request_is_not_kept")
class RemembersTheLastRequest(Good):
    def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        self.request = request
        return super().stream(request)


@caught_by("nothing_about_a_conversation_comes_after_text")
class TellsTheConversationLate(Good):
    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        held: ConversationStarted | None = None
        async for event in events_of(self, request):
            if isinstance(event, ConversationStarted):
                held = event
                continue
            yield event
            if held is not None:
                yield held
                held = None


# ---------------------------------------------------------------- failures


@caught_by("what_fails_at_the_vendor_raises_a_provider_error_of_its_code")
class LetsTheVendorsErrorOut(Good):
    def translated(self, error: VendorError) -> Exception:
        return error


@caught_by("what_fails_at_the_vendor_raises_a_provider_error_of_its_code")
class KnowsOneCode(Good):
    def translated(self, error: VendorError) -> Exception:
        return ProviderError(str(error), code="internal")


@caught_by("what_fails_at_the_vendor_raises_a_provider_error_of_its_code")
class HasNothingToSay(Good):
    def translated(self, error: VendorError) -> Exception:
        return ProviderError("", code=error.code)


@caught_by("what_makes_no_sense_raises_a_provider_error")
class TrustsTheVendor(Good):
    def read(self, line: str) -> str | None:
        text: str | None = json.loads(line).get("text")
        return text


@caught_by("a_failure_in_the_middle_repeats_nothing")
class TriesAgainAfterText(Good):
    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        for _ in range(2):
            try:
                async for event in events_of(self, request):
                    yield event
            except ProviderError as error:
                if error.code != "overloaded":
                    raise
            else:
                return
        raise ProviderError("still overloaded", code="overloaded")


@caught_by("an_answer_that_was_cut_off_is_a_failure")
class TakesTheEndForGood(Good):
    def cut_off(self) -> str | None:
        return None


@caught_by("an_answer_that_was_cut_off_before_any_text_is_a_failure")
class TakesNothingForAnAnswer(Good):
    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        text = False
        try:
            async for event in events_of(self, request):
                text = text or isinstance(event, TextDelta)
                yield event
        except ProviderError as error:
            if error.code != "truncated" or text:
                raise
            yield Completed()


@caught_by("a_vendor_that_falls_silent_is_a_failure")
class WaitsForEver(Good):
    def patience(self) -> float:
        return float("inf")


# ---------------------------------------------------------------- endings


@caught_by("closing_in_the_middle_of_an_answer_releases_everything")
class LeavesTheVendorWorking(Good):
    def __init__(self, vendor: Any) -> None:
        super().__init__(vendor)
        self.left: list[object] = []

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        events = events_of(self, request)
        self.left.append(events)
        async for event in events:
            yield event


class _HoldsOn(Good):
    """Obeys late: it waits for the vendor, shielded."""

    async def next_text(self, lines: AsyncIterator[str]) -> str | None:
        try:
            return await super().next_text(lines)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.3)
            raise


@caught_by("a_turn_is_cancelled_while_the_vendor_is_silent")
class ObeysLate(_HoldsOn):
    def patience(self) -> float:
        return float("inf")


@caught_by("closing_while_the_vendor_is_silent_releases_everything")
class SaysGoodbyeAtLength(Good):
    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        events = events_of(self, request)
        try:
            async for event in events:
                yield event
        except GeneratorExit:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.3)
            raise
        finally:
            await events.aclose()


@caught_by("a_turn_that_is_cancelled_at_any_point_spoils_nothing")
class LosesItsOnlySlot(Good):
    """As a pool does that is told of the end of good turns only."""

    limit = 1
    used = 0

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        while self.used >= self.limit:  # noqa: ASYNC110 - as simple as it gets
            await anyio.sleep(0.01)
        self.used += 1
        try:
            async for event in events_of(self, request):
                yield event
        except GeneratorExit:
            self.used -= 1
            raise
        except Exception:
            self.used -= 1
            raise
        self.used -= 1


@caught_by("many_turns_that_are_cancelled_at_once_spoil_nothing")
class LosesManySlots(LosesItsOnlySlot):
    limit = 30


@caught_by("a_turn_that_waits_does_not_hold_up_another")
class OneAtATime(Good):
    turns: anyio.Semaphore | None = None

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        if self.turns is None:
            self.turns = anyio.Semaphore(1)
        async with self.turns:
            events = events_of(self, request)
            try:
                async for event in events:
                    yield event
            finally:
                await events.aclose()

    async def aclose(self) -> None:
        await super().aclose()
        self.turns = None


# ---------------------------------------------------------------- event loops


@caught_by("it_answers_on_a_second_event_loop")
class BelongsToItsFirstLoop(Good):
    loop: object = None

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        loop = anyio.lowlevel.current_token()
        self.loop = self.loop or loop
        if loop != self.loop:
            raise RuntimeError("attached to a different loop")
        async for event in events_of(self, request):
            yield event


@caught_by("it_answers_on_the_other_backend_and_back")
class KeepsItsSemaphore(Good):
    async def aclose(self) -> None:
        pass


@caught_by("it_answers_after_aclose_on_the_same_event_loop")
class ClosesForGood(Good):
    closed = False

    def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        if self.closed:
            raise RuntimeError("closed")
        return super().stream(request)

    async def aclose(self) -> None:
        self.closed = True


@caught_by("aclose_may_come_twice_and_before_any_turn")
class ClosesOnce(Good):
    async def aclose(self) -> None:
        if self.slots is None:
            raise RuntimeError("there is nothing to close")
        await super().aclose()


@caught_by("many_turns_at_once_begin_a_new_event_loop")
class ConnectsTwice(Good):
    """The first turn connects; whoever comes meanwhile finds half a connection."""

    connected = False
    connecting = False

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        if not self.connected:
            if self.connecting:
                raise RuntimeError("connecting already")
            self.connecting = True
            await anyio.lowlevel.checkpoint()
            self.connected, self.connecting = True, False
        async for event in events_of(self, request):
            yield event


# ---------------------------------------------------------------- configs


@caught_by("a_config_of_its_own_options_is_taken")
class RefusesItsOwn(Good):
    def check_config(self, config: Mapping[str, Any]) -> None:
        super().check_config(config)
        if "region" in config and "temperature" not in config:
            raise ConfigurationError("region goes with temperature")


@caught_by("an_unknown_key_is_refused_with_the_nearest_one")
class TakesEveryKey(Good):
    def check_config(self, config: Mapping[str, Any]) -> None:
        known = {key: config[key] for key in ("temperature", "region") if key in config}
        super().check_config(known)


@caught_by("an_unknown_key_is_refused_with_the_nearest_one")
class DoesNotSayWhich(Good):
    def check_config(self, config: Mapping[str, Any]) -> None:
        if set(config) - {"temperature", "region"}:
            raise ConfigurationError("there are unknown keys")
        super().check_config(config)


@caught_by("a_value_of_another_type_is_refused")
class TakesEveryValue(Good):
    def check_config(self, config: Mapping[str, Any]) -> None:
        super().check_config({key: 1 for key in config if key != "region"})


@caught_by("a_config_is_left_as_it_is")
class TakesKeysOut(Good):
    def check_config(self, config: Mapping[str, Any]) -> None:
        super().check_config(config)
        if isinstance(config, dict):
            config.pop("region", None)


# ---------------------------------------------------------------- keys


@caught_by("no_key_is_in_a_repr_or_a_log")
class ShowsItself(Good):
    def __repr__(self) -> str:
        return f"ShowsItself(key={KEY!r})"


@caught_by("no_key_is_in_a_repr_or_a_log")
class KeepsItPlain(Good):
    def __init__(self, vendor: Any) -> None:
        super().__init__(vendor)
        self.headers = {"x-api-key": KEY}


@caught_by("no_key_is_in_a_repr_or_a_log")
class LogsItsHeaders(Good):
    def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        logging.getLogger("vendor").debug("asking with %s", KEY)
        return super().stream(request)


@caught_by("no_key_is_in_an_error_or_its_traceback")
class HasItInACause(Good):
    def translated(self, error: VendorError) -> Exception:
        mapped = ProviderError("the vendor failed", code=error.code)
        error.args = (f"bad header {KEY}",)
        return mapped


@caught_by("no_key_is_in_a_refusal")
class NamesItInARefusal(Good):
    def check_config(self, config: Mapping[str, Any]) -> None:
        try:
            super().check_config(config)
        except ConfigurationError as error:
            raise ConfigurationError(f"{error}, for {KEY}") from None


# ---------------------------------------------------------------- conversations


@caught_by("the_first_turn_begins_a_conversation_with_the_window")
class BeginsWithTheQuestionAlone(Good):
    def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        if request.provider_session_id is None:
            request = attrs.evolve(request, messages=request.messages[-1:])
        return super().stream(request)


@caught_by("the_next_turn_goes_on_with_the_conversation")
class SendsTheWindowAgain(Good):
    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        name = request.provider_session_id
        if name in self.vendor.kept:
            self.vendor.kept[name] += [message.content for message in request.messages[:-1]]
        async for event in events_of(self, request):
            yield event


@caught_by("a_conversation_is_told_before_any_text")
class TellsTheConversationAtTheEnd(Good):
    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        async for event in events_of(self, request):
            if not isinstance(event, ConversationStarted):
                yield event


@caught_by("a_conversation_of_a_turn_that_fails_was_told")
class TellsTheConversationWithTheText(Good):
    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        held: ConversationStarted | None = None
        async for event in events_of(self, request):
            if isinstance(event, ConversationStarted):
                held = event
                continue
            if held is not None:
                yield held
                held = None
            yield event


@caught_by("a_conversation_that_is_gone_is_begun_afresh")
class GivesUpWhatIsGone(Good):
    def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        name = request.provider_session_id
        if name is not None and name not in self.vendor.kept:
            raise ProviderError("no such conversation", code="not_found")
        return super().stream(request)


@caught_by("a_conversation_is_deleted_and_may_be_deleted_again")
class DeletesOnce(Good):
    async def delete_conversation(self, provider_session_id: str) -> None:
        del self.vendor.kept[provider_session_id]


@caught_by("a_conversation_is_deleted_and_may_be_deleted_again")
class DeletesNothing(Good):
    async def delete_conversation(self, provider_session_id: str) -> None:
        pass


@caught_by("without_an_id_a_turn_starts_afresh")
class KnowsBetterWhichSessionItIs(Good):
    def __init__(self, vendor: Any) -> None:
        super().__init__(vendor)
        self.names: dict[str, str] = {}

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        known = request.provider_session_id or self.names.get(request.session_id)
        async for event in events_of(self, attrs.evolve(request, provider_session_id=known)):
            if isinstance(event, Completed) and event.provider_session_id:
                self.names[request.session_id] = event.provider_session_id
            yield event
