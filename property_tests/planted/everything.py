"""All planted bugs."""

from __future__ import annotations

from . import branches, durability, fairness, keys, lifetime, ordering, prompts, turns
from .catalogue import catalogue

PLANTED = catalogue(durability, lifetime, ordering, fairness, prompts, branches, keys, turns)
