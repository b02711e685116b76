"""Keys: they are for the vendor alone."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Self

from langswarm.core.session.actors.errors import ConfigurationError
from langswarm.core.session.testing.expectations import expect
from langswarm.core.session.testing.provider_contract import promises
from langswarm.core.session.testing.provider_contract.case import Part
from langswarm.core.session.testing.provider_contract.harness import missing
from langswarm.core.session.testing.provider_contract.turns import PIECES, a_question, ask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langswarm.core.session.testing.provider_contract.harness import ProviderHarness
    from langswarm.core.session.testing.provider_contract.turns import Heard

part = Part()


class _Listening(logging.Handler):
    """Everything that anybody logs, from DEBUG on, for a time."""

    def __init__(self) -> None:
        super().__init__(level=logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    def __enter__(self) -> Self:
        self._level = logging.root.level
        logging.root.addHandler(self)
        logging.root.setLevel(logging.DEBUG)
        return self

    def __exit__(self, *_: object) -> None:
        logging.root.removeHandler(self)
        logging.root.setLevel(self._level)


@part.case(promises.SECRETS, needs=("answer", "secrets"))
async def no_key_is_in_a_repr_or_a_log(harness: ProviderHarness) -> None:
    question = a_question()
    harness.answer(question, PIECES)
    with _Listening() as log:
        heard = await ask(harness, question)
    _expect_none(harness, "the repr of the provider", repr(harness.provider))
    _expect_none(harness, "the text of the provider", str(harness.provider))
    _expect_none(harness, "its attributes", repr(getattr(harness.provider, "__dict__", "")))
    _expect_none(harness, "its events", repr(heard.events))
    _expect_none(harness, "the log", "\n".join(log.lines))


@part.case(promises.SECRETS, needs=("answer", "secrets", "fault_codes", "fail"))
async def no_key_is_in_an_error_or_its_traceback(harness: ProviderHarness) -> None:
    with _Listening() as log:
        async for heard in _failures(harness):
            error = heard.error
            if error is not None:
                told = "".join(traceback.format_exception(error))
                _expect_none(harness, "an error", f"{error} {error!r} {vars(error)!r}")
                _expect_none(harness, "an error's traceback, its causes included", told)
    _expect_none(harness, "the log", "\n".join(log.lines))


async def _failures(harness: ProviderHarness) -> AsyncIterator[Heard]:
    for code in harness.fault_codes:
        for pieces in ((), PIECES):
            question = a_question(code)
            harness.fail(question, code, pieces)
            yield await ask(harness, question)
    if not missing(harness, ("fail_oddly",)):
        question = a_question("sense")
        harness.fail_oddly(question)
        yield await ask(harness, question)
    if not missing(harness, ("truncate",)):
        question = a_question("an end")
        harness.truncate(question, PIECES)
        yield await ask(harness, question)


@part.case(promises.SECRETS, needs=("secrets",))
async def no_key_is_in_a_refusal(harness: ProviderHarness) -> None:
    for key in ("zzzzzz", *harness.options):
        try:
            harness.provider.check_config({key: {"no": ["such", "thing"]}})
        except ConfigurationError as error:
            told = "".join(traceback.format_exception(error))
            _expect_none(harness, f"the refusal of {key!r}", told)


def _expect_none(harness: ProviderHarness, where: str, text: str) -> None:
    """The secrets are not even in what the case itself shows when it fails."""
    for number, secret in enumerate(harness.secrets):
        shown = text.replace(secret, f"<secret {number}>") if secret in text else ""
        expect(f"no key in {where}", not shown, shown)
