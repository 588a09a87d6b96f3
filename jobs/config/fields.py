"""The settings one by one, as the fields of a configuration's structures say them: key, type, default, unit, meaning.

Knows no setting by name: a section that is made at run time (`msgspec.defstruct`) is read like any other.
"""

import difflib
import math
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect
from riverrank.operators.cache.urls import masked
from riverrank.state.runtime.durations import milliseconds

AT_TOP_LEVEL = "behaviour"  # the field of the configuration whose keys and tables stand beside the others in the file


class Setting(NamedTuple):
    """One setting. `key` is its name in the file, with dots; `path` are the attributes that lead to it."""

    key: str
    path: tuple[str, ...]
    type: inspect.Type
    default: Any
    meaning: str
    unit: str

    @property
    def is_duration(self) -> bool:
        """Whether it is written with a unit of time."""
        return self.unit == "ms"

    @property
    def table(self) -> str:
        """The table of the file that it stands in, "" for the top level."""
        return self.key.rpartition(".")[0]

    @property
    def name(self) -> str:
        """Its name within its table."""
        return self.key.rpartition(".")[2]

    def of(self, config: msgspec.Struct) -> Any:
        """Its value in a configuration."""
        value: Any = config
        for name in self.path:
            value = getattr(value, name)
        return value

    def expected(self) -> str:
        """What may be written, in words."""
        if self.is_duration:
            least = getattr(self.type, "ge", 0)
            return f"a duration of at least {least} ms" if least else "a duration"
        return expected(self.type)


