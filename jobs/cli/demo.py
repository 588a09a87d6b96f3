"""`riverrank demo`."""

from typing import Annotated

from riverrank.jobs import standard

from .flags import Option


def demo(
    *,
    seconds: Annotated[
        float, Option(metavar="S", help="How long customers shop from the first slate on, in seconds. Default: 60.")
    ] = 60.0,
    plain: Annotated[
        bool, Option("--plain", help="Lines in place of a live display, as where there is no terminal.")
    ] = False,
) -> None:
    """Run a simulated shop on a real Kafka broker, the job and a real Redis, with the page of riverrank serve, all
    started and ended here. On a terminal it stays open after the summary until Ctrl-C.
    """
    from riverrank.jobs.demo import demo as demonstration

    standard.require_open(standard.OUTPUT)
    demonstration.demo(seconds, plain=plain)
