"""The records as documents: a JSON Schema of each, and the tables of `docs/integrate.md`.

python -m riverrank.jobs.data.integration docs
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from riverrank.jobs import markdown
from riverrank.state.event_types import EVENT_TYPES, EventType
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import Cause, DeadLetter, Export, ModelInfo, Prediction, Receipt, Slate, Slot

PAGE = "integrate.md"
SCHEMAS = "schemas"  # the folder of JSON Schemas beside the page
SHOWN: tuple[type[msgspec.Struct], ...] = (
    *(Event, Item, Slate, Slot, Cause, ModelInfo, DeadLetter, Receipt, Export, Prediction),
)
MADE = re.compile(r"(?<=<!-- made of )(?P<what>\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(record: type[msgspec.Struct]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a record; those of records within it are among its `$defs`.

    >>> schema_of(Event)["required"]
    ['event_id', 'type', 'user_id', 'ts']
    """
    made = msgspec.json.schema(record)
    definitions = made["$defs"]
    own = definitions.pop(record.__name__)
    if record is Event:
        own["properties"]["type"]["enum"] = [*EVENT_TYPES]
    for definition in (own, *definitions.values()):
        definition["description"] = " ".join(definition.get("description", "").split())
    return {"$schema": DIALECT, **own, **({"$defs": definitions} if definitions else {})}


def fields_of(record: type[msgspec.Struct]) -> list[list[str]]:
    """A row for each field of a record: its name, type, bounds, default, and meaning.

    >>> fields_of(Event)[3]
    ['`ts`', 'integer', '0 to 253402300799999', 'required', 'when it happened: milliseconds since 1970, UTC']
    """
    schema = schema_of(record)
    rows = []
    for name, of in schema["properties"].items():
        kinds = [kind for kind in of.get("anyOf", [of]) if kind.get("type") != "null"]
        default = "required" if name in schema["required"] else _default(of.get("default"))
        rows.append([f"`{name}`", " or ".join(map(_kind, kinds)), _bounds(of), default, of["description"]])
    return rows


def types() -> list[list[str]]:
    """A row for each type of event: its name, what it needs and has a use for, whether it is answered, its worth."""
    return [
        [f"`{entry.name}`", _named(entry.needs), _named(_used(entry)), "yes" if entry.answered else "no", _worth(entry)]
        for entry in EVENT_TYPES.values()
    ]


def filled(page: str) -> str:
    """The text of the page with the parts that are made of the records as they are now.

    Raises KeyError where a part is of nothing that is known.
    """
    tables = {record.__name__: (("field", "type", "bounds", "default", "what"), fields_of(record)) for record in SHOWN}
    made = tables | {"types": (("type", "needs", "may have", "answered", "worth"), types())}
    return MADE.sub(lambda part: f"{part[0].partition(' -->')[0]} -->\n\n{markdown.table(*made[part['what']])}\n", page)


def files(folder: Path) -> dict[Path, str]:
    """All that is made, by the file it belongs into."""
    page = folder / PAGE
    schemas = {
        folder / SCHEMAS / f"{record.__name__.lower()}.json": json.dumps(schema_of(record), indent=2) + "\n"
        for record in (Event, Item, Slate, DeadLetter, Receipt, Export, Prediction)
    }
    return {page: filled(page.read_text("utf-8")), **schemas}


def _kind(of: Mapping[str, Any]) -> str:
    if "$ref" in of:
        return str(of["$ref"]).rpartition("/")[2]
    if "enum" in of:
        return "one of " + ", ".join(f"`{value}`" for value in of["enum"]) if len(of["enum"]) < 8 else "string"
    if of["type"] == "array":
        return f"array of {_kind(of.get('items') or {'type': 'values'})}s"
    return str(of["type"])


def _bounds(of: Mapping[str, Any]) -> str:
    """Those of a schema, in words."""
    words = [
        _range(of.get("minLength"), of.get("maxLength"), " bytes"),
        _range(of.get("minItems"), of.get("maxItems"), " of them"),
        _range(of.get("minimum"), of.get("maximum"), ""),
    ]
    return ", ".join(filter(None, words))


def _range(least: float | None, most: float | None, what: str) -> str:
    if most is None:
        return ""
    return f"{least:.0f} to {most:.0f}{what}" if least is not None else f"{most:.0f}{what} at most"


def _default(value: Any) -> str:
    return "" if value is None else f"`{json.dumps(value)}`"


def _used(entry: EventType) -> Iterable[str]:
    """The fields that a type may have besides, and that it has a use for."""
    return (*entry.uses, *(("slate_id",) if entry.interaction or "items" in entry.needs else ()))


def _named(fields: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in fields)


def _worth(entry: EventType) -> str:
    if entry.is_rating:
        return "1 from `reward.rate_from` on, below it less than 0, -1 at `reward.rate_least`"
    return "" if entry.reward is None else f"`reward.{entry.name}`, {entry.reward:g}"


if __name__ == "__main__":
    for path, text in files(Path(sys.argv[1])).items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
