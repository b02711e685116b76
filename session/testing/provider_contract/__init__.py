"""The contract of providers: what the runtime relies on, as cases that run on any provider.

    class MyHarness(ProviderHarness):
        def answer(self, question, pieces): ...  # make the vendor's stand-in say that

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    @pytest.mark.parametrize("case", CONTRACT, ids=str)
    def test_my_provider(case: ProviderCase, backend: Backend) -> None:
        case.check(lambda: MyHarness(MyProvider("key")), backend=backend)

`CONTRACT` is for every provider. `CONVERSATIONS` is for those that keep conversations at their
vendor. What a harness cannot arrange is skipped: the case raises `CaseSkipped`, which pytest and
unittest report as a skipped test, with what is missing.
"""

from __future__ import annotations

from langswarm.core.session.testing.provider_contract import (
    answers,
    configs,
    conversations,
    endings,
    failures,
    loops,
    secrecy,
)
from langswarm.core.session.testing.provider_contract.case import (
    CaseSkipped,
    ContractBrokenError,
    ProviderCase,
)
from langswarm.core.session.testing.provider_contract.harness import ProviderHarness

__all__ = [
    "CONTRACT",
    "CONVERSATIONS",
    "CaseSkipped",
    "ContractBrokenError",
    "ProviderCase",
    "ProviderHarness",
]

CONTRACT: tuple[ProviderCase, ...] = (
    *answers.part.cases,
    *failures.part.cases,
    *endings.part.cases,
    *loops.part.cases,
    *configs.part.cases,
    *secrecy.part.cases,
)
"""What every provider keeps."""

CONVERSATIONS: tuple[ProviderCase, ...] = tuple(conversations.part.cases)
"""What a provider keeps beside that, if it keeps conversations at its vendor."""
