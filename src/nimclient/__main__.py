"""`python -m nimclient` is the `nimclient` command."""

import sys

from nimclient.cli import main

if __name__ == "__main__":
    sys.exit(main())
