"""Tables in Markdown, for the pages of docs/ that are made."""

from collections.abc import Iterable, Sequence


def table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of columns with these names, each line of it ended.

    >>> print(table(["key", "what"], [["`a`", "this|that"]]), end="")
    | key | what |
    | --- | --- |
    | `a` | this\\|that |
    """
    head = [*names], ["---"] * len(names)
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in (*head, *rows))
