"""The operators as Flink sees them; the only folder of `operators` that knows Flink's contexts and imports PyFlink.

Everything is written for `python.execution-mode: thread`. A module an operator; `channels` is what they share.
"""

import sys

if "pemja" in sys.modules:  # in a Flink process: before any module here imports what must not be imported there
    from . import native

    native.import_all()