class Schema(NamedTuple):
    """What a configuration may hold: its settings by key, and the names of its tables."""

    settings: Mapping[str, Setting]
    tables: frozenset[str]

    def prepared(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """A parsed TOML document, shaped as the structures are, with durations as milliseconds.

        Raises:
            ValueError: an unknown key, named with the nearest known one, or a value that the type alone would let pass.
        """
        shaped: dict[str, Any] = {}
        for key, value in self._flat(document, ""):
            if key not in self.settings:
                raise ValueError(f"{masked(key)}: no such key; the nearest is {self.nearest(key)}")
            setting = self.settings[key]
            target = shaped
            for name in setting.path[:-1]:
                target = target.setdefault(name, {})
            target[setting.path[-1]] = _checked(setting, value)
        return shaped

    def at(self, path: str) -> Setting:
        """The setting that an error of msgspec is about, by its path (`$.behaviour.slate.size`, `$.rules.pin[0]`)."""
        names = tuple(path.removeprefix("$.").partition("[")[0].split("."))
        return next(setting for setting in self.settings.values() if setting.path == names)

    def nearest(self, key: str) -> str:
        """The known key or table most like `key`; the same name in another table is nearer than another in this."""
        table, _, leaf = key.rpartition(".")
        names = [*self.settings, *(() if table else sorted(self.tables))]

        def likeness(name: str) -> float:
            whole = difflib.SequenceMatcher(None, key.lower(), name).ratio()
            return whole + difflib.SequenceMatcher(None, leaf.lower(), name.rpartition(".")[2]).ratio()

        return max(names, key=likeness)

    def _flat(self, document: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for name, value in document.items():
            key = f"{prefix}{name}"
            if key not in self.tables:
                yield key, value
            elif isinstance(value, Mapping):
                yield from self._flat(value, f"{key}.")
            else:
                raise ValueError(f"{key}: expected a table, [{key}], got {type(value).__name__}")


@cache
def schema_of(config: type[msgspec.Struct]) -> Schema:
    """The schema of a configuration, those keys first that stand at its top level, as TOML must have it.

    >>> from .schema import Config
    >>> schema_of(Config).settings["slate.size"].expected()
    'a whole number from 1 to 200'
    """
    described = inspect.type_info(config)
    assert isinstance(described, inspect.StructType)
    settings = list(_settings(described, (), ""))
    settings.sort(key=lambda setting: bool(setting.table))
    tables = {setting.table for setting in settings} - {""}
    return Schema({setting.key: setting for setting in settings}, frozenset(tables))


def expected(kind: inspect.Type) -> str:  # noqa: PLR0911 - one return a type
    """What a value of a type may be, in words.

    >>> expected(inspect.IntType(ge=1)), expected(inspect.FloatType(gt=0.0, le=10.0))
    ('a whole number of at least 1', 'a number above 0 and at most 10')
    """
    match kind:
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"a whole number{_bounds(kind)}"
        case inspect.FloatType():
            return f"a number{_bounds(kind)}"
        case inspect.LiteralType():
            return f"one of {', '.join(map(str, kind.values))}"
        case inspect.VarTupleType():
            most = "" if kind.max_length is None else f" of at most {kind.max_length}"
            return f"a list{most}, each {expected(kind.item_type)}"
        case inspect.DictType():
            inner = _bare(kind.value_type)
            return "a table" if isinstance(inner, inspect.AnyType) else f"a table, each value {expected(inner)}"
        case inspect.StrType():
            if kind.pattern:
                return f"a text that matches {kind.pattern}"
            return "a text that is not empty" if kind.min_length else "a text"
    raise TypeError(f"a setting of type {kind} has no words yet: add them here")


def shown(given: Any) -> str:
    """What was given, as an error may say it: without what may be a secret that stands in the wrong place. Of a table
    its names, and the types of what they stand for.

    >>> shown("redis://app:geheim@cache"), shown(["a:geheim@b"]), shown({"password": "geheim"}), shown(True)
    ("'redis://app:***@cache'", "['***@b']", '{password = str}', 'true')
    """
    match given:
        case bool():
            return str(given).lower()
        case str():
            return repr(masked(given))
        case Mapping():
            return (
                "{" + ", ".join(f"{masked(str(name))} = {type(value).__name__}" for name, value in given.items()) + "}"
            )
        case list() | tuple():
            return "[" + ", ".join(map(shown, given)) + "]"
    return repr(given)


def _settings(section: inspect.StructType, path: tuple[str, ...], prefix: str) -> Iterator[Setting]:
    for field in section.fields:
        here = (*path, field.name)
        kind = _bare(field.type)
        if isinstance(kind, inspect.StructType):
            inner = prefix if not path and field.name == AT_TOP_LEVEL else f"{prefix}{field.name}."
            yield from _settings(kind, here, inner)
            continue
        described = field.type if isinstance(field.type, inspect.Metadata) else inspect.Metadata(field.type)
        if not (described.extra or {}).get("is_setting", True):
            continue
        meaning = (described.extra_json_schema or {}).get("description", "")
        unit = (described.extra or {}).get("unit", "")
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        yield Setting(f"{prefix}{field.name}", here, kind, default, meaning, unit)


def _bare(kind: inspect.Type) -> inspect.Type:
    return kind.type if isinstance(kind, inspect.Metadata) else kind


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {kind.ge:g} to {kind.le:g}" if kind.le < 1e6 else f" from {kind.ge} to {kind.le}"
    words = [
        f"{word} {bound:g}"
        for word, bound in (("above", kind.gt), ("of at least", kind.ge), ("below", kind.lt), ("at most", kind.le))
        if bound is not None
    ]
    return f" {' and '.join(words)}" if words else ""


def _checked(setting: Setting, value: Any) -> Any:
    if setting.is_duration:
        try:
            return milliseconds(value)
        except ValueError as error:
            raise ValueError(f"{setting.key}: {error}, got {shown(value)}") from error
    pending = [value]
    while pending:
        inner = pending.pop()
        if isinstance(inner, float) and not math.isfinite(inner):
            raise ValueError(f"{setting.key}: expected a finite number, got {inner!r}")
        if isinstance(inner, dict | list):
            pending += inner.values() if isinstance(inner, dict) else inner
    return value
