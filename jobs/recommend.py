"""The job file for a cluster: `flink run -py jobs/recommend.py -pyfs riverrank.zip --config C`.

It holds no logic: what is defined in `__main__` travels by value, which loses the fields of records.
"""

from riverrank.jobs.cli.submit import main
from riverrank.jobs.interruptions import interruptible

if __name__ == "__main__":
    raise SystemExit(interruptible(main))
