"""What does `python -m plait` do? The same as `plait`."""

import sys

from plait.cli import main

if __name__ == "__main__":
    sys.exit(main())
