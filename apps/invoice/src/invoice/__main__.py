"""``invoice serve`` and ``invoice migrate``."""

import sys
from collections.abc import Sequence

from servicekit.start import start


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the process's exit status."""
    return start("invoice", arguments)


if __name__ == "__main__":
    sys.exit(main())
