"""What the library's log records carry.

All go through the logger "langswarm.core.session" or a child of it. Nothing is configured here:
no handler, no level. What messages, contexts and keys say is in none of them.
"""

from __future__ import annotations


def about(session_id: str, turn_no: int = 0) -> dict[str, str]:
    """The `extra` of a record about a session: its `session_id`, and in a turn `turn_id`."""
    if not turn_no:
        return {"session_id": session_id}
    return {"session_id": session_id, "turn_id": f"{session_id}/{turn_no}"}
