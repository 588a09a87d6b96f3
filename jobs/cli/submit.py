"""The command of the job file: `flink run -py jobs/recommend.py -pyfs riverrank.zip --config FILE`."""

import typer
from riverrank.jobs.config.schema import Config

from .flags import STREAMS, configured
from .main import carry_out

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
@configured(*STREAMS)
def submit(config: Config) -> None:
    """Hand the job to the cluster that `flink run` names. The path of an output is a folder there, of part files; there
    is no standard input and output. Parallelism is Flink's (-p) unless the configuration has one above 1.
    """
    from riverrank.jobs.config.preflight import check_behaviour
    from riverrank.jobs.flink import launch

    check_behaviour(config)
    launch.submit(config)


def main(arguments: list[str] | None = None) -> int:
    """Run it; the exit code."""
    return carry_out(app, "recommend.py", arguments)
