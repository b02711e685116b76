"""What the figures of days add up to, and a user taken out of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ....actors.idempotency import user_scope
from ....actors.model import UsageReport
from .listing import is_storable, nearest
from .rows import USAGE_DAY_NAME, USAGE_USER, read_usage_day
from .schema import USAGE_COUNTS

if TYPE_CHECKING:
    import sqlite3

    from ....actors.model import UsageQuery

_SUMS = ", ".join(f"sum({count})" for count in USAGE_COUNTS)
_NAME = ", ".join(USAGE_DAY_NAME)
_OF_ALL = (
    f"SELECT {_NAME}, {', '.join(USAGE_COUNTS)} FROM usage_days WHERE day BETWEEN ? AND ? "
    f"ORDER BY {_NAME}"
)
_OF_USER = (
    f"SELECT {_NAME}, {', '.join(USAGE_COUNTS)} FROM usage_users "
    f"WHERE user_id = ? AND day BETWEEN ? AND ? ORDER BY {_NAME}"
)
_USERS_BY_DAY = (
    "SELECT day, count(DISTINCT user_id) FROM usage_users WHERE day BETWEEN ? AND ? GROUP BY day"
)
_USERS = "SELECT count(DISTINCT user_id) FROM usage_users WHERE day BETWEEN ? AND ?"


def read_usage(query: UsageQuery, connection: sqlite3.Connection) -> UsageReport:
    """The sums of the days that are asked for."""
    days = (nearest(query.first_day), nearest(query.last_day))
    if query.user_id is not None:
        return _of_user(query.user_id, days, connection)
    connection.execute("BEGIN")  # one moment for all of it
    rows = connection.execute(_OF_ALL, days).fetchall()
    by_day = connection.execute(_USERS_BY_DAY, days).fetchall()
    (users,) = connection.execute(_USERS, days).fetchone()
    connection.execute("COMMIT")
    return UsageReport(
        days=tuple(map(read_usage_day, rows)),
        active_users=users,
        active_users_by_day=tuple(by_day),
    )


def _of_user(user_id: str, days: tuple[int, int], connection: sqlite3.Connection) -> UsageReport:
    if not is_storable(user_id):
        return UsageReport()
    rows = connection.execute(_OF_USER, (user_id, *days)).fetchall()
    found = tuple(map(read_usage_day, rows))
    return UsageReport(
        days=found,
        active_users=int(bool(found)),
        active_users_by_day=tuple((day, 1) for day in dict.fromkeys(one.day for one in found)),
    )


_SOME_OF_USER = f"SELECT {', '.join(USAGE_USER)} FROM usage_users WHERE user_id = ? LIMIT ?"
_TAKE_OUT = (
    f"UPDATE usage_days SET {', '.join(f'{count} = {count} - ?' for count in USAGE_COUNTS)} "
    "WHERE day = ? AND provider = ? AND model = ?"
)
_DELETE_NOTHING = (
    "DELETE FROM usage_days WHERE day = ? AND provider = ? AND model = ? "
    f"AND {' AND '.join(f'{count} = 0' for count in USAGE_COUNTS)}"
)
_DELETE_OF_USER = (
    "DELETE FROM usage_users WHERE day = ? AND user_id = ? AND provider = ? AND model = ?"
)
_DELETE_CLAIMS = (
    "DELETE FROM claims WHERE (scope, method, key) IN "
    "(SELECT scope, method, key FROM claims WHERE scope = ? LIMIT ?)"
)


def erase_some(user_id: str, rows: int, connection: sqlite3.Connection) -> int:
    """Take up to so many rows of a user out, and as many claims; how many there were.

    Within a transaction of the caller.
    """
    found = connection.execute(_SOME_OF_USER, (user_id, rows)).fetchall()
    names = [(day, provider, model) for day, _, provider, model, *_ in found]
    connection.executemany(
        _TAKE_OUT, [(*row[4:], *name) for row, name in zip(found, names, strict=True)]
    )
    connection.executemany(_DELETE_NOTHING, names)
    connection.executemany(_DELETE_OF_USER, [row[:4] for row in found])
    claims = connection.execute(_DELETE_CLAIMS, (user_scope(user_id), rows)).rowcount
    return max(len(found), claims)
