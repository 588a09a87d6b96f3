"""`riverrank state`: what a savepoint holds, which is the newest, and what a user is known by in it."""

from typing import Annotated

import typer
from riverrank.jobs.config.schema import Config
from riverrank.jobs.errors import UsageError

from .flags import AsJson, configured

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


@state.command()
@configured()
def pseudonym(config: Config, user: Annotated[str, typer.Argument(metavar="USER", help="The user's id.")]) -> None:
    """Print what the job keeps a user's state under, and names them by in logs; the secret is that of the configuration
    or of RIVERRANK_PRIVACY_KEY.
    """
    from riverrank.jobs.serving.slates import require_user
    from riverrank.state import hashing

    require_user(user)
    typer.echo(hashing.pseudonym(user, config.privacy.key()))


@state.command()
def last(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="A folder of checkpoints and savepoints, or its file: URL.")
    ],
) -> None:
    """Print the newest checkpoint or savepoint below DIR that Flink finished, as `flink run -s` takes it; nothing where
    there is none yet, or no DIR. Whether its files were damaged since, `state inspect` says.
    """
    from riverrank.jobs.flink.keeping import newest
    from riverrank.jobs.flink.savepoint import folder_of

    try:
        found = newest(folder_of(folder))
    except OSError as error:
        raise UsageError(
            f"{folder}: can't be looked through ({error.strerror}); give a folder that you may read"
        ) from error
    if found is not None:
        typer.echo(found.absolute().as_uri())
