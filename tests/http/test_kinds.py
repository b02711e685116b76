"""What a failed connection failed of is found behind what the client raises."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest
from langswarm.core.session.adapters.http.client import MANNERS, Client, Kind, load_library
from langswarm.core.session.adapters.http.options import HttpOptions


@pytest.mark.parametrize(
    ("behind", "kind"),
    [
        (socket.gaierror(-2, "no"), "dns"),
        (ssl.SSLCertVerificationError(1, "no"), "certificate"),
        (ssl.SSLError(1, "no"), "tls"),
        (ConnectionRefusedError(111, "no"), "refused"),
        (OSError("all failed"), "connect"),
        (ExceptionGroup("all failed", [OSError("a"), ConnectionRefusedError("b")]), "refused"),
    ],
)
async def test_a_connection_that_was_not_made_says_why(
    behind: Exception, kind: Kind, library: str
) -> None:
    options = HttpOptions(base_url="https://api.example.com", http_library=library)
    module: Any = load_library(options)
    outer = module.ConnectError("no")
    outer.__cause__ = OSError("in between")
    outer.__cause__.__context__ = behind
    assert Client(module, options).kind_of(outer) == kind
    assert not MANNERS[kind].ambiguous


async def test_causes_in_a_circle_are_looked_at_once(library: str) -> None:
    options = HttpOptions(base_url="https://api.example.com", http_library=library)
    module: Any = load_library(options)
    outer = module.ConnectError("no")
    inner = OSError("no")
    outer.__cause__ = inner
    inner.__cause__ = outer
    assert Client(module, options).kind_of(outer) == "connect"
