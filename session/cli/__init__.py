"""The command `langswarm-session`. It needs the extra `cli`; nothing else of the package does."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from langswarm.core.session.cli.exits import INTERRUPTED, USAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXTRA = ("cyclopts", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (default: the process's own) and return the exit code.

    0: done. 1: something failed, or a history differs. 2: wrong usage or input. 130: interrupted.
    """
    try:
        from langswarm.core.session.cli.app import run  # noqa: PLC0415 - needs the extra

        return run(sys.argv[1:] if arguments is None else arguments)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        text = f"the command line needs {missing}: pip install 'langswarm-session[cli]'"
        print(f"langswarm-session: {text}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("langswarm-session: interrupted", file=sys.stderr)
        return INTERRUPTED
