"""How much is swept: in FIFO order alone, with SWEEPS_PROFILE=long under many schedules."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langswarm.core.session.testing import Backend

_SEEDS: dict[str, tuple[int | None, ...]] = {"ci": (None,), "long": (None, *range(20))}
SEEDS = _SEEDS[os.environ.get("SWEEPS_PROFILE", "ci")]

MODES: tuple[tuple[Backend, bool], ...] = (("asyncio", False), ("asyncio", True), ("trio", False))
"""(backend, whether calls are cancelled natively)."""
BACKENDS: tuple[Backend, ...] = ("asyncio", "trio")

POINTS, RUNS = "sweep points", "sweep runs"
"""The properties of a test that the summary adds up."""
