"""`python -m heirflow` is `heirflow`."""

import sys

from heirflow.cli import main

if __name__ == "__main__":
    sys.exit(main())
