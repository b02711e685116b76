"""Each fault does to a client what its name says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest

from . import faults
from .gates import PATIENCE_SECONDS, Gate
from .server import vendor_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .faults import Fault
    from .server import VendorServer

BODY = {"model": "m", "input": "hi there"}
STREAM = {**BODY, "stream": True}
PATH = "/v1/responses"


@pytest.fixture
def client(vendor: VendorServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=vendor.url, trust_env=False, timeout=PATIENCE_SECONDS) as client:
        yield client


def whole_stream(client: httpx.Client) -> bytes:
    return client.post(PATH, json=STREAM).content


def received(client: httpx.Client) -> tuple[bytes, type[Exception] | None]:
    """What of a stream arrives, and what ends it; None: a good end."""
    found = b""
    try:
        with client.stream("POST", PATH, json=STREAM) as response:
            for data in response.iter_raw():
                found += data
    except httpx.TransportError as error:
        return found, type(error)
    return found, None


def events_in(data: bytes) -> int:
    return data.count(b"\n\n")


def test_statuses_come_in_order_and_then_it_answers(
    vendor: VendorServer, client: httpx.Client
) -> None:
    vendor.script(
        *faults.storm(429, 2, retry_after="1", x_should_retry="true"),
        faults.status(529),
        faults.status(503, "busy", {"retry-after-ms": "20"}),
        path="/v1/responses",
    )
    assert client.post("/v1/conversations").status_code == 200
    answers = [client.post(PATH, json=BODY) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [429, 429, 529, 503, 200]
    assert answers[0].headers["retry-after"] == "1"
    assert answers[1].headers["x-should-retry"] == "true"
    assert answers[2].json()["error"]["message"] == "fault 529"
    assert (answers[3].text, answers[3].headers["retry-after-ms"]) == ("busy", "20")
    assert vendor.faults_left == 0
    assert len(vendor.state.responses.by_id) == 1


def test_a_reset_before_the_headers(vendor: VendorServer, client: httpx.Client) -> None:
    vendor.script(faults.reset())
    with pytest.raises(httpx.ReadError):
        client.post(PATH, json=BODY)
    assert client.post(PATH, json=BODY).status_code == 200


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("fault", ["reset", "drop", "truncate"])
def test_an_end_after_so_many_events(
    vendor: VendorServer, client: httpx.Client, fault: str, count: int
) -> None:
    make = {"reset": faults.reset, "drop": faults.drop, "truncate": faults.truncate}[fault]
    vendor.script(make(events=count))
    found, error = received(client)
    if fault == "truncate":
        assert error is None
        assert events_in(found) == count
    elif fault == "drop":
        assert error is httpx.RemoteProtocolError
        assert events_in(found) == count
    else:
        # What was not read yet is lost with the connection.
        assert error in {httpx.ReadError, httpx.RemoteProtocolError}
        assert events_in(found) <= count
    assert vendor.last.events == count
    assert vendor.last.outcome == "answered"


def test_an_end_at_every_byte(vendor: VendorServer, client: httpx.Client) -> None:
    size = len(whole_stream(client))
    for count in {*range(0, size, 97), 1, size - 1}:
        vendor.script(faults.truncate(after_bytes=count))
        found, error = received(client)
        assert (len(found), error) == (count, None)


def test_an_answer_in_one_piece_can_be_cut(vendor: VendorServer, client: httpx.Client) -> None:
    vendor.script(faults.drop(after_bytes=40))
    with pytest.raises(httpx.RemoteProtocolError):
        client.post(PATH, json=BODY)
    vendor.script(faults.truncate(after_bytes=40))
    assert len(client.post(PATH, json=BODY).content) == 40


def test_what_was_processed_may_get_lost(vendor: VendorServer, client: httpx.Client) -> None:
    made = client.post("/v1/conversations").json()["id"]
    for by in ("reset", "drop"):
        for body in (BODY, STREAM):
            vendor.script(faults.lost(by="reset" if by == "reset" else "drop"), path=PATH)
            with pytest.raises(httpx.TransportError):
                client.post(PATH, json={**body, "conversation": made})
    listed = client.get(f"/v1/conversations/{made}/items").json()
    assert len(listed["data"]) == 8
    assert not vendor.state.conversations.by_id[made].busy


def test_an_answer_that_breaks_off_leaves_the_conversation_as_it_was(
    vendor: VendorServer, client: httpx.Client
) -> None:
    made = client.post("/v1/conversations").json()["id"]
    vendor.script(faults.reset(events=4), path=PATH)
    with pytest.raises(httpx.TransportError):
        client.post(PATH, json={**STREAM, "conversation": made})
    assert vendor.state.conversations.by_id[made].items == []
    assert not vendor.state.conversations.by_id[made].busy


@pytest.mark.parametrize("events", [None, 0, 3])
def test_a_stall_lasts_until_the_client_goes(
    vendor: VendorServer, client: httpx.Client, events: int | None
) -> None:
    vendor.script(faults.half_open() if events is None else faults.stall(events=events))
    with pytest.raises(httpx.ReadTimeout):
        client.post(PATH, json=STREAM, timeout=0.2)
    vendor.wait_until(lambda: vendor.aborted == 1)
    assert vendor.last.outcome == "aborted"
    assert vendor.last.events == (events or 0)


def test_one_byte_at_a_time(vendor: VendorServer, client: httpx.Client) -> None:
    vendor.script(faults.slices(1))
    sizes: set[int] = set()
    with client.stream("POST", PATH, json=STREAM) as response:
        data = b""
        for piece in response.iter_raw():
            sizes.add(len(piece))
            data += piece
    assert sizes == {1}
    assert events_in(data) == events_in(whole_stream(client))


def test_a_slow_loris_gives_a_byte_at_each_step(vendor: VendorServer, client: httpx.Client) -> None:
    gate = Gate()
    vendor.script(faults.trickle(gate))
    with client.stream("POST", PATH, json=STREAM) as response:
        pieces = response.iter_raw()
        found = b""
        for number in range(1, 6):
            gate.wait(number)
            gate.step()
            found += next(pieces)
    assert found == b"event"


def inserted(vendor: VendorServer, client: httpx.Client, fault: Fault) -> list[bytes]:
    plain = whole_stream(client).split(b"\n\n")
    vendor.script(fault)
    found = whole_stream(client).split(b"\n\n")
    assert len(found) == len(plain) + 1
    return found


def test_bad_events_come_between_the_good_ones(vendor: VendorServer, client: httpx.Client) -> None:
    found = inserted(vendor, client, faults.malformed_chunk(events=2))[2]
    with pytest.raises(json.JSONDecodeError):
        json.loads(found.removeprefix(b"data: "))
    with pytest.raises(UnicodeDecodeError):
        inserted(vendor, client, faults.bad_utf8(events=2))[2].decode()
    assert b"vendor.news" in inserted(vendor, client, faults.unknown_event(events=2))[2]
    twice = inserted(vendor, client, faults.duplicate(events=4))
    assert twice[3] == twice[4]


def test_an_error_in_a_stream_ends_it(vendor: VendorServer, client: httpx.Client) -> None:
    vendor.script(faults.in_stream_error({"error": {"message": "no"}}, events=3, name="error"))
    found = whole_stream(client)
    assert events_in(found) == 4
    assert found.endswith(b'event: error\ndata: {"error": {"message": "no"}}\n\n')


def test_a_gateway_may_answer_for_it(vendor: VendorServer, client: httpx.Client) -> None:
    vendor.script(faults.html())
    page = client.post(PATH, json=BODY)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html")
    vendor.script(faults.raw(b"{", "application/json"))
    assert client.post(PATH, json=BODY).content == b"{"


def test_a_redirect_leads_to_another_origin(vendor: VendorServer, client: httpx.Client) -> None:
    with vendor_server() as elsewhere:
        vendor.script(faults.redirect(f"{elsewhere.url}{PATH}"))
        headers = {"x-api-key": "canary"}
        client.post(PATH, json=BODY, headers=headers, follow_redirects=True)
        assert elsewhere.last.key == "canary"


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
def test_a_body_may_be_huge(vendor: VendorServer, client: httpx.Client, kind: str) -> None:
    vendor.script(faults.huge_body(1_000_000, content_type=kind))
    with client.stream("POST", PATH, json=BODY) as response:
        assert response.headers["content-type"] == kind
        assert sum(map(len, response.iter_raw())) == 1_000_000


def test_a_huge_body_ends_when_the_client_goes(vendor: VendorServer, client: httpx.Client) -> None:
    vendor.script(faults.huge_body())
    with client.stream("POST", PATH, json=BODY) as response:
        next(response.iter_raw())
    vendor.wait_until(lambda: vendor.aborted == 1)


def test_faults_combine(vendor: VendorServer, client: httpx.Client) -> None:
    vendor.script(
        faults.unknown_event(events=1)
        & faults.truncate(events=2)
        & faults.slices(3)
        & faults.with_headers(x_ratelimit_remaining_requests="0")
    )
    response = client.post(PATH, json=STREAM)
    assert events_in(response.content) == 3
    assert response.headers["x-ratelimit-remaining-requests"] == "0"
