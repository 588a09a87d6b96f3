"""`riverrank state inspect`: what a savepoint holds."""

from pathlib import Path
from typing import Annotated

import typer

from .flags import AsJson

state = typer.Typer(rich_markup_mode=None)


@state.callback()
def _only_commands() -> None:
    """Look into what a job kept."""


@state.command()
def inspect(
    savepoint: Annotated[Path, typer.Argument(metavar="SAVEPOINT", help="The folder of a savepoint or checkpoint.")],
    json: AsJson = False,
) -> None:
    """Print what a savepoint holds: operators, users, bytes, layouts. Nothing of it is loaded as an object, and no job
    is asked.
    """
    from riverrank.jobs.flink import inspection

    inspection.run(savepoint, as_json=json)
