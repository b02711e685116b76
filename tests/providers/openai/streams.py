"""Streams of the Responses and the Assistants API, event by event, as a vendor sends them."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from langswarm.core.session.adapters.http.sse import SSEParser
from langswarm.core.session.errors import ProviderError
from langswarm.core.session.providers import Completed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from langswarm.core.session.adapters.providers.openai.assistants import RunReader
    from langswarm.core.session.adapters.providers.openai.responses import ResponsesReader

Json = dict[str, Any]
USAGE: Json = {
    "input_tokens": 12,
    "input_tokens_details": {"cached_tokens": 8},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 17,
}


def part(text: str, *, refuses: bool = False) -> Json:
    if refuses:
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def message(number: int, text: str, *, refuses: bool = False) -> Json:
    return {
        "type": "message",
        "id": f"msg_{number}",
        "role": "assistant",
        "status": "completed",
        "content": [part(text, refuses=refuses)],
    }


def response_events(
    *messages: Sequence[str],
    refuses: bool = False,
    reasoning: bool = False,
    incomplete: str | None = None,
    shown_output: bool = True,
) -> list[Json]:
    """The events of a response; each message is given as its deltas."""
    kind = "refusal" if refuses else "output_text"
    response: Json = {"id": "resp_1", "status": "in_progress", "model": "gpt-5-2026", "output": []}
    events: list[Json] = [
        {"type": "response.created", "response": response},
        {"type": "response.in_progress", "response": response},
    ]
    output: list[Json] = []
    if reasoning:
        item: Json = {"type": "reasoning", "id": "rs_1", "summary": []}
        events.append({"type": "response.output_item.added", "output_index": 0, "item": item})
        events.append({"type": "response.reasoning_text.delta", "delta": "hm", "item_id": "rs_1"})
        events.append({"type": "response.output_item.done", "output_index": 0, "item": item})
        output.append(item)
    for number, deltas in enumerate(messages):
        place = {"output_index": len(output), "content_index": 0, "item_id": f"msg_{number}"}
        whole = message(number, "".join(deltas), refuses=refuses)
        events.append({"type": "response.output_item.added", **place, "item": {"type": "message"}})
        events.append({"type": "response.content_part.added", **place, "part": part("")})
        events += [{"type": f"response.{kind}.delta", **place, "delta": each} for each in deltas]
        done = {"refusal" if refuses else "text": "".join(deltas)}
        events.append({"type": f"response.{kind}.done", **place, **done})
        events.append({"type": "response.content_part.done", **place, "part": whole["content"][0]})
        events.append({"type": "response.output_item.done", **place, "item": whole})
        output.append(whole)
    status = "completed" if incomplete is None else "incomplete"
    details = None if incomplete is None else {"reason": incomplete}
    end = {
        **response,
        "status": status,
        "output": output if shown_output else [],
        "incomplete_details": details,
        "service_tier": "default",
        "usage": USAGE,
    }
    events.append({"type": f"response.{status}", "response": end})
    for number, event in enumerate(events):
        event["sequence_number"] = number
    return events


def run_events(*messages: Sequence[str], ends: str = "completed", **fields: Any) -> list[Json]:
    """The events of a run, as {"event", "data"}."""
    run: Json = {"id": "run_1", "object": "thread.run", "status": "queued", "thread_id": "thread_1"}
    events = [
        {"event": "thread.run.created", "data": run},
        {"event": "thread.run.queued", "data": run},
        {"event": "thread.run.in_progress", "data": run},
        {"event": "thread.run.step.created", "data": {"id": "step_1"}},
    ]
    for number, deltas in enumerate(messages):
        new = {"id": f"msg_{number}", "object": "thread.message", "role": "assistant"}
        events.append({"event": "thread.message.created", "data": {**new, "content": []}})
        for text in deltas:
            content = [{"index": 0, "type": "text", "text": {"value": text}}]
            delta = {"id": new["id"], "object": "thread.message.delta"}
            events.append(
                {"event": "thread.message.delta", "data": {**delta, "delta": {"content": content}}}
            )
        whole: list[Json] = [{"type": "text", "text": {"value": "".join(deltas)}}]
        events.append({"event": "thread.message.completed", "data": {**new, "content": whole}})
    usage = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
    end = {**run, "status": ends, "usage": usage, "assistant_id": "asst_1", "model": "gpt-5"}
    events.append({"event": f"thread.run.{ends}", "data": {**end, **fields}})
    return events


def sent(events: Iterable[Json], *, ascii_only: bool = True) -> bytes:
    """Events of a response as bytes."""
    return b"".join(
        f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=ascii_only)}\n\n".encode()
        for event in events
    )


def sent_run(events: Iterable[Json], *, done: bool = True) -> bytes:
    """Events of a run as bytes."""
    lines = [
        f"event: {event['event']}\ndata: {json.dumps(event['data'])}\n\n".encode()
        for event in events
    ]
    return b"".join(lines) + (b"event: done\ndata: [DONE]\n\n" if done else b"")


class Heard:
    """What a reader makes of bytes that come in chunks."""

    def __init__(
        self, reader: ResponsesReader | RunReader, data: bytes, cuts: Iterable[int] = ()
    ) -> None:
        self.texts: list[str] = []
        self.completed: Completed | None = None
        self.error: ProviderError | None = None
        parser = SSEParser()
        places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
        try:
            for start, end in pairwise(places):
                for event in parser.feed(data[start:end]):
                    for each in reader.feed(event):
                        assert self.completed is None, "something came after the end"
                        if isinstance(each, Completed):
                            self.completed = each
                        else:
                            self.texts.append(each)
            end_of_body = reader.end()
            assert end_of_body is self.completed
        except ProviderError as error:
            self.error = error

    @property
    def text(self) -> str:
        return "".join(self.texts)
