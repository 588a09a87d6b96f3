"""The files that a configuration names and that are read with it, so that an absent one is known at once:
secrets, and what another shop learned.
"""

from pathlib import Path

import msgspec
from riverrank.jobs.errors import UsageError
from riverrank.operators.settings import Behaviour
from riverrank.state.prior import read_file


def secret(dotted: str, path: str) -> str:
    """What the file holds that the key `dotted` names, without blanks around it; empty for no path."""
    if not path:
        return ""
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{dotted}: cannot read {path!r} ({error})") from error


def with_prior(behaviour: Behaviour) -> Behaviour:
    """The settings with what `prior.file` holds, if there is one: it then is wherever they are."""
    prior, replace = behaviour.prior, msgspec.structs.replace
    if not prior.file:
        return behaviour
    try:
        learned = read_file(prior.file)
    except OSError as error:
        raise UsageError(
            f"prior.file: cannot read {prior.file!r} ({error.strerror}); `riverrank prior` writes one"
        ) from error
    return replace(behaviour, prior=replace(prior, learned=learned))
