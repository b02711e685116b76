"""A server that answers as OpenAI, its imitators and Anthropic do, on 127.0.0.1, with faults.

    with vendor_server() as server:
        OpenAIProvider("key", base_url=server.openai_url)
        AnthropicProvider("key", base_url=server.anthropic_url)

In a test: `from ..vendors import vendor_server`; in a conftest.py
`from ..vendors.fixtures import vendor` gives each test that asks for `vendor` a server of its own.

What it says: `server.answer = "text"`, an `Answer` (deltas, finish, thinking, tokens) or a function
of what it is `Asked`; by default it repeats the question. `server.state` holds what the vendors
keep, and their switches: `key`, `chat` (a `Dialect`), `messages`, `threads`, `assistants`.

What it saw: `server.requests`, `seen(path)`, `wait_for(count)`, `until(...)`, `open_connections`,
`aborted`, `orphaned_items`. A request is settled before its client can see the answer's end.

What goes wrong: `server.script(faults.reset(events=2), faults.status(429))` for the next two
requests; `faults` lists them all, `&` combines them. `gate = server.hold(path, events=3)` holds a
request; `await gate.reached()`, then `gate.release()`.

What the vendors' own clients send for a call: `sdks.openai_request_of` and its like.

Benchmarks run it in a process of its own, so that its CPU time is not theirs:

    vendor_process = runpy.run_path("tests/vendors/process.py")["vendor_process"]
    with vendor_process(deltas=20) as url: ...
"""

from . import faults, limits
from .answers import Answer, Asked
from .chat import Dialect
from .gates import Gate
from .server import Seen, VendorServer, vendor_server

__all__ = [
    "Answer",
    "Asked",
    "Dialect",
    "Gate",
    "Seen",
    "VendorServer",
    "faults",
    "limits",
    "vendor_server",
]
