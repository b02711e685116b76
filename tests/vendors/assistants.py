"""OpenAI's Assistants as they were until 2026-08-26: threads, their messages, streamed runs.

A run goes on when its client is gone: it stays in the way of the next one until it is cancelled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from .answers import text_of
from .conversations import checked_metadata, page
from .replies import Event, Stream, openai_error, whole
from .state import now
from .values import as_array

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .answers import Answer, Asked
    from .replies import Reply, Whole
    from .state import Call
    from .values import Json

_ENDED = {"completed", "failed", "cancelled", "incomplete", "expired"}


@attrs.define(kw_only=True)
class Thread:
    id: str
    created_at: int
    metadata: dict[str, str]
    messages: list[Json] = attrs.field(factory=list[Any])
    runs: dict[str, Json] = attrs.field(factory=dict[str, Any])

    def shown(self) -> Json:
        return {
            "id": self.id,
            "object": "thread",
            "created_at": self.created_at,
            "metadata": dict(self.metadata),
            "tool_resources": {},
        }

    @property
    def active_run(self) -> Json | None:
        return next((run for run in self.runs.values() if run["status"] not in _ENDED), None)


class Assistants:
    """All threads, by id; `server.state.assistants`."""

    def __init__(self) -> None:
        self.by_id: dict[str, Thread] = {}
        self.unknown: set[str] = set()
        """Ids of assistants that do not exist; every other one does."""
        self.shut_down = False
        """As the vendor's own API since 2026-08-26."""

    def get(self, thread_id: str) -> Thread:
        found = self.by_id.get(thread_id)
        if found is None:
            raise openai_error(404, f"No thread found with id '{thread_id}'.")
        return found


def _thread(call: Call) -> Thread:
    _check(call)
    return call.state.assistants.get(call.arguments[0])


def _check(call: Call) -> None:
    if call.state.assistants.shut_down:
        raise openai_error(404, f"Invalid URL ({call.seen.method} {call.seen.path})")
    if call.seen.headers.get("openai-beta") != "assistants=v2":
        raise openai_error(
            400,
            "You must provide the 'OpenAI-Beta' header to access the Assistants API. "
            "Please try again by setting the header 'OpenAI-Beta: assistants=v2'.",
            code="invalid_beta",
        )


def _check_idle(thread: Thread) -> None:
    run = thread.active_run
    if run is not None:
        raise openai_error(400, f"Thread {thread.id} already has an active run {run['id']}.")


# ---------------------------------------------------------------- threads and messages


def create(call: Call) -> Whole:
    _check(call)
    thread = Thread(
        id=call.state.ids.new("thread"),
        created_at=now(),
        metadata=checked_metadata(call.body.get("metadata")),
    )
    for given in as_array(call.body.get("messages")) or ():
        thread.messages.append(_message(call, thread, given))
    call.state.assistants.by_id[thread.id] = thread
    return whole(thread.shown())


def retrieve(call: Call) -> Whole:
    return whole(_thread(call).shown())


def update(call: Call) -> Whole:
    thread = _thread(call)
    thread.metadata = checked_metadata(call.body.get("metadata"))
    return whole(thread.shown())


def delete(call: Call) -> Whole:
    thread = _thread(call)
    del call.state.assistants.by_id[thread.id]
    return whole({"id": thread.id, "object": "thread.deleted", "deleted": True})


def create_message(call: Call) -> Whole:
    thread = _thread(call)
    _check_idle(thread)
    message = _message(call, thread, call.body)
    thread.messages.append(message)
    return whole(message)


def list_messages(call: Call) -> Whole:
    return whole(page(_thread(call).messages, call.seen.query, default_order="desc"))


def _message(call: Call, thread: Thread, given: Json) -> Json:
    role = given.get("role")
    if role not in {"user", "assistant"}:
        raise openai_error(400, f"Invalid value: {role!r}.", param="role", code="invalid_value")
    text = text_of(given.get("content"))
    if not text:
        raise openai_error(400, "Message content must be non-empty.", param="content")
    return {
        **_new_message(call, thread, str(role), status="completed"),
        "completed_at": now(),
        "content": [_text(text)],
        "metadata": checked_metadata(given.get("metadata")),
    }


def _new_message(call: Call, thread: Thread, role: str, *, status: str) -> Json:
    return {
        "id": call.state.ids.new("msg"),
        "object": "thread.message",
        "created_at": now(),
        "thread_id": thread.id,
        "role": role,
        "status": status,
        "completed_at": None,
        "incomplete_at": None,
        "incomplete_details": None,
        "content": [],
        "assistant_id": None,
        "run_id": None,
        "attachments": [],
        "metadata": {},
    }


def _text(value: str) -> Json:
    return {"type": "text", "text": {"value": value, "annotations": []}}


# ---------------------------------------------------------------- runs


def create_run(call: Call) -> Reply:
    thread = _thread(call)
    _check_idle(thread)
    assistant = call.required("assistant_id", str)
    if assistant in call.state.assistants.unknown:
        raise openai_error(404, f"No assistant found with id '{assistant}'.")
    for given in as_array(call.body.get("additional_messages")) or ():
        thread.messages.append(_message(call, thread, given))
    run = _new_run(call, thread, assistant)
    thread.runs[run["id"]] = run
    if call.body.get("stream"):
        return Stream(events=_Run(call, thread, run).events())
    return whole(run)


def retrieve_run(call: Call) -> Whole:
    """A run that is not streamed is finished when it is asked for."""
    thread, run = _run(call)
    if run["status"] == "queued":
        for _ in _Run(call, thread, run).events():
            pass
    return whole(run)


