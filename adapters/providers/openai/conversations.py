"""Conversations at the vendor: made with a history, listed, read, and deleted with their items.

Whoever deletes a conversation does not delete its items, and nobody can reach these any more then:
so they go first. There is no list of all conversations either, so an id must not get lost.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import anyio

from ....actors.errors import ProviderError
from ....actors.values import printable
from ...http.service import HttpCall
from ..reading import count_of, id_of, items, malformed, mapping
from .config import NAME
from .requests import conversation_body, further_items

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ....actors.errors import ProviderCode
    from ....actors.model import PromptMessage
    from ...http.service import HttpService
    from .config import Options

PAGE_ITEMS = 100
"""Items of one page, the most that the vendor gives."""
MAX_PAGES = 10_000
"""Of one deletion; a conversation with more items takes several."""
DELETION_SECONDS = 20.0
"""How long a deletion may take; the runtime gives up after 30."""
DELETIONS_AT_ONCE = 8
_ID = re.compile(r"(?=.*[^.])[A-Za-z0-9_.:~=+@,-]{1,1000}")

Json = dict[str, Any]


def segment(given: str, code: ProviderCode = "not_found") -> str:
    """An id as a part of a path.

    Ids come from storages and servers. One that would lead elsewhere, such as "../files", is no id
    of anything: ProviderError of that code.
    """
    if _ID.fullmatch(given) is None:
        raise ProviderError(
            f"{printable(given[:80])!r} is no id of anything at the service",
            code=code,
            provider=NAME,
        )
    return quote(given, safe="")


def path_of(conversation_id: str, rest: str = "") -> str:
    """The path of a conversation, or of what is in it. Raises ProviderError as `segment`."""
    return f"/conversations/{segment(conversation_id)}{rest}"


class Conversations:
    """What is done to conversations, beside going on with them."""

    def __init__(self, service: HttpService) -> None:
        self._service = service

    async def create(self, history: Sequence[PromptMessage], options: Options) -> str:
        """Make one that begins with the first items of the history; returns its id.

        A repeated call may leave one behind that nobody knows of, where the first one's answer was
        lost: the vendor has no key to tell two calls apart, and no list.
        """
        call = HttpCall(
            method="POST", path="/conversations", body=conversation_body(history, options)
        )
        conversation_id = id_of(mapping((await self._service.fetch(call)).body).get("id"))
        if conversation_id is None:
            raise malformed(NAME, "a conversation without an id")
        return conversation_id

    async def add_rest(self, conversation_id: str, history: Sequence[PromptMessage]) -> str | None:
        """Add what it was not made with; returns the id of the last item, where it is told.

        Not repeated where it may have arrived: the history would be in there twice.
        """
        last_id: str | None = None
        for body in further_items(history):
            call = HttpCall(
                method="POST",
                path=path_of(conversation_id, "/items"),
                body=body,
                repeatable=False,
            )
            added = mapping((await self._service.fetch(call)).body)
            last_id = id_of(added.get("last_id"))
        return last_id

    async def is_gone(self, conversation_id: str) -> bool:
        """Whether the vendor has no such conversation."""
        return not await self._exists("GET", conversation_id)

    async def read(self, conversation_id: str) -> Json:
        """Its id, when it was made (seconds since 1970), and its metadata."""
        call = HttpCall(method="GET", path=path_of(conversation_id))
        found = mapping((await self._service.fetch(call)).body)
        return described(found, "conversation_id", conversation_id)

    async def page(self, conversation_id: str, after: str | None) -> tuple[list[Json], bool]:
        """Items in their order, from the one after `after` on; and whether there are more."""
        query = {"limit": str(PAGE_ITEMS), "order": "asc"}
        if after is not None:
            query["after"] = after
        call = HttpCall(method="GET", path=path_of(conversation_id, "/items"), query=query)
        found = mapping((await self._service.fetch(call)).body)
        listed = [dict(mapping(item)) for item in items(found.get("data"))]
        return listed, found.get("has_more") is True

    async def delete(self, conversation_id: str) -> None:
        """Delete its items, then itself; what is gone already is deleted.

        Raises ProviderError where it takes longer than 20 s: of code `interrupted` if the next
        call has less to do, else `timeout`.
        """
        gone: set[str] = set()
        with anyio.move_on_after(DELETION_SECONDS):
            await self._delete_items(conversation_id, gone)
            await self._exists("DELETE", conversation_id)
            return
        raise ProviderError(
            f"a conversation was not deleted within {DELETION_SECONDS:g} s: {len(gone)} of its "
            "items were; the next call goes on from there",
            code="interrupted" if gone else "timeout",
            provider=NAME,
            retryable=True,
        )

    async def _delete_items(self, conversation_id: str, gone: set[str]) -> None:
        """Page after page, until there is nothing left; `gone` are the ids of what was deleted."""
        for _ in range(MAX_PAGES):
            ids = await self._item_ids(conversation_id)
            if not ids:
                return
            todo = [each for each in ids if each not in gone]
            if not todo:
                raise malformed(NAME, "a list of items that were deleted")
            await self._delete_page(conversation_id, todo, gone)

    async def _item_ids(self, conversation_id: str) -> list[str]:
        try:
            listed, _ = await self.page(conversation_id, None)
        except ProviderError as error:
            if error.code != "not_found":
                raise
            return []
        ids = [id_of(item.get("id")) for item in listed]
        return [each or "" for each in ids]  # one without an id is refused where a path is made

    async def _delete_page(self, conversation_id: str, todo: list[str], gone: set[str]) -> None:
        """Some at a time: one after the other, 10,000 items would take half an hour."""
        failures: list[ProviderError] = []
        todo.reverse()

        async def work() -> None:
            while todo and not failures:
                item_id = todo.pop()
                try:
                    path = f"/items/{segment(item_id, 'invalid_request')}"
                    await self._exists("DELETE", conversation_id, path)
                except ProviderError as error:
                    failures.append(error)
                else:
                    gone.add(item_id)

        async with anyio.create_task_group() as group:
            for _ in range(min(DELETIONS_AT_ONCE, len(todo))):
                group.start_soon(work)
        for failure in failures:
            raise failure

    async def _exists(self, method: str, conversation_id: str, rest: str = "") -> bool:
        """Make a call; False: there is no such thing."""
        try:
            path = path_of(conversation_id, rest)
            await self._service.fetch(HttpCall(method=method, path=path))
        except ProviderError as error:
            if error.code != "not_found":
                raise
            return False
        return True


def described(found: Mapping[str, Any], name: str, own_id: str) -> Json:
    """What `read_metadata` says of a conversation or a thread."""
    metadata = {
        str(key): value
        for key, value in mapping(found.get("metadata")).items()
        if isinstance(value, str)
    }
    created_at = count_of(found.get("created_at"))
    return {name: id_of(found.get("id")) or own_id, "created_at": created_at, "metadata": metadata}
