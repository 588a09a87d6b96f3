"""Text of others, such as ids and titles, as it may stand on a terminal, in a log or between tabs."""


def printable(text: str) -> str:
    """The text with whatever is no letter, number, sign or blank written as Python would: no line ends, no codes that
    move or colour a terminal, nothing that turns the direction of what follows.

    >>> print(printable("Amélie"), printable("a\\x1b[31m\\tb\\u202e\\ud800"))
    Amélie a\\x1b[31m\\tb\\u202e\\ud800
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
