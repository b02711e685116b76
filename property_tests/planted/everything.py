"""All planted bugs."""

from __future__ import annotations

from . import durability, fairness, lifetime, ordering, prompts
from .catalogue import catalogue

PLANTED = catalogue(durability, lifetime, ordering, fairness, prompts)
