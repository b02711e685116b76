"""How much is swept.

By default every situation in FIFO order. SWEEPS_PROFILE=long adds 20 random schedules of each.
SWEEPS_PROFILE=few is one situation and no pairs of points, for where all is slow (coverage).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from langswarm.core.session.testing import Backend

Situation = Literal["idle", "busy", "evicted"]
_PROFILES: dict[str, tuple[tuple[Situation, ...], tuple[int | None, ...]]] = {
    "few": (("idle",), (None,)),
    "ci": (("idle", "busy", "evicted"), (None,)),
    "long": (("idle", "busy", "evicted"), (None, *range(20))),
}
_NAME = os.environ.get("SWEEPS_PROFILE", "ci")
SITUATIONS, SEEDS = _PROFILES[_NAME]
CANCELLATIONS = 1 if _NAME == "few" else 2
"""In one run, where two calls are cancelled."""

MODES: tuple[tuple[Backend, bool], ...] = (("asyncio", False), ("asyncio", True), ("trio", False))
"""(backend, whether calls are cancelled natively)."""
BACKENDS: tuple[Backend, ...] = ("asyncio", "trio")

POINTS, RUNS = "sweep points", "sweep runs"
"""The properties of a test that the summary adds up."""
