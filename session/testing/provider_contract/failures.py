"""What a provider says when its vendor does not answer as it should."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, get_args

from langswarm.core.session.actors.errors import ProviderCode
from langswarm.core.session.actors.ports import Completed
from langswarm.core.session.testing.expectations import expect, expect_equal
from langswarm.core.session.testing.provider_contract import promises
from langswarm.core.session.testing.provider_contract.case import Part
from langswarm.core.session.testing.provider_contract.turns import (
    PIECES,
    a_question,
    ask,
    expect_prefix,
    expect_provider_error,
    released,
    still_answers,
)

if TYPE_CHECKING:
    from langswarm.core.session.actors.errors import ProviderError
    from langswarm.core.session.testing.provider_contract.harness import ProviderHarness
    from langswarm.core.session.testing.provider_contract.turns import Heard

part = Part()

_TEXT_CHARACTERS = 2_000


def _expect_whole(what: str, error: ProviderError) -> None:
    """That it says what its caller needs."""
    codes = get_args(ProviderCode)
    expect(f"the code of {what} is of the taxonomy", error.code in codes, error.code)
    expect(f"{what}: retryable is a bool", isinstance(error.retryable, bool), error.retryable)  # pyright: ignore[reportUnnecessaryIsInstance]
    wait = error.retry_after_seconds
    good = wait is None or 0 <= wait < math.inf
    expect(f"{what}: retry_after_seconds is None or 0 or more", good, wait)
    text = str(error)
    short = bool(text.strip()) and len(text) <= _TEXT_CHARACTERS
    expect(f"{what} has a text of 1 to {_TEXT_CHARACTERS} characters", short, text)


def _expect_no_end(what: str, heard: Heard) -> None:
    ends = [event for event in heard.events if isinstance(event, Completed)]
    expect_equal(f"Completed after {what}", ends, [])


@part.case(promises.ERRORS, needs=("answer", "fail", "fault_codes"))
async def what_fails_at_the_vendor_raises_a_provider_error_of_its_code(
    harness: ProviderHarness,
) -> None:
    for code in harness.fault_codes:
        question = a_question(code)
        harness.fail(question, code, ())
        heard = await ask(harness, question)
        error = expect_provider_error(f"a failure of code {code}", heard.error)
        expect_equal("the code", error.code, code)
        _expect_whole(f"the error of code {code}", error)
        _expect_no_end(f"a failure of code {code}", heard)
    await still_answers(harness, "after all these failures")


@part.case(promises.ERRORS, needs=("answer", "fail_oddly"))
async def what_makes_no_sense_raises_a_provider_error(harness: ProviderHarness) -> None:
    question = a_question()
    harness.fail_oddly(question)
    heard = await ask(harness, question)
    error = expect_provider_error("what makes no sense", heard.error)
    _expect_whole("the error", error)
    _expect_no_end("what makes no sense", heard)
    await still_answers(harness, "after what made no sense")


@part.case(promises.NO_REPEAT, needs=("answer", "fail", "fault_codes"))
async def a_failure_in_the_middle_repeats_nothing(harness: ProviderHarness) -> None:
    for code in harness.fault_codes:
        question = a_question(code)
        harness.fail(question, code, PIECES)
        heard = await ask(harness, question)
        expect_provider_error(f"a failure of code {code} after some text", heard.error)
        expect_prefix("the text before a failure", heard.text, "".join(PIECES))
        _expect_no_end("a failure in the middle", heard)


@part.case(promises.CUT, needs=("answer", "truncate"))
async def an_answer_that_was_cut_off_is_a_failure(harness: ProviderHarness) -> None:
    question = a_question()
    harness.truncate(question, PIECES)
    heard = await ask(harness, question)
    _expect_no_end("an answer that was cut off", heard)
    expect_prefix("the text of an answer that was cut off", heard.text, "".join(PIECES))
    if heard.error is not None:
        expect_provider_error("an answer that was cut off", heard.error)
    await still_answers(harness, "after one that was cut off")


@part.case(promises.CUT, needs=("answer", "truncate"))
async def an_answer_that_was_cut_off_before_any_text_is_a_failure(
    harness: ProviderHarness,
) -> None:
    question = a_question()
    harness.truncate(question, ())
    heard = await ask(harness, question)
    _expect_no_end("an answer without text that was cut off", heard)


@part.case(promises.STALLS, needs=("answer", "stall", "stall_seconds"))
async def a_vendor_that_falls_silent_is_a_failure(harness: ProviderHarness) -> None:
    for pieces in ((), PIECES):
        question = a_question()
        harness.stall(question, pieces)
        heard = await ask(harness, question)
        error = expect_provider_error("a vendor that falls silent", heard.error)
        _expect_whole("the error", error)
        _expect_no_end("the silence", heard)
        expect_prefix("the text before the silence", heard.text, "".join(pieces))
        await released(harness, "after a silence")
    await still_answers(harness, "after a silence")
