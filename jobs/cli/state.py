"""`riverrank state inspect`: what a savepoint holds."""

from typing import Annotated

import typer

from .flags import AsJson

state = typer.Typer(rich_markup_mode=None)


@state.callback()
def _only_commands() -> None:
    """Look into what a job kept."""


@state.command()
def inspect(
    savepoint: Annotated[
        str, typer.Argument(metavar="SAVEPOINT", help="The folder of a savepoint or checkpoint, or its file: URL.")
    ],
    json: AsJson = False,
) -> None:
    """Print what a savepoint holds: operators, users, bytes, layouts. Nothing of it is loaded as an object, and no job
    is asked.
    """
    from riverrank.jobs.flink import inspection
    from riverrank.jobs.flink.savepoint import folder_of

    inspection.run(folder_of(savepoint), as_json=json)
