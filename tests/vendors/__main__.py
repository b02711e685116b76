"""`python -m vendors` in tests/: a server in a process of its own, until its input ends.

It prints its URL first. `--deltas N` answers with N deltas of `--bytes B` each.
"""

from __future__ import annotations

import argparse
import sys

from .answers import Answer, Asked
from .server import vendor_server


def main() -> None:
    parser = argparse.ArgumentParser(prog="vendors", description=__doc__)
    parser.add_argument("--deltas", type=int, default=0, help="0: the answer repeats the question")
    parser.add_argument("--bytes", type=int, default=20)
    chosen = parser.parse_args()
    with vendor_server(record=False) as server:
        if chosen.deltas:
            piece = " " + "x" * (chosen.bytes - 1)
            answer = Answer(deltas=[piece] * chosen.deltas)

            def say(asked: Asked) -> Answer:
                del asked
                return answer

            server.answer = say
        print(server.url, flush=True)  # noqa: T201 - that is what it is for
        sys.stdin.read()


if __name__ == "__main__":
    main()
