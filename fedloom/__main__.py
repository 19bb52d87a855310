"""`python -m fedloom`, for where the command `fedloom` is not on the path."""

import sys

from fedloom.cli import main

if __name__ == "__main__":
    sys.exit(main())
