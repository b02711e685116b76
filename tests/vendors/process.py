"""The server in a process of its own, so that its CPU time is not the client's (benchmarks)."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

_TESTS = Path(__file__).parents[1]
_END_SECONDS = 40.0


@contextmanager
def vendor_process(*, deltas: int = 0, delta_bytes: int = 20) -> Generator[str, None, None]:
    """Its URL. Each answer has so many deltas of so many bytes; 0: it repeats the question."""
    command = [sys.executable, "-m", "vendors"]
    command += ["--deltas", str(deltas), "--bytes", str(delta_bytes)]
    # `-m` finds the package in the working directory.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    with subprocess.Popen(
        command,
        cwd=_TESTS,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise RuntimeError("the vendor server's process did not start")
            yield url
        finally:
            process.stdin.close()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
