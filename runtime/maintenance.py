"""A part of the manager: how its storage is, and what keeps it in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .health import Health, health_of

if TYPE_CHECKING:
    import os

    from ..actors.ports import Backup, Verification
    from .host import Anchor


class Maintenance:
    """What a manager does with its storage as a whole."""

    _anchor: Anchor

    async def health(self) -> Health:
        """How the manager and its storage are, from what is known already.

        Cheap, never raises, starts and waits for nothing: for readiness probes.
        """
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
