"""`riverrank check`."""

from typing import Annotated

import msgspec
from riverrank.jobs.config import text
from riverrank.jobs.config.schema import Config

from .flags import EVENTS, ITEMS, KAFKA, REDIS, AsJson, Option, configured


@configured(EVENTS, ITEMS, KAFKA, REDIS)
def check(
    config: Config,
    sample: Annotated[
        int, Option(metavar="N", min=1, help="Records to read of each input, at most. Default: 100000.")
    ] = 100_000,
    json: AsJson = False,
) -> None:
    """Print the effective configuration (TOML, each key with meaning, unit and default), then what both inputs hold:
    what would be dead letters and why, late events, items that the catalogue lacks. Without an input, only the former.
    """
    from riverrank.jobs.config import preflight
    from riverrank.jobs.data import check as checking

    preflight.check_files(config)
    preflight.check_behaviour(config)
    if not json:
        print(text.render(config), flush=True)
    preflight.check_services(config)
    findings = checking.sample(config, sample)
    if json:
        document = {"config": text.as_document(config), **msgspec.to_builtins(findings)}
        print(msgspec.json.encode(document).decode())
    else:
        print("\n".join(f"# {line}" for line in checking.describe(findings)))
