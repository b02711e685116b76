"""How much of a history a conversation at the provider may hold, and when a new one begins.

`max_messages` bounds what a provider sees, also where it keeps the conversation itself. So one that
is full is given up, and the next begins with about half of what it may hold: else each turn would
replay the whole window. Where it begins follows from the number of messages alone, so it is the
same after an eviction or a restart (G4).
"""

from __future__ import annotations


def begins_at(messages: int, max_messages: int) -> int:
    """How many of a history's messages are in front of its conversation; the question is counted.

    What is left is more than half of `max_messages`, and at most `max_messages`.
    """
    surplus = messages - max_messages
    if surplus <= 0:
        return 0
    step = max(1, max_messages // 2)
    return -(-surplus // step) * step


def is_full(messages: int, max_messages: int) -> bool:
    """Whether the turn whose question is the last of so many messages needs a new conversation."""
    before = max(0, messages - 2)  # when the turn before asked: its answer and this question since
    return begins_at(messages, max_messages) != begins_at(before, max_messages)
