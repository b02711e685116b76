"""`python -m langswarm.core.session.cli`: how the demo starts its other processes."""

from __future__ import annotations

import sys

from langswarm.core.session.cli import main

if __name__ == "__main__":
    sys.exit(main())
