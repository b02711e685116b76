"""Processes that get into trouble with the machine, and out of it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .workload import Work

TROUBLES: dict[str, Work] = {}
