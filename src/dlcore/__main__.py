"""``python -m dlcore``: the command line."""

import sys

from dlcore.cli import main

if __name__ == "__main__":
    sys.exit(main())
