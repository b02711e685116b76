"""The values that users meet, and what guests and storages implement."""

from __future__ import annotations

from langswarm.core.session.actors.mailbox import Ticket, TicketState
from langswarm.core.session.actors.model import Role, SessionStatus
from langswarm.core.session.actors.ports import (
    Backup,
    ISessionStorage,
    KeyRotation,
    StorageHealth,
    Verification,
)
from langswarm.core.session.runtime.analytics import DailyUsage, SessionAnalytics, UsageFigures
from langswarm.core.session.runtime.batches import BatchResult
from langswarm.core.session.runtime.events import SessionEvent
from langswarm.core.session.runtime.guests import ISessionLifecycleHook, ISessionMiddleware
from langswarm.core.session.runtime.health import Health
from langswarm.core.session.runtime.inspection import RunningTurn, SessionInspection
from langswarm.core.session.runtime.session import Session
from langswarm.core.session.runtime.session_list import SessionList
from langswarm.core.session.runtime.turn_stream import (
    TurnCompleted,
    TurnEvent,
    TurnFailed,
    TurnInterrupted,
    TurnStarted,
    TurnStream,
    TurnText,
    TurnUsage,
)
from langswarm.core.session.runtime.user_view import UserSessions
from langswarm.core.session.runtime.views import SessionContext, SessionMessage, SessionMetrics

# There is one implementation, so the guide's name for the interface is another name for it.
ISession = Session

__all__ = [
    "Backup",
    "BatchResult",
    "DailyUsage",
    "Health",
    "ISession",
    "ISessionLifecycleHook",
    "ISessionMiddleware",
    "ISessionStorage",
    "KeyRotation",
    "Role",
    "RunningTurn",
    "SessionAnalytics",
    "SessionContext",
    "SessionEvent",
    "SessionInspection",
    "SessionList",
    "SessionMessage",
    "SessionMetrics",
    "SessionStatus",
    "StorageHealth",
    "Ticket",
    "TicketState",
    "TurnCompleted",
    "TurnEvent",
    "TurnFailed",
    "TurnInterrupted",
    "TurnStarted",
    "TurnStream",
    "TurnText",
    "TurnUsage",
    "UsageFigures",
    "UserSessions",
    "Verification",
]
