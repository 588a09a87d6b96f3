"""`riverrank run` and `riverrank replay`: the operators on an embedded Flink, or in this process."""

from riverrank.jobs.config.schema import Config

from .flags import PARALLELISM, STATE, STREAMS, configured


@configured(*STREAMS, PARALLELISM, STATE)
def run(config: Config) -> None:
    """Run the job on an embedded Flink, until its input ends or Ctrl-C. Flags go before the configuration."""
    from riverrank.jobs.config.preflight import preflight
    from riverrank.jobs.flink import launch

    preflight(config)
    launch.run(config)


@configured(*STREAMS, PARALLELISM)
def replay(config: Config) -> None:
    """Run the job's operators without Flink over what the input holds now: in several processes where there are several
    cores, whatever --parallelism says. Flags go before the configuration.
    """
    from riverrank.jobs.config.preflight import preflight
    from riverrank.jobs.local import replay as replaying

    preflight(config)
    replaying.run(config)
