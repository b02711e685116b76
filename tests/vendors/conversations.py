"""OpenAI's Conversations: items that outlive the requests that made them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from .answers import text_of
from .replies import openai_error, whole
from .state import now
from .values import as_array, as_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .replies import Whole
    from .state import Call, Ids
    from .values import Json

MAX_ITEMS_AT_ONCE = 20
MAX_PAIRS = 16
MAX_KEY = 64
MAX_VALUE = 512
_PREFIXES = {"message": "msg", "reasoning": "rs"}


@attrs.define(kw_only=True)
class Conversation:
    id: str
    created_at: int
    metadata: dict[str, str]
    items: list[Json] = attrs.field(factory=list[Any])
    busy: bool = False

    def shown(self) -> Json:
        return {
            "id": self.id,
            "object": "conversation",
            "created_at": self.created_at,
            "metadata": dict(self.metadata),
        }


class Conversations:
    """All of them, by id."""

    def __init__(self) -> None:
        self.by_id: dict[str, Conversation] = {}
        self.orphans: list[Json] = []
        """Items of conversations that were deleted."""
        self.locked: set[str] = set()
        """Ids that are refused as locked, whatever runs."""

    def get(self, conversation_id: str) -> Conversation:
        found = self.by_id.get(conversation_id)
        if found is None:
            raise openai_error(404, f"Conversation with id '{conversation_id}' not found.")
        return found

    def lock(self, call: Call, conversation_id: str) -> Conversation:
        """It answers one request at a time: this one, until its answer is over."""
        found = self.get(conversation_id)
        if found.busy or conversation_id in self.locked:
            raise openai_error(
                400,
                "Another process is currently operating on this conversation. "
                "Please retry in a few seconds.",
                code="conversation_locked",
            )
        found.busy = True

        def release() -> None:
            found.busy = False

        call.finally_(release)
        return found


def checked_metadata(value: object) -> dict[str, str]:
    """<= 16 pairs of strings, keys <= 64 and values <= 512 characters."""
    if value is None:
        return {}
    pairs = as_object(value)
    if pairs is None:
        raise _invalid("metadata", "Invalid type for 'metadata': expected an object.")
    if len(pairs) > MAX_PAIRS:
        raise _invalid("metadata", f"Invalid 'metadata': too many properties (> {MAX_PAIRS}).")
    for key, text in pairs.items():
        if len(key) > MAX_KEY:
            raise _invalid("metadata", f"Invalid 'metadata': a key is longer than {MAX_KEY}.")
        if not isinstance(text, str):
            raise _invalid(f"metadata.{key}", f"Invalid type for 'metadata.{key}': no string.")
        if len(text) > MAX_VALUE:
            raise _invalid(f"metadata.{key}", f"'metadata.{key}' is longer than {MAX_VALUE}.")
    return dict(pairs)


def _invalid(param: str, message: str) -> Exception:
    return openai_error(400, message, param=param, code="invalid_value")


def stored_items(ids: Ids, given: object, *, limit: int | None = None) -> list[Json]:
    """Items as the vendor keeps them, of items as a request writes them."""
    items = as_array(given)
    if items is None:
        raise _invalid("items", "Invalid type for 'items': expected an array.")
    if limit is not None and len(items) > limit:
        raise _invalid("items", f"Invalid 'items': array too long, at most {limit}.")
    return [_stored(ids, each) for each in items]


def _stored(ids: Ids, given: Json) -> Json:
    kind = given.get("type", "message")
    if kind != "message":
        return {"id": ids.new(_PREFIXES.get(kind, "item")), **given}
    role = given.get("role")
    if role not in {"user", "assistant", "system", "developer"}:
        raise _invalid("input", f"Invalid value: {role!r}. Supported: a role of a message.")
    return {
        "id": given.get("id") or ids.new("msg"),
        "type": "message",
        "status": "completed",
        "role": role,
        "content": _parts(role, given.get("content")),
    }


def _parts(role: str, content: object) -> list[Json]:
    if isinstance(content, str):
        kind = "output_text" if role == "assistant" else "input_text"
        content = [{"type": kind, "text": content}]
    return [_part(role, each) for each in as_array(content) or ()]


def _part(role: str, part: Json) -> Json:
    wanted = {"output_text", "refusal"} if role == "assistant" else {"input_text", "input_image"}
    kind = part.get("type")
    if kind not in wanted:
        raise _invalid("input", f"Invalid value: {kind!r} of role {role!r}.")
    return {"annotations": [], "logprobs": [], **part} if kind == "output_text" else dict(part)


def said(items: Iterable[Json]) -> list[tuple[str, str]]:
    """What a model reads of items."""
    return [
        (item["role"], text_of(item["content"]))
        for item in items
        if item.get("type", "message") == "message"
    ]


# ---------------------------------------------------------------- endpoints


def create(call: Call) -> Whole:
    metadata = checked_metadata(call.body.get("metadata"))
    given: Any = call.body.get("items")
    items = stored_items(call.state.ids, given or [], limit=MAX_ITEMS_AT_ONCE)
    conversation = Conversation(
        id=call.state.ids.new("conv"), created_at=now(), metadata=metadata, items=items
    )
    call.state.conversations.by_id[conversation.id] = conversation
    return whole(conversation.shown())


def retrieve(call: Call) -> Whole:
    return whole(call.state.conversations.get(call.arguments[0]).shown())


def update(call: Call) -> Whole:
    conversation = call.state.conversations.get(call.arguments[0])
    call.required("metadata", dict)
    conversation.metadata = checked_metadata(call.body["metadata"])
    return whole(conversation.shown())


def delete(call: Call) -> Whole:
    """The conversation alone: its items stay, out of reach."""
    conversation = call.state.conversations.get(call.arguments[0])
    del call.state.conversations.by_id[conversation.id]
    call.state.conversations.orphans += conversation.items
    return whole({"id": conversation.id, "object": "conversation.deleted", "deleted": True})


def create_items(call: Call) -> Whole:
    conversation = call.state.conversations.get(call.arguments[0])
    given = call.required("items", list)
    items = stored_items(call.state.ids, given, limit=MAX_ITEMS_AT_ONCE)
    conversation.items += items
    return whole(_listed(items, has_more=False))


def list_items(call: Call) -> Whole:
    conversation = call.state.conversations.get(call.arguments[0])
    return whole(page(conversation.items, call.seen.query, default_order="desc"))


def retrieve_item(call: Call) -> Whole:
    return whole(_item(call))


def delete_item(call: Call) -> Whole:
    """Answers with the conversation."""
    item = _item(call)
    conversation = call.state.conversations.get(call.arguments[0])
    conversation.items.remove(item)
    return whole(conversation.shown())


def _item(call: Call) -> Json:
    conversation_id, item_id = call.arguments
    for item in call.state.conversations.get(conversation_id).items:
        if item["id"] == item_id:
            return item
    raise openai_error(
        404, f"Item with id '{item_id}' not found in conversation '{conversation_id}'."
    )


def page(items: list[Json], query: Mapping[str, str], *, default_order: str) -> Json:
    """Some of them: `limit` (1 to 100, 20), `order`, `after` an id."""
    limit = query.get("limit", "20")
    if not limit.isdigit() or not 1 <= int(limit) <= 100:
        raise _invalid("limit", f"Invalid 'limit': {limit}. Expected 1 to 100.")
    order = query.get("order", default_order)
    if order not in {"asc", "desc"}:
        raise _invalid("order", f"Invalid value: '{order}'. Supported values: 'asc', 'desc'.")
    ordered = items if order == "asc" else items[::-1]
    after = query.get("after")
    if after is not None:
        ids = [item["id"] for item in ordered]
        if after not in ids:
            raise openai_error(404, f"No item found with id '{after}'.", param="after")
        ordered = ordered[ids.index(after) + 1 :]
    return _listed(ordered[: int(limit)], has_more=len(ordered) > int(limit))


def _listed(items: list[Json], *, has_more: bool) -> Json:
    return {
        "object": "list",
        "data": items,
        "first_id": items[0]["id"] if items else "",
        "last_id": items[-1]["id"] if items else "",
        "has_more": has_more,
    }
