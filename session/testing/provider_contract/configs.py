"""The provider_config of a session, looked at before anything is stored or paid for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langswarm.core.session.actors.errors import ConfigurationError
from langswarm.core.session.testing.expectations import expect, present
from langswarm.core.session.testing.provider_contract import promises
from langswarm.core.session.testing.provider_contract.case import Part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langswarm.core.session.testing.provider_contract.harness import ProviderHarness

part = Part()

_SHORTEST_NEAR = 4
"""Of a shorter key nothing that is misspelt is near."""


def _refusal(harness: ProviderHarness, config: Mapping[str, Any]) -> ConfigurationError | None:
    try:
        harness.provider.check_config(config)
    except ConfigurationError as error:
        return error
    return None


@part.case(promises.CHECK, needs=("options",))
async def a_config_of_its_own_options_is_taken(harness: ProviderHarness) -> None:
    harness.provider.check_config({})
    harness.provider.check_config(harness.options)
    for key, value in harness.options.items():
        refusal = _refusal(harness, {key: value})
        expect(f"{key}={value!r} is taken alone", refusal is None, refusal)


@part.case(promises.NAMES, needs=("options",))
async def an_unknown_key_is_refused_with_the_nearest_one(harness: ProviderHarness) -> None:
    for key, value in harness.options.items():
        if len(key) < _SHORTEST_NEAR:
            continue
        wrong = f"{key[:-1]}{key[-1] * 2}"
        error = present(f"a refusal of {wrong!r}", _refusal(harness, {wrong: value}))
        named = wrong in str(error) and repr(key) in str(error)
        expect(f"the text names {wrong!r} and {key!r}", named, str(error))
    strange = present("a refusal of 'zzzzzz'", _refusal(harness, {"zzzzzz": 1}))
    expect("the text names 'zzzzzz'", "zzzzzz" in str(strange), str(strange))


@part.case(promises.CHECK, needs=("options",))
async def a_value_of_another_type_is_refused(harness: ProviderHarness) -> None:
    for key, value in harness.options.items():
        wrong: object = ["no", {"such": "thing"}] if not isinstance(value, list) else 5
        error = present(f"a refusal of {key}={wrong!r}", _refusal(harness, {key: wrong}))
        expect(f"the text names {key!r}", key in str(error), str(error))


@part.case(promises.CHECK, needs=("options",))
async def a_config_is_left_as_it_is(harness: ProviderHarness) -> None:
    config = dict(harness.options)
    harness.provider.check_config(config)
    expect("the config after the check is as before", config == harness.options, config)
