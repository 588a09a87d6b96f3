"""The console script `riverrank`, which `python -m riverrank.jobs.cli` is as well."""

import sys

from riverrank.jobs.interruptions import interruptible


def main() -> int:
    """Run what the command line says; the exit code."""
    return interruptible(_run)


def _run() -> int:
    from .main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
