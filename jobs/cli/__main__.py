"""The console script `riverrank`, which `python -m riverrank.jobs.cli` is as well."""

import sys

from . import INTERRUPTED


def main() -> int:
    """Run what the command line says; the exit code."""
    try:
        from .main import main as run
    except KeyboardInterrupt:
        return INTERRUPTED
    return run()


if __name__ == "__main__":
    sys.exit(main())
