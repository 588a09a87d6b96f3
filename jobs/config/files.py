"""The files that a configuration names and that are read with it, so that an absent one is known at once:
secrets, and what another shop learned.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import msgspec
from riverrank.jobs.errors import UsageError
from riverrank.operators.settings import Behaviour
from riverrank.state.prior import read_file


def secret(dotted: str, path: str) -> str:
    """What the file holds that the key `dotted` names, without blanks around it; empty for no path. Where it can't be
    read, the path is not shown: it may be the secret itself.
    """
    if not path:
        return ""
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8, or no path"
        raise UsageError(f"{dotted}: cannot read the file that it names ({why}); give the path of one") from error


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


def with_noise(behaviour: Behaviour, key: bytes) -> Behaviour:
    """The settings with what noise is made of, where there is to be any: it then is wherever they are. `key` is of the
    operator's secret, empty for none.
    """
    noise, replace = behaviour.noise, msgspec.structs.replace
    if not noise.epsilon:
        return behaviour
    if not key:
        raise UsageError(
            "noise.epsilon: noise is made of a secret, and who can guess that takes it away again: give "
            "privacy.key_file or RIVERRANK_PRIVACY_KEY"
        )
    if find_spec("dp_accounting") is None:
        raise UsageError("noise.epsilon: dp-accounting is not installed: pip install 'riverrank[privacy]'")
    if behaviour.signals.shards > 1:
        raise UsageError(f"signals.shards: expected 1 where there is noise, got {behaviour.signals.shards}")
    if noise.contributions >= behaviour.history.size:
        raise UsageError(
            f"noise.contributions: expected less than history.size ({behaviour.history.size}), of which they are read "
            f"off, got {noise.contributions}"
        )
    return replace(behaviour, noise=replace(noise, key=hashlib.blake2b(b"noise", key=key).digest()))
