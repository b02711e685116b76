"""What a server does wrong while it tells the key: in a body, a header, an address, an event."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

from ...vendors import faults
from .looking import GATEWAY_KEY, KEY

if TYPE_CHECKING:
    from ...vendors.faults import Fault

HALF = len(KEY) // 2


def forms_of(key: str) -> list[str]:
    """The key as a server may write it."""
    return [
        key,
        key.lower(),
        quote(key, safe=""),
        quote_plus(key).lower(),
        quote(quote(key, safe=""), safe=""),
        "".join(f"%{ord(each):02x}" for each in key),
        json.dumps(key),
        json.dumps(json.dumps(key)),
        "".join(f"\\u{ord(each):04x}" for each in key),
        repr(key.encode()),
        f"Bearer {key}",
        base64.b64encode(key.encode()).decode(),
        base64.b64encode(f"user:{key}".encode()).decode(),
        key[:HALF],
        key[HALF:],
        f"{key[:14]}...{key[-13:]}",
    ]


SAID = " | ".join([*forms_of(KEY), *forms_of(GATEWAY_KEY)])
HEADERS = {
    "x-request-id": KEY,
    "request-id": KEY,
    "x-ratelimit-remaining-requests": KEY,
    "x-ratelimit-reset-tokens": quote(KEY, safe=""),
    "anthropic-ratelimit-requests-reset": KEY,
    "retry-after": KEY,
    "www-authenticate": f'Bearer error="{KEY}"',
    "x-debug": SAID,
}


def _error(message: str, **more: object) -> dict[str, object]:
    """As OpenAI and Anthropic shape it at once."""
    error = {"type": KEY, "message": message, "param": KEY, "code": KEY, **more}
    return {"type": "error", "error": error, "message": message, "request_id": KEY}


def _at_a_cut(places: int) -> str:
    """A text in which the key lies across the place where it is cut."""
    return "a" * (places - HALF) + KEY + "b" * 100


STATUSES: dict[str, Fault] = {
    **{
        f"status {code}": faults.status(code, _error(SAID), HEADERS)
        for code in (400, 401, 404, 429, 500, 529)
    },
    "status as text": faults.status(502, SAID, HEADERS),
    "status as a list": faults.raw(json.dumps([SAID, {"error": SAID}]).encode(), code=500),
    "status with a number": faults.status(400, {"error": {"code": 401, "message": SAID}}),
    "status with details": faults.status(
        400,
        {"error": {"type": "x", "message": SAID, "details": {"error_code": f"thread_{KEY}"}}},
    ),
    "status with a text as error": faults.status(422, {"error": SAID, "detail": SAID}),
    "status with an object as message": faults.status(422, {"error": {"message": {"x": SAID}}}),
    "status in HTML": faults.raw(f"<html>{SAID}</html>".encode(), "text/html", 403),
    **{
        f"status cut at {places}": faults.status(400, _error(_at_a_cut(places)))
        for places in (100, 200, 500, 2_000, 65_500)
    },
    **{
        f"text cut at {places}": faults.status(500, _at_a_cut(places))
        for places in (500, 2_000, 65_536)
    },
    "escaped throughout": faults.raw(
        b'{"error": {"message": "%s"}}'
        % "".join(f"\\u{ord(each):04x}" for each in "a" * 490 + KEY).encode(),
        code=400,
    ),
}

ADDRESSES: dict[str, Fault] = {
    "redirect": faults.redirect(f"https://elsewhere.example/{quote(KEY)}/{KEY}?key={KEY}"),
    "redirect to a user": faults.redirect(f"https://user:{quote(KEY, safe='')}@example.com/", 308),
    "redirect that is cut": faults.redirect(f"https://x/{'a' * (190 - HALF)}{KEY}/more", 301),
    "type": faults.raw(b"", f"text/{KEY}"),
    "type that is cut": faults.raw(b"x", f"text/{'a' * (95 - HALF)}{KEY}; more={'b' * 50}"),
    "HTML": faults.raw(f"<html>{SAID}".encode(), "text/html"),
    "HTML that is cut": faults.raw(_at_a_cut(200).encode(), "text/html"),
    "JSON in place of a stream": faults.raw(json.dumps(_error(SAID)).encode()),
    "no JSON": faults.raw(SAID.encode()),
    "headers": faults.with_headers() & faults.Fault(headers=HEADERS),
}

_CONNECTION = {
    "reset": faults.reset,
    "drop": faults.drop,
    "truncate": faults.truncate,
}
BROKEN: dict[str, Fault] = {
    "reset before all": faults.reset() & faults.Fault(headers=HEADERS),
    "drop before all": faults.drop() & faults.Fault(headers=HEADERS),
    "lost": faults.lost() & faults.Fault(headers=HEADERS),
    **{
        f"{name} after {events}": make(events=events) & faults.Fault(headers=HEADERS)
        for name, make in _CONNECTION.items()
        for events in (0, 1, 2)
    },
}


def _event(data: str, name: str = "error") -> Fault:
    return faults.insert(f"event: {name}\ndata: {data}\n\n".encode(), events=1)


EVENTS: dict[str, Fault] = {
    "an error": faults.in_stream_error(_error(SAID), name="error"),
    "an error without a name": faults.in_stream_error(_error(SAID)),
    "an error as text": _event(json.dumps(SAID)) & faults.truncate(events=1),
    "an error that is cut": faults.in_stream_error(_error(_at_a_cut(500)), name="error"),
    "an error that is cut late": faults.in_stream_error(_error(_at_a_cut(2_000)), name="error"),
    "an error escaped throughout": _event(
        json.dumps(_error("a")).replace(
            '"a"', '"' + "".join(f"\\u{ord(each):04x}" for each in SAID) + '"'
        )
    )
    & faults.truncate(events=1),
    "a failed response": _event(
        json.dumps(
            {
                "type": "response.failed",
                "response": {"id": KEY, "status": "failed", "error": _error(SAID)["error"]},
            }
        ),
        "response.failed",
    ),
    "a failed run": _event(
        json.dumps({"id": KEY, "object": "thread.run", "last_error": _error(SAID)["error"]}),
        "thread.run.failed",
    ),
    "half an object": _event(f'{{"delta": "{SAID}', "response.output_text.delta"),
    "half an object that is cut": _event('{"a": "' + "a" * 80 + KEY, KEY),
    "no object": _event(json.dumps([SAID]), KEY) & faults.truncate(events=1),
    "no UTF-8": faults.insert(f"data: {SAID}".encode() + b"\xff\xfe\n\n", events=1),
    "a comment": faults.insert(f": {SAID}\n\n".encode(), events=1) & faults.truncate(events=1),
}

ALL = STATUSES | ADDRESSES | BROKEN | EVENTS
