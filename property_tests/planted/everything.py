"""All planted bugs."""

from __future__ import annotations

from . import (
    additions,
    branches,
    durability,
    fairness,
    keys,
    lifetime,
    many,
    ordering,
    prompts,
    turns,
)
from .catalogue import catalogue

PLANTED = catalogue(
    durability,
    lifetime,
    ordering,
    fairness,
    prompts,
    branches,
    keys,
    turns,
    additions,
    many,
)
