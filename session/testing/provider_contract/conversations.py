"""Conversations that a provider keeps at its vendor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langswarm.core.session.actors.ports import ConversationStarted, TextDelta
from langswarm.core.session.testing.expectations import expect, expect_equal, present
from langswarm.core.session.testing.provider_contract import promises
from langswarm.core.session.testing.provider_contract.case import Part
from langswarm.core.session.testing.provider_contract.turns import (
    PIECES,
    a_question,
    answered,
    ask,
    assistant,
    request_of,
    user,
)

if TYPE_CHECKING:
    from langswarm.core.session.actors.model import PromptMessage
    from langswarm.core.session.testing.provider_contract.harness import ProviderHarness

part = Part()

_NEEDS = ("answer", "conversations")
_SAID = "".join(PIECES)


class _Talk:
    """One session as the runtime would have it: its window grows, the id goes along."""

    def __init__(self, harness: ProviderHarness) -> None:
        self.harness = harness
        self.window: list[PromptMessage] = []
        self.name: str | None = None

    async def turn(self, question: str | None = None) -> str:
        """A good turn; returns the id that the next one will have."""
        question = question or a_question()
        self.harness.answer(question, PIECES)
        request = request_of(
            self.harness,
            question,
            before=self.window,
            session_id="contract-talk",
            provider_session_id=self.name,
        )
        last = present("Completed", (await answered(self.harness, request)).completed)
        self.name = present("Completed.provider_session_id", last.provider_session_id)
        self.window += [user(question), assistant(_SAID, last.provider_message_id)]
        return self.name

    def expect_kept(self, when: str) -> None:
        """That the vendor has exactly what was said."""
        kept = self.harness.conversations()
        expect(f"the conversation is at the vendor {when}", self.name in kept, sorted(kept))
        texts = [message.content for message in self.window]
        expect_equal(f"what the vendor keeps {when}", list(kept[self.name or ""]), texts)


@part.case(promises.SESSION_ID, needs=_NEEDS)
async def the_first_turn_begins_a_conversation_with_the_window(harness: ProviderHarness) -> None:
    talk = _Talk(harness)
    talk.window = [user("Hello"), assistant("Hello to you")]
    await talk.turn()
    talk.expect_kept("after the first turn")


@part.case(promises.SESSION_ID, needs=_NEEDS)
async def the_next_turn_goes_on_with_the_conversation(harness: ProviderHarness) -> None:
    talk = _Talk(harness)
    for number in range(3):
        await talk.turn()
        talk.expect_kept(f"after {number + 1} turns")
    other = _Talk(harness)
    await other.turn()
    expect("another session has one of its own", other.name != talk.name, other.name)
    talk.expect_kept("after a turn of another session")


@part.case(promises.STARTED, needs=_NEEDS)
async def a_conversation_is_told_before_any_text(harness: ProviderHarness) -> None:
    question = a_question()
    harness.answer(question, PIECES)
    heard = await answered(harness, question)
    last = present("Completed", heard.completed)
    kinds = [type(event) for event in heard.events]
    expect("ConversationStarted comes", ConversationStarted in kinds, heard.events)
    early = kinds.index(ConversationStarted) < kinds.index(TextDelta)
    expect("it comes before the text", early, heard.events)
    expect_equal("the ids that were told", heard.started, [last.provider_session_id])


@part.case(promises.STARTED, needs=(*_NEEDS, "fail", "fault_codes"))
async def a_conversation_of_a_turn_that_fails_was_told(harness: ProviderHarness) -> None:
    for code in harness.fault_codes:
        for pieces in ((), PIECES):
            before = set(harness.conversations())
            question = a_question(code)
            harness.fail(question, code, pieces)
            heard = await ask(harness, question)
            begun = set(harness.conversations()) - before
            untold = begun.difference(heard.started)
            expect(f"each that a failure of code {code} left was told", not untold, untold)


@part.case(promises.FRESH, needs=(*_NEEDS, "forget"))
async def a_conversation_that_is_gone_is_begun_afresh(harness: ProviderHarness) -> None:
    talk = _Talk(harness)
    lost = await talk.turn()
    await talk.turn()
    lost = present("the id", talk.name)
    harness.forget(lost)
    await talk.turn()
    expect("it has a new id", talk.name != lost, talk.name)
    talk.expect_kept("after it was begun afresh")
    await talk.turn()
    talk.expect_kept("after one more turn")


@part.case(promises.DELETE, needs=_NEEDS)
async def a_conversation_is_deleted_and_may_be_deleted_again(harness: ProviderHarness) -> None:
    talk, kept = _Talk(harness), _Talk(harness)
    name = await talk.turn()
    await kept.turn()
    await harness.provider.delete_conversation(name)
    expect("it is gone", name not in harness.conversations(), sorted(harness.conversations()))
    kept.expect_kept("after another one was deleted")
    await harness.provider.delete_conversation(name)
    await harness.provider.delete_conversation(f"{name[:-4]}0000")
    kept.expect_kept("after deletions of what was not there")


@part.case(promises.SESSION_ID, needs=_NEEDS)
async def without_an_id_a_turn_starts_afresh(harness: ProviderHarness) -> None:
    talk = _Talk(harness)
    old = await talk.turn()
    talk.name = None
    new = await talk.turn()
    expect("it has an id of its own", new != old, new)
    talk.expect_kept("in the new conversation")
