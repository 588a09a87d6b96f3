"""How lines of the log look: as text, or with RIVERRANK_LOG=json in the environment as one JSON object each."""

import json
import logging
import os
from datetime import UTC, datetime

LOG_VARIABLE = "RIVERRANK_LOG"
TEXT, JSON = "text", "json"
_BEGIN = '{"time": "'  # of every line of `JsonLines`


class JsonLines(logging.Formatter):
    """One object a line: `time` (UTC, in ISO 8601, to the millisecond), `level`, `logger`, `message`, and where
    something was raised `exception`. What is no ASCII is escaped, so that no line ends but where it should.

    >>> record = {"name": "a", "levelname": "INFO", "msg": "two\\nlines", "created": 1764000000.5}
    >>> print(JsonLines().format(logging.makeLogRecord(record)))
    {"time": "2025-11-24T16:00:00.500Z", "level": "INFO", "logger": "a", "message": "two\\nlines"}
    """

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": time, "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if raised := self.formatException(record.exc_info) if record.exc_info else record.exc_text:
            line["exception"] = raised
        return json.dumps(line)


def wants_json() -> bool:
    """Whether lines of the log are to be JSON."""
    return os.environ.get(LOG_VARIABLE) == JSON


def formatter(text: str = "%(message)s") -> logging.Formatter:
    """What makes lines of records, as the environment has it; `text` is the form of those that are text."""
    return JsonLines() if wants_json() else logging.Formatter(text)


def record_of(line: str) -> logging.LogRecord | None:
    """The record that `JsonLines` made this line of; None where it made it of none.

    >>> print(record_of("2025-11-24 INFO a line of somebody else's"))
    None
    """
    if not line.startswith(_BEGIN):
        return None
    try:
        fields = json.loads(line)
        return logging.makeLogRecord(
            {
                "created": datetime.fromisoformat(fields["time"]).timestamp(),
                "levelno": logging.getLevelNamesMapping()[fields["level"]],
                "levelname": fields["level"],
                "name": fields["logger"],
                "msg": fields["message"],
                "exc_text": fields.get("exception"),
            }
        )
    except (ValueError, KeyError):
        return None
