"""Flags that set a key of the configuration. What a flag means is what its setting says."""

from collections.abc import Callable
from functools import partial, wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from msgspec import inspect
from riverrank.jobs.config.fields import Setting, schema_of
from riverrank.jobs.config.schema import FLAGS, Config, load

Option = partial(typer.Option, show_default=False)  # each help says its default, with its unit
AsJson = Annotated[bool, Option("--json", help="Print JSON, for a program.")]
User = Annotated[str, typer.Argument(metavar="USER", help="A user id.")]
ConfigFile = Annotated[
    Path | None,
    Option("--config", metavar="FILE", help="TOML; docs/settings.md lists all keys. Default: none, all defaults."),
]


class Flag(NamedTuple):
    """A flag that sets `key`."""

    key: str
    name: str
    metavar: str

    @property
    def argument(self) -> str:
        """What typer passes it as."""
        return self.name.removeprefix("--").replace("-", "_")

    def parameter(self) -> Parameter:
        """It as a parameter of a command; None where it is not given."""
        setting = schema_of(Config).settings[self.key]
        kind = int if isinstance(setting.type, inspect.IntType) else str
        option = Option(self.name, metavar=self.metavar, help=_help(setting))
        return Parameter(self.argument, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option])


METAVARS = {"--kafka": "HOST:PORT", "--redis": "URL"}  # of those that take no file
STREAMS = tuple(Flag(key, name, METAVARS.get(name, "FILE")) for name, key in FLAGS.items())
EVENTS, ITEMS, KAFKA, REDIS, SLATES = (
    next(flag for flag in STREAMS if flag.name == name)
    for name in ("--events", "--items", "--kafka", "--redis", "--slates")
)
PARALLELISM, STATE = Flag("job.parallelism", "--parallelism", "N"), Flag("job.state", "--state", "DIR")
PRIOR_OUT = Flag("prior.out", "--out", "FILE")


def configured(*flags: Flag) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a command of a function whose first parameter is the `Config` that --config and these flags make; its other
    parameters are flags and arguments of the command's own.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def with_flags(config: Path | None, **given: Any) -> None:
            settings = {flag.key: given.pop(flag.argument) for flag in flags}
            command(load(config, settings), **given)

        first = Parameter("config", Parameter.KEYWORD_ONLY, default=None, annotation=ConfigFile)
        own = [p.replace(kind=Parameter.KEYWORD_ONLY) for p in list(signature(command).parameters.values())[1:]]
        parameters = [first, *(flag.parameter() for flag in flags), *own]
        del vars(with_flags)["__wrapped__"]
        with_flags.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        vars(with_flags)["__signature__"] = Signature(parameters)  # what typer goes by
        return with_flags

    return decorate


def _help(setting: Setting) -> str:
    default = f" Default: {setting.default}." if setting.default != "" else ""
    return f"{setting.meaning[0].upper()}{setting.meaning[1:]}.{default} Sets {setting.key}."
