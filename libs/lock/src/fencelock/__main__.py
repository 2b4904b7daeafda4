"""``python -m fencelock``: the same as the command ``fencelock``."""

import sys

from fencelock._cli.main import main

if __name__ == "__main__":
    sys.exit(main())
