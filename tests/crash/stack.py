"""The side of the tests: compiles the shim, starts processes, kills them, waits for them."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

if TYPE_CHECKING:
    from .order import Order

HERE = Path(__file__).parent
PATIENCE_SECONDS = 40.0
"""How long a process may take for what it was told to do."""
IS_LONG = os.environ.get("CRASH_TESTS") == "long"
"""`just crash`: every point instead of a share of them."""


def tell(text: str) -> None:
    """What was counted, for `just crash` to show."""
    print(text)  # noqa: T201 - this is what it is for


class CompilerMissingError(Exception):
    """There is no C compiler here."""


def compile_shim(folder: Path) -> Path:
    """The library to preload. Raises CompilerMissingError."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise CompilerMissingError
    library = folder / "shim.so"
    flags = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"]
    command = [compiler, *flags, "-o", str(library), str(HERE / "shim.c"), "-ldl", "-lpthread"]
    subprocess.run(command, check=True)
    return library


class Nursery:
    """A process from which all others are forked, one at a time."""

    def __init__(self, folder: Path, shim: Path | None = None) -> None:
        self.errors = folder / "stderr.txt"
        search = [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(search)}
        if shim is not None:
            environment["LD_PRELOAD"] = str(shim)
        with self.errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", f"{HERE.name}.nursery"],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
            )
        self.pid = 0
        """The process that runs now; 0: none."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_forgotten()
        _pipe(self._process.stdin).close()
        self._process.wait(PATIENCE_SECONDS)
        _pipe(self._process.stdout).close()

    def start(self, order: Order) -> None:
        """Begin. What a test that failed has left running is ended."""
        self._end_forgotten()
        _pipe(self._process.stdin).write(order.text().encode() + b"\n")
        self.pid = self._read_number()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send the process a signal, if it has not ended by itself."""
        assert self.pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def has_ended(self) -> bool:
        """Whether `wait` would return at once."""
        ready, _, _ = select.select([_pipe(self._process.stdout)], [], [], 0)
        return bool(ready)

    def wait(self) -> int:
        """The process's exit code, negative for a signal; one that hangs is killed and reported."""
        try:
            status = self._read_number()
        except TimeoutError:
            self.kill()
            self._read_number()
            self.pid = 0
            raise
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def run(self, order: Order) -> int:
        """Start and wait."""
        self.start(order)
        return self.wait()

    def said(self) -> str:
        """What the processes wrote to stderr, the end of it."""
        return self.errors.read_text(encoding="utf-8", errors="replace")[-3000:]

    def _end_forgotten(self) -> None:
        if self.pid:
            self.kill()
            self.wait()

    def _read_number(self) -> int:
        output = _pipe(self._process.stdout)
        deadline = time.monotonic() + PATIENCE_SECONDS
        text = b""
        while not text.endswith(b"\n"):
            ready, _, _ = select.select([output], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"a process did not end in time; {self.said()}")
            piece = output.read(1)
            if not piece:
                raise RuntimeError(f"no processes can be started; {self.said()}")
            text += piece
        return int(text)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
