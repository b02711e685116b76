"""The example applications as processes, each behind its real server, on a port of its own."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import attrs
import httpx

from .client import Client

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS_TO_START = 60
SECONDS_TO_END = 60
GRACE_SECONDS = 30
"""That open requests have after SIGTERM, if the test does not say otherwise."""

_ADDRESS = re.compile(r"unning on (http://127\.0\.0\.1:\d+)")


@attrs.frozen
class App:
    name: str
    command: Sequence[str]
    exit_code: int
    """After SIGTERM."""
    failed_start: int
    """The exit code where the application cannot start."""


APPS = (
    App(
        "fastapi-uvicorn",
        [
            *("-m", "uvicorn", "--app-dir", str(EXAMPLES), "fastapi_app:app"),
            *("--port", "0", "--timeout-graceful-shutdown", "{grace}"),
        ],
        exit_code=-signal.SIGTERM,  # it closes in order and then ends by the signal, as it came
        failed_start=3,
    ),
    App("quart-hypercorn", [str(EXAMPLES / "quart_trio_app.py")], exit_code=0, failed_start=1),
)


class Server:
    """A process. `client()` speaks to it once it has `start`ed."""

    def __init__(
        self, app: App, settings: dict[str, str], grace_seconds: int, file_bytes_max: int | None
    ) -> None:
        grace = str(grace_seconds)
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
        self.app = app
        self.url = ""
        self.expects_clean_log = False
        self.log: list[str] = []
        self._address_known = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "default", *(each.format(grace=grace) for each in app.command)],
            env={**environment, "BIND": "127.0.0.1:0", "GRACE_SECONDS": grace, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        if file_bytes_max is not None:
            limits = (file_bytes_max, file_bytes_max)
            resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, limits)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self.log.append(line)
                address = _ADDRESS.search(line)
                if address is not None:
                    self.url = address[1]
                    self._address_known.set()
        self._address_known.set()

    def start(self) -> None:
        """Until it answers."""
        known = self._address_known.wait(SECONDS_TO_START)
        assert known, self.text
        assert self.url, self.text
        answer = httpx.get(f"{self.url}/health", timeout=SECONDS_TO_START, trust_env=False)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        self.expects_clean_log = True

    def client(self) -> Client:
        return Client(self.url)

    @property
    def text(self) -> str:
        """What it has said."""
        return "".join(self.log)

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Nothing of it is left when this returns."""
        self._process.kill()
        self.wait()

    def wait(self) -> int:
        """The exit code."""
        code = self._process.wait(SECONDS_TO_END)
        self._reader.join(SECONDS_TO_END)
        return code


class Servers:
    """Processes of one application on one file."""

    def __init__(self, app: App, path: Path) -> None:
        self.app = app
        self.path = path
        self._all: list[Server] = []

    def begin(
        self,
        *,
        grace_seconds: int = GRACE_SECONDS,
        file_bytes_max: int | None = None,
        **settings: object,
    ) -> Server:
        """A process that may or may not start."""
        texts = {name: str(value) for name, value in settings.items()}
        texts["SESSIONS_DB"] = str(self.path)
        server = Server(self.app, texts, grace_seconds, file_bytes_max)
        self._all.append(server)
        return server

    def start(self, **settings: Any) -> Server:
        """A process that answers."""
        server = self.begin(**settings)
        server.start()
        return server

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for server in self._all:
            server.kill()
        if exc is not None:
            exc.add_note("\n".join(server.text for server in self._all))
        for server in self._all:
            assert not server.expects_clean_log or "Traceback" not in server.text, server.text
            assert "Warning" not in server.text, server.text
