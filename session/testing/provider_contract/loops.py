"""One provider, one event loop after another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from langswarm.core.session.testing.provider_contract import promises
from langswarm.core.session.testing.provider_contract.case import Part
from langswarm.core.session.testing.provider_contract.turns import released, still_answers

if TYPE_CHECKING:
    from langswarm.core.session.testing.provider_contract.harness import ProviderHarness

part = Part()


@part.case(promises.GO_ON, loops="aa")
async def it_answers_on_a_second_event_loop(harness: ProviderHarness) -> None:
    await still_answers(harness, "on this event loop")


@part.case(promises.GO_ON, loops="aba")
async def it_answers_on_the_other_backend_and_back(harness: ProviderHarness) -> None:
    await still_answers(harness, "on this backend")


@part.case(promises.GO_ON)
async def it_answers_after_aclose_on_the_same_event_loop(harness: ProviderHarness) -> None:
    await still_answers(harness, "before aclose()")
    await harness.provider.aclose()
    await still_answers(harness, "after aclose()")


@part.case(promises.CLOSE)
async def aclose_may_come_twice_and_before_any_turn(harness: ProviderHarness) -> None:
    await harness.provider.aclose()
    await harness.provider.aclose()
    await still_answers(harness, "after aclose() twice")
    await harness.provider.aclose()
    await harness.provider.aclose()
    await released(harness, "after aclose()")


@part.case(promises.CLOSE, loops="aa")
async def many_turns_at_once_begin_a_new_event_loop(harness: ProviderHarness) -> None:
    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(still_answers, harness, f"of turn {number} in a new event loop")
