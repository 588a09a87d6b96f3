"""Which column of a table holds what, and how the table is written, from the flags that say so."""

import codecs
import csv
from collections.abc import Mapping, Sequence

import msgspec
from riverrank.jobs.errors import UsageError

from .tables import Format

SKIPPED = "_"
ATTRIBUTE = "attribute:"


class Fields(msgspec.Struct, frozen=True):
    """What the columns of a table may hold: names of fields, the column of each that has one unless a flag says
    otherwise, and whether `attribute:NAME` is a field too.
    """

    names: tuple[str, ...]
    columns: Mapping[str, str]
    attributes: bool = False

    def check(self, flag: str, field: str) -> None:
        """Raises UsageError where there is no such field."""
        if field not in self.names and not (self.attributes and field.startswith(ATTRIBUTE) and field != ATTRIBUTE):
            known = ", ".join((*self.names, *((f"{ATTRIBUTE}NAME",) if self.attributes else ())))
            raise UsageError(f"{flag}: no field {field!r}; the fields are {known}")


class Layout(msgspec.Struct, frozen=True):
    """The column of each field, by its name, and the format of the table."""

    columns: Mapping[str, str]
    form: Format


class TableFlags(msgspec.Struct, frozen=True):
    """What the flags say of one table, as they were given; `prefix` begins their names."""

    prefix: str = "--"
    mapping: Sequence[str] = ()
    columns: Sequence[str] = ()
    separator: str | None = None
    quote: str | None = None
    encoding: str | None = None

    def layout(self, fields: Fields) -> Layout:
        """What they mean for a table that has `fields`. Raises UsageError."""
        if self.mapping and self.columns:
            raise UsageError(f"{self.prefix}map, {self.prefix}columns: give one of them: by name, or by position")
        columns: tuple[str, ...] = ()
        if self.columns:
            columns = self._positions(fields)
            held = {field: field for field in columns if field != SKIPPED}
        else:
            mapping = mapping_of(self.mapping, f"{self.prefix}map")
            for field in mapping:
                fields.check(f"{self.prefix}map", field)
            held = {**fields.columns, **mapping}
        separator = self._separator()
        form = Format(
            separator=separator,
            quoted=self._quoted(separator),
            encoding=self._encoding(),
            columns=columns,
            flag=self.prefix,
        )
        return Layout(held, form)

    def _positions(self, fields: Fields) -> tuple[str, ...]:
        flag = f"{self.prefix}columns"
        columns = tuple(name.strip() for name in parts(self.columns, flag))
        for field in columns:
            if field != SKIPPED:
                fields.check(f"{flag} (fields by position, {SKIPPED} skips a column)", field)
        if twice := next((field for field in columns if field != SKIPPED and columns.count(field) > 1), None):
            raise UsageError(f"{flag}: {twice} is there twice; expected each field once, and {SKIPPED} for the others")
        if missing := [field for field in fields.columns if field not in columns]:
            raise UsageError(f"{flag}: expected {', '.join(missing)} among them too, got {','.join(columns)}")
        return columns

    def _separator(self) -> str:
        separator = "," if self.separator is None else self.separator
        if separator in ("tab", r"\t"):
            return "\t"
        if not separator or "\n" in separator or "\r" in separator:
            raise UsageError(
                f"{self.prefix}separator: expected characters of one line, or the word tab, got {separator!r}"
            )
        return separator

    def _quoted(self, separator: str) -> bool:
        flag = f"{self.prefix}quote"
        if self.quote is None:
            return separator != "\t" and len(separator) == 1 and separator != '"'
        if self.quote not in ("none", "double"):
            raise UsageError(f"{flag}: expected none or double, got {self.quote!r}")
        if self.quote == "double" and (len(separator) > 1 or separator == '"'):
            raise UsageError(f"{flag}: with the separator {separator!r} there are no quotes; expected none")
        return self.quote == "double"

    def _encoding(self) -> str:
        encoding = "utf-8" if self.encoding is None else self.encoding
        try:
            codecs.lookup(encoding)
            "a".encode(encoding)
        except (LookupError, ValueError):
            raise UsageError(
                f"{self.prefix}encoding: expected an encoding such as utf-8, latin-1 or utf-16, got {encoding!r}"
            ) from None
        return encoding


def mapping_of(given: Sequence[str], flag: str = "--map") -> dict[str, str]:
    """The columns by field that the flags `given` name.

    >>> mapping_of(["user=who,item=what", "ts=when"])
    {'user': 'who', 'item': 'what', 'ts': 'when'}
    """
    mapping: dict[str, str] = {}
    for pair in parts(given, flag):
        field, _, column = (part.strip() for part in pair.partition("="))
        if not (field and column):
            raise UsageError(f"{flag}: expected FIELD=COLUMN, got {pair!r}")
        if field in mapping:
            raise UsageError(f"{flag}: {field} is there twice; expected one column for it")
        mapping[field] = column
    return mapping


def parts(given: Sequence[str], flag: str) -> list[str]:
    """What stands between the commas of a flag that may be given again; double quotes keep a comma.

    >>> parts(["a=b, c=d", '"e=f,g"'], "--map")
    ['a=b', 'c=d', 'e=f,g']
    """
    try:
        return [part for text in given for part in next(csv.reader([text], skipinitialspace=True)) or [""]]
    except csv.Error as error:
        raise UsageError(f"{flag}: expected one line, got {list(given)!r} ({error})") from None
