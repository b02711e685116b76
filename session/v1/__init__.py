"""The sessions of LangSwarm V1, read-only, for a gradual migration."""

from __future__ import annotations

from langswarm.v1.session.manager import V1Message, V1Session, V1SessionManager

__all__ = ["V1Message", "V1Session", "V1SessionManager"]
