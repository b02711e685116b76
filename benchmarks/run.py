"""The benchmarks: `benchmarks/run.py [names...] [--backend B] [--quick] [--json FILE]`.

Each benchmark runs on each backend in a fresh process, so that none sees what another left
behind. docs/benchmarks.md defines every figure and every floor.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from apart import apart
from figures import Figure, Scale, table

if TYPE_CHECKING:
    from collections.abc import Callable

BENCHMARKS = {
    "send": "send_message on memory storage with the mock provider",
    "ask": "commands without a provider on memory storage",
    "sqlite": "turns on SQLite through the whole public API",
    "streams": "turns that are followed while they run, on memory storage",
    "memory": "memory of idle live sessions, and of evicted ones",
    "imports": "import time and modules",
    "appends": "durable appends through the storage actor on SQLite",
    "bytes": "bytes written per turn on SQLite",
    "history": "the last 20 of 1,000 messages from SQLite",
    "rehydrate": "sessions of 1,000 messages that are not in memory, on SQLite",
    "lists": "pages of sessions, searches, and figures of 30 days, from SQLite",
    "providers": "turns through the vendors' providers, beside bare clients and the vendors' own",
    "sse": "events of streamed answers, beside bare clients and other readers",
}
MODULES = {
    "send": "send",
    "ask": "ask",
    "sqlite": "sqlite_turns",
    "streams": "streaming",
    "memory": "idle_memory",
    "imports": "import_cost",
    "appends": "appends",
    "bytes": "turn_bytes",
    "history": "history_reads",
    "rehydrate": "rehydration",
    "lists": "lists",
    "providers": "provider_turns",
    "sse": "stream_events",
}
BACKENDS = ("asyncio", "trio")


def measure(name: str, scale: Scale, backend: str) -> list[Figure]:
    """Run one benchmark here."""
    figures = cast("Callable[[Scale, str], list[Figure]]", import_module(MODULES[name]).figures)
    return figures(scale, backend)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpus": os.cpu_count(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def main(arguments: list[str]) -> None:
    options = _parse(arguments)
    report: dict[str, Any] = {"machine": machine(), "scale": options.scale, "benchmarks": {}}
    print(", ".join(f"{key} {value}" for key, value in report["machine"].items()), flush=True)
    for name in options.names or BENCHMARKS:
        found: dict[str, Any] = {}
        for backend in options.backend or BACKENDS:
            figures = apart(measure, name, options.scale, backend)
            print(f"\n{table(f'{name}, {backend}: {BENCHMARKS[name]}', figures)}", flush=True)
            found[backend] = [figure.as_json() for figure in figures]
        report["benchmarks"][name] = found
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure; docs/benchmarks.md explains.")
    parser.add_argument("names", nargs="*", help=", ".join(BENCHMARKS), metavar="name")
    parser.add_argument("--backend", action="append", choices=BACKENDS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--scale", choices=get_args(Scale), default="full", help="default: full")
    parser.add_argument(
        "--quick", dest="scale", action="store_const", const="quick", default="full"
    )
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in BENCHMARKS:
            parser.error(f"no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    return options


if __name__ == "__main__":
    main(sys.argv[1:])
