"""``python -m bench`` is ``dlcore bench``."""

import sys

from dlcore.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
