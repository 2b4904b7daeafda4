"""``python -m tools.playground``: the shop, and a page on which to use and break it."""

from __future__ import annotations

import sys

from devkit.interrupts import interruptible


def main() -> int:
    """Load the command and run it; return its exit status, 130 when interrupted while starting."""
    with interruptible():
        try:
            from tools.playground.command import run  # noqa: PLC0415  (loading it takes long enough to press Ctrl-C)

            return run()
        except KeyboardInterrupt:
            print("Interrupted.", file=sys.stderr)
            return 130


if __name__ == "__main__":
    sys.exit(main())
