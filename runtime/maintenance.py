"""A part of the manager: how its storage is, and what keeps it in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from datetime import timedelta

    from ..actors.ports import Backup, KeyRotation, Verification
    from .health import Health
    from .host import Anchor
    from .retention import Retention


class Maintenance:
    """What a manager does with its storage as a whole."""

    _anchor: Anchor

    async def health(self) -> Health:
        """How the manager and its storage are, from what is known already.

        Cheap, never raises, starts and waits for nothing: for readiness probes.
        """
        from .health import health_of  # noqa: PLC0415 - not for every program

        return health_of(self._anchor.host)

    async def optimize_storage(self) -> None:
        """Give freed space back and refresh the storage's statistics, while turns go on.

        It works in small steps, between which commits pass. Raises StorageError.
        """
        await self._anchor.host.runtime().storage.optimize()

    async def backup(self, path: str | os.PathLike[str]) -> Backup:
        """Write all that is committed to a new file at `path`, while turns go on.

        The file is complete, checked and synced when this returns, and is not there before. It
        goes on when its caller is cancelled.

        Raises:
            ConfigurationError: the storage has no file, or something is at `path` already.
            StorageError: it could not be written; nothing is left at `path`.
        """
        return await self._anchor.host.runtime().storage.backup(path)

    async def verify_storage(self) -> Verification:
        """Look for damage in everything that is stored, while turns go on.

        It reads the whole storage, so it takes its time; nothing does it by itself.
        Raises StorageError if it could not look.
        """
        return await self._anchor.host.runtime().storage.verify()

    async def rotate_encryption_keys(self) -> KeyRotation:
        """Encrypt everything that is stored with the current key, while turns go on.

        It works in slices of some milliseconds, between which commits pass. One that was cut off,
        by a kill as well, is simply called again. Once it has returned, keys that are not among
        its `keys_in_use` are not needed any more, but for backups that were made before. Of a
        file that was not encrypted before, all pages are written anew at the end, so that nothing
        legible is left; commits wait for that, about a second for each 100 MB.

        Raises:
            ConfigurationError: the storage encrypts no records.
            StorageError: it could not be written; what was done until then stays done.
        """
        return await self._anchor.host.runtime().storage.rotate_keys()

    # -------------------------------------------------------- clean-up

    async def cleanup_inactive_sessions(
        self, days: float | timedelta = 30, *, dry_run: bool = False
    ) -> int:
        """Archive the active sessions whose last commit was longer ago; returns how many.

        A session that is busy is in use, and one that is used before its turn comes stays as it
        is. So are those that could not be reached (overload, quarantine): they are logged, and
        the next call comes back to them. Hooks and events tell of each, as of `archive()`.

        Args:
            days: of 86,400 seconds, 0 or more; or a timedelta.
            dry_run: change nothing, and return how many it would be now.

        Raises ConfigurationError for an age that is none, and StorageError; what was done until
        then stays done.
        """
        return await self._retire(_INACTIVE, days, dry_run=dry_run)

    async def cleanup_archived_sessions(
        self, days: float | timedelta = 90, *, dry_run: bool = False
    ) -> int:
        """Delete the sessions that were archived longer ago; returns how many.

        They are hidden, as by `delete()`, until `cleanup_deleted_sessions` removes them. Arguments
        and errors are those of `cleanup_inactive_sessions`.
        """
        return await self._retire(_ARCHIVED, days, dry_run=dry_run)

    async def cleanup_deleted_sessions(
        self, days: float | timedelta = 365, *, dry_run: bool = False
    ) -> int:
        """Remove for good the sessions that were deleted longer ago; returns how many.

        All that is stored of them goes, and what their providers keep of them is queued to be
        deleted there; backups still hold it. Their ids may be used again. What they have cost
        stays in the analytics. Nobody is told; they were told of the deletion.

        Arguments and errors are those of `cleanup_inactive_sessions`.
        """
        retention, before_us = await self._retention(days)
        return await retention.purge(before_us, dry_run=dry_run)

    async def erase_user(self, user_id: str) -> int:
        """Remove everything of a user for good; returns how many sessions it were.

        Sessions of any status, with what was found by text search, the user's part of the
        analytics, and idempotency keys. Turns that run are interrupted, and queued messages fail
        with SessionNotFoundError. What providers keep of the sessions is queued to be deleted
        there and tried again until it is. Hooks and events tell `session_deleted` of each session
        that was not deleted yet.

        It goes on where it ended when it is called again, also after a kill. Sessions that the
        user creates meanwhile may stay: refuse the user's requests first. Backups still hold
        what they held, and a file's free pages may until `optimize_storage()` was called.

        Raises StorageError, or what kept the last sessions from being erased: call it again.
        """
        from .listing import check_id  # noqa: PLC0415 - not for every program
        from .retention import Retention  # noqa: PLC0415

        check_id(user_id, "user_id")
        return await Retention(self._anchor.host.runtime()).erase_user(user_id)

    async def _retire(
        self, statuses: tuple[str, str], days: float | timedelta, *, dry_run: bool
    ) -> int:
        from ..actors.erasure import RetentionRule  # noqa: PLC0415 - not for every program
        from ..actors.model import SessionStatus  # noqa: PLC0415

        retention, before_us = await self._retention(days)
        of, becomes = statuses
        rule = RetentionRule(
            of=SessionStatus(of), becomes=SessionStatus(becomes), idle_before_us=before_us
        )
        return await retention.retire(rule, dry_run=dry_run)

    async def _retention(self, days: float | timedelta) -> tuple[Retention, int]:
        """And the moment that is so many days ago, by the clock that commits carry."""
        from .cleanup import age_us  # noqa: PLC0415 - not for every program
        from .retention import Retention  # noqa: PLC0415

        age = age_us(days, "days")
        host = self._anchor.host
        runtime = host.runtime()
        await runtime.storage.opened()
        return Retention(runtime), host.wall_clock_us() - age


_INACTIVE = ("active", "archived")
_ARCHIVED = ("archived", "deleted")
