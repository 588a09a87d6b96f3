"""The configuration as text: the effective one as TOML, and the page of all settings.

python -m riverrank.jobs.config.text > docs/settings.md
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from riverrank.jobs import markdown
from riverrank.operators.cache.urls import masked
from riverrank.state.runtime.durations import duration

from .fields import Setting, schema_of
from .schema import Config

HEAD = '# Durations are written as "200ms", "10s", "5m", "1h", "7d", or as a whole number of milliseconds.\n'
PAGE_HEAD = """\
# Settings

<!-- Made by `python -m riverrank.jobs.config.text > docs/settings.md`; what it says stands in operators/settings.py and
jobs/config/edges.py. -->

A configuration is one TOML file; every setting has a default, so a file needs only what differs. `riverrank check
--config FILE` prints the effective one. A key that is not known is an error that names the nearest known key. Durations
are written as `"200ms"`, `"10s"`, `"5m"`, `"1h"`, `"7d"`, or as a whole number of milliseconds. Flags go before
environment variables, and these before the file.
"""


def render(config: Config) -> str:
    """The effective configuration as TOML that `schema.parse` reads back; secrets are masked."""
    lines = [HEAD]
    for table, settings in _tables(type(config)):
        lines += ["", f"[{table}]"] if table else []
        for setting in settings:
            value, default = _shown(config, setting), setting.default
            if setting.is_duration:
                value, default = duration(value), duration(default)
            said = f"{_meaning(setting)}: {setting.expected()}; default {_toml(default)}"
            lines.append(f"{setting.name} = {_toml(value)}  # {said}")
    return "\n".join([*lines, ""])


def page(kind: type[Config] = Config) -> str:
    """All settings in Markdown, a table of the page for each table of the file."""
    lines = [PAGE_HEAD]
    for table, settings in _tables(kind):
        rows = []
        for setting in settings:
            default = duration(setting.default) if setting.is_duration else setting.default
            rows.append((f"`{setting.name}`", _meaning(setting), setting.expected(), f"`{_toml(default)}`"))
        head = f"## [{table}]" if table else "## At the top"
        lines += [head, "", markdown.table(("key", "what", "takes", "default"), rows)]
    return "\n".join(lines)


def as_document(config: Config) -> dict[str, Any]:
    """The effective configuration as a JSON document, shaped as the file is; durations in ms, secrets masked."""
    document: dict[str, Any] = {}
    for table, settings in _tables(type(config)):
        target = document.setdefault(table, {}) if table else document
        target.update({setting.name: msgspec.to_builtins(_shown(config, setting)) for setting in settings})
    return document


def _tables(kind: type[Config]) -> Iterator[tuple[str, list[Setting]]]:
    """The settings by table, those at the top first."""
    by_table: dict[str, list[Setting]] = {}
    for setting in schema_of(kind).settings.values():
        by_table.setdefault(setting.table, []).append(setting)
    return iter(by_table.items())


def _shown(config: Config, setting: Setting) -> Any:
    """A value as it may be printed."""
    if setting.key == "redis.url":
        return "" if config.redis.url_file else masked(config.redis.url)
    return setting.of(config)


def _meaning(setting: Setting) -> str:
    return setting.meaning if setting.unit in ("", "ms") else f"{setting.meaning}, in {setting.unit}"


def _toml(value: Any) -> str:
    """A value of a parsed TOML document as TOML: a JSON string is a TOML string, once DEL is escaped."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml(str(key))} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    return str(value)  # a date or a time, which TOML writes as Python does


if __name__ == "__main__":
    print(page(), end="")