def cancel_run(call: Call) -> Whole:
    _, run = _run(call)
    if run["status"] in _ENDED:
        raise openai_error(400, f"Cannot cancel run with status '{run['status']}'.")
    run["status"] = "cancelled"
    run["cancelled_at"] = now()
    return whole({**run, "status": "cancelling"})


def _run(call: Call) -> tuple[Thread, Json]:
    thread = _thread(call)
    run = thread.runs.get(call.arguments[1])
    if run is None:
        raise openai_error(404, f"No run found with id '{call.arguments[1]}'.")
    return thread, run


def _new_run(call: Call, thread: Thread, assistant: str) -> Json:
    body = call.body
    return {
        "id": call.state.ids.new("run"),
        "object": "thread.run",
        "created_at": now(),
        "assistant_id": assistant,
        "thread_id": thread.id,
        "status": "queued",
        "started_at": None,
        "expires_at": now() + 600,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": None,
        "required_action": None,
        "last_error": None,
        "incomplete_details": None,
        "model": body.get("model") or "gpt-reference",
        "instructions": body.get("instructions") or "",
        "tools": [],
        "metadata": checked_metadata(body.get("metadata")),
        "usage": None,
        "temperature": body.get("temperature", 1.0),
        "top_p": body.get("top_p", 1.0),
        "max_prompt_tokens": None,
        "max_completion_tokens": body.get("max_completion_tokens"),
        "truncation_strategy": {"type": "auto", "last_messages": None},
        "response_format": "auto",
        "tool_choice": "auto",
        "parallel_tool_calls": True,
    }


class _Run:
    """A run being made; it looks after each event whether it was cancelled."""

    def __init__(self, call: Call, thread: Thread, run: Json) -> None:
        self._call = call
        self._thread = thread
        self._run = run
        limit = run["max_completion_tokens"]
        asked, answer = call.ask(run["model"], self._shown(), limit)
        self._asked: Asked = asked
        self._answer: Answer = answer

    def _shown(self) -> list[tuple[str, str]]:
        body = self._call.body
        texts = [body.get("instructions"), body.get("additional_instructions")]
        system = [("system", str(text)) for text in texts if text]
        said = [(each["role"], text_of(each["content"])) for each in self._thread.messages]
        return system + said

    def events(self) -> Iterator[Event]:
        for event in self._all():
            yield event
            if self._run["status"] == "cancelled":
                break
        if self._run["status"] == "cancelled":
            yield self._told("cancelled")
        yield Event("[DONE]", "done")

    def _all(self) -> Iterator[Event]:
        run = self._run
        yield self._told("created")
        yield self._told("queued")
        run["status"], run["started_at"] = "in_progress", now()
        yield self._told("in_progress")
        message = _new_message(self._call, self._thread, "assistant", status="in_progress")
        message |= {"assistant_id": run["assistant_id"], "run_id": run["id"]}
        step = self._step(message["id"])
        yield _event("run.step.created", step)
        yield _event("run.step.in_progress", step)
        yield _event("message.created", message)
        yield _event("message.in_progress", message)
        for piece in self._answer.pieces():
            yield _event("message.delta", _delta(message["id"], piece))
        if self._answer.fails:
            yield from self._fail(step)
        else:
            yield from self._finish(message, step)

    def _told(self, what: str) -> Event:
        return _event(f"run.{what}", self._run)

    def _step(self, message_id: str) -> Json:
        return {
            "id": self._call.state.ids.new("step"),
            "object": "thread.run.step",
            "created_at": now(),
            "run_id": self._run["id"],
            "assistant_id": self._run["assistant_id"],
            "thread_id": self._thread.id,
            "type": "message_creation",
            "status": "in_progress",
            "cancelled_at": None,
            "completed_at": None,
            "expired_at": None,
            "failed_at": None,
            "last_error": None,
            "metadata": None,
            "step_details": {
                "type": "message_creation",
                "message_creation": {"message_id": message_id},
            },
            "usage": None,
        }

    def _fail(self, step: Json) -> Iterator[Event]:
        error = {"code": self._answer.error_code, "message": self._answer.error}
        step |= {"status": "failed", "failed_at": now(), "last_error": error}
        yield _event("run.step.failed", step)
        self._run |= {"status": "failed", "failed_at": now(), "last_error": error}
        yield self._told("failed")

    def _finish(self, message: Json, step: Json) -> Iterator[Event]:
        cut = self._answer.finish == "length"
        message["content"] = [_text(self._answer.said)]
        self._thread.messages.append(message)
        if cut:
            details = {"reason": "max_tokens"}
            message |= {
                "status": "incomplete",
                "incomplete_at": now(),
                "incomplete_details": details,
            }
            yield _event("message.incomplete", message)
        else:
            message |= {"status": "completed", "completed_at": now()}
            yield _event("message.completed", message)
        usage = self._usage()
        step |= {"status": "completed", "completed_at": now(), "usage": usage}
        yield _event("run.step.completed", step)
        self._run["usage"] = usage
        if cut:
            details = {"reason": "max_completion_tokens"}
            self._run |= {"status": "incomplete", "incomplete_details": details}
            yield self._told("incomplete")
        else:
            self._run |= {"status": "completed", "completed_at": now()}
            yield self._told("completed")

    def _usage(self) -> Json:
        tokens_in, tokens_out = self._answer.tokens_in(self._asked), self._answer.tokens_out()
        return {
            "prompt_tokens": tokens_in,
            "completion_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
        }


def _event(what: str, data: Json) -> Event:
    return Event(dict(data), f"thread.{what}")


def _delta(message_id: str, piece: str) -> Json:
    content: Json = {"index": 0, **_text(piece)}
    return {"id": message_id, "object": "thread.message.delta", "delta": {"content": [content]}}
