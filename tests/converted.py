"""What tests of conversions share: sources to write, and the records that came of them, all of which decode."""

import gzip
import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import msgspec
from riverrank.jobs.cli.main import main
from riverrank.jobs.data.convert import Reader, Report, convert
from riverrank.state.records.decoding import decode_event, decode_item
from riverrank.state.records.incoming import Event, Item


class Files:
    """A folder for sources, and what became of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events_path, self.items_path = folder / "e.jsonl", folder / "i.jsonl.gz"

    def put(self, name: str, text: str, encoding: str = "utf-8") -> Path:
        path = self.folder / name
        raw = text.encode(encoding, "surrogateescape")
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        return path

    def convert(self, reader: Reader, source: Path | None = None) -> Report:
        return convert(reader, source or self.folder, str(self.events_path), str(self.items_path))

    def command(self, name: str, source: Path, *flags: str) -> Report:
        """What `riverrank convert` makes of `source`; every row of it is in the report."""
        code, out, err = self.run(name, source, *flags, "--json")
        assert code == 0, err
        return msgspec.json.decode(out, type=Report)

    def fails(self, code: int, source: Path, *flags: str, name: str = "csv") -> str:
        """The one line that `riverrank convert` ends with."""
        got, out, err = self.run(name, source, *flags)
        assert (got, out) == (code, ""), err
        assert err.startswith("riverrank: ") and err.count("\n") == 1
        return err

    def run(self, name: str, source: Path, *flags: str) -> tuple[int, str, str]:
        """The exit code of `riverrank convert`, and what it says on both streams."""
        out, err = io.StringIO(), io.StringIO()
        given = ("--source", source, "--events", self.events_path, "--items", self.items_path, *flags)
        with redirect_stdout(out), redirect_stderr(err):
            code = main(["convert", name, *map(str, given)])
        return code, out.getvalue(), err.getvalue()

    def events(self) -> list[Event]:
        events = [decode_event(line) for line in self.events_path.read_bytes().splitlines()]
        assert events
        taken = [event for event in events if isinstance(event, Event)]
        assert taken == events
        return taken

    def items(self) -> dict[str, Item]:
        items = [decode_item(line) for line in gzip.decompress(self.items_path.read_bytes()).splitlines()]
        assert items
        taken = {item.item_id: item for item in items if isinstance(item, Item)}
        assert len(taken) == len(items)
        return taken


def rows_of(report: Report) -> int:
    """The rows that a report of events without profiles and without a catalogue accounts for."""
    return report.events + report.bad_rows + report.returns + sum(report.left_out.values())
