"""RANKER as Flink drives it, without Java: what it reads, tells and keeps."""

from adapters import BEHAVIOUR, CATALOGUE, feedback
from harness import Harness
from riverrank.operators.flink.ranker import RankerFunction
from riverrank.state import uids
from riverrank.state.messages import CatalogueUpdate, Weights, decode_update, encode
from riverrank.state.records.incoming import Item


def test_ranker_reads_the_catalogue_learns_and_tells_its_weights() -> None:
    harness = Harness(RankerFunction(BEHAVIOUR, lambda: CATALOGUE))
    harness.broadcast(encode(CatalogueUpdate(Item("later", 2, "Later"))))
    for number in range(6):
        harness.element(feedback(f"e{number}", item=f"i{number}", ts=1_000 + number), "0")
    harness.advance(BEHAVIOUR.ranker.flush_every)
    told = [decode_update(update) for update in harness.main]
    assert any(isinstance(update, Weights) for update in told)
    assert "item:later" in harness.store.broadcast[uids.RANKER_VIEW]
    assert harness.advance(10 * BEHAVIOUR.ranker.flush_every) == 0
    again = harness.restored(RankerFunction(BEHAVIOUR, lambda: ()))
    again.element(feedback("e7", item="i7", ts=2_000), "0")
    again.advance(BEHAVIOUR.ranker.flush_every)
    newest = [u for u in map(decode_update, again.main) if isinstance(u, Weights)][-1]
    before = [u for u in told if isinstance(u, Weights)][-1]
    assert newest.version >= before.version > 0
