"""`python -m riverrank.jobs.cli` is the console script."""

import sys

from .main import main

sys.exit(main())
