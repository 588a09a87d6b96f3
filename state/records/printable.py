"""Text of others, such as ids and titles, as it may stand on a terminal, in a log or between tabs."""

import json


def printable(text: str) -> str:
    """The text with whatever is no letter, number, sign or blank written as Python would: no line ends, no codes that
    move or colour a terminal, nothing that turns the direction of what follows.

    >>> print(printable("Amélie"), printable("a\\x1b[31m\\tb\\u202e\\ud800"))
    Amélie a\\x1b[31m\\tb\\u202e\\ud800
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_json(text: str) -> str:
    """JSON with the same escaped as JSON has it, but for line ends: it says the same.

    >>> print(printable_json('{"id":"\u202eé\x9b"}'))
    {"id":"\\u202eé\\u009b"}
    """
    if text.isprintable():
        return text
    lines = text.split("\n")
    return "\n".join(line if line.isprintable() else "".join(map(_escaped, line)) for line in lines)


def _escaped(c: str) -> str:
    return c if c.isprintable() else json.dumps(c)[1:-1]
