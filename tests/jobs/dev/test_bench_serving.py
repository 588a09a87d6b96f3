"""The measures of slates by HTTP: what clients count, rates beside Redis alone, and while Redis goes and comes."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from riverrank.jobs.dev.benchmarks import __main__ as benchmarks
from riverrank.jobs.dev.benchmarks import report
from riverrank.jobs.dev.benchmarks.serving import clients, rates, scene
from riverrank.jobs.dev.benchmarks.serving.clients import Heard
from riverrank.jobs.dev.benchmarks.serving.minute import Minute
from riverrank.jobs.errors import UsageError

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """A server that gives these answers over each connection, a half at a time, and closes it; its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for each in answers:
            await reader.readuntil(b"\r\n\r\n")
            for half in (each[:30], each[30:]):
                writer.write(half)
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()

    async def begin() -> int:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        return int(server.sockets[0].getsockname()[1])

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(begin(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def test_each_reply_is_counted_by_what_it_is_and_a_connection_that_closes_is_no_reply() -> None:
    stale = b'{"fallback":"popular","stale":true}'
    other = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
    third = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(stale), stale)
    with answering(ANSWER, other, third) as port:
        heard = clients.load("http", [port], ["/a", "/b"], at_once=3, warm=0.0, seconds=0.5)
    counts = heard.counts()
    assert set(counts) == {"200", "503", "200 stale", "closed"}
    assert counts["200"] >= counts["503"] >= counts["200 stale"] >= counts["closed"] >= 3
    assert 10 < heard.milliseconds(50) < 400 and heard.total == counts.total()


def test_what_is_asked_before_is_no_figure() -> None:
    with answering(*[ANSWER] * 100) as port:
        heard = clients.load("http", [port, port], ["/a"], at_once=2, warm=0.3, seconds=0.3)
    assert 5 < heard.counts()["200"] < heard.total - 5


def test_rates_are_those_of_the_slates_themselves_beside_redis_alone(tmp_path: Path) -> None:
    rows = rates.measure(rounds=1, seconds=0.2, folder=tmp_path)
    found = {(row.asked, row.at_once): row for row in rows}
    names = [rates.PLAIN, rates.LIMIT, rates.SERVED, rates.CATALOGUED, rates.TWO]
    assert set(found) == {(name, n) for name in names for n in rates.AT_ONCE if n > 1 or name != rates.TWO}
    for (name, n), row in found.items():
        assert row.per_second.median > 20 and 0 < row.p50.median <= row.p99.median
        assert row.of_plain.median == pytest.approx(row.per_second.median / found[rates.PLAIN, n].per_second.median)
        assert (row.cpu is not None and 10 < row.cpu.median < 50_000) == (name not in (rates.PLAIN, rates.LIMIT))
    _, lines = report.slates_table(rows)
    assert len(lines) == 14 and all(len(line) == 7 for line in lines)


def test_slates_that_are_asked_for_are_as_the_job_writes_them() -> None:
    slate = scene.slate_of("u-00003", 3)
    assert [slot.rank for slot in slate.items] == [*range(1, 21)] and len({s.item_id for s in slate.items}) == 20


def test_every_request_is_answered_while_redis_goes_and_comes(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmarks.main(["--serve-minute", "6"]) == 0
    names, *lines = capsys.readouterr().out.splitlines()
    assert names.split() == [
        "Redis",
        "was",
        "away",
        "requests",
        *["200", "200", "popular", "200", "stale", "503"],
        "p99,",
        "ms",
    ]
    before, while_away, after = (line.split() for line in lines[:3])
    assert (before[0], while_away[0], after[0]) == ("before", "while", "after")
    assert before[1] == before[2] != "0"
    assert while_away[4] != "0" and after[2] != "0"
    assert "200 at once for 6 s; Redis was away" in lines[-1]


def test_what_should_not_have_come_is_told() -> None:
    kinds = ["200", "503", "closed", "404"]
    came = [1.0, 3.0, 7.9, 8.1, 9.0, 9.5]
    heard = Heard(6, 10.0, kinds, [0, 1, 1, 1, 2, 3], came, [0.01] * 6)
    assert Minute(heard, stopped=2.0, back=3.0).faults() == [
        "404: 1", "closed: 1", "503 later than 5 s after Redis was back: 1",
    ]  # fmt: skip
    assert Minute(heard._replace(kind=[0, 1, 1, 0, 0, 0]), stopped=2.0, back=3.0).faults() == []


def test_too_short_a_minute_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmarks.main(["--serve-minute", "0.5"]) == 2
    assert "3 to 600 seconds" in capsys.readouterr().err
    with pytest.raises(UsageError):
        benchmarks.minute.measure(1e9, Path())
