"""What tests of learners share: an index of items that are taken together, and candidates of it to learn from."""

from riverrank.operators.candidates import registry
from riverrank.operators.candidates.context import WARM, context_of
from riverrank.operators.candidates.features import feature_space
from riverrank.operators.candidates.retrieval import Retriever
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models.inputs import Inputs
from riverrank.operators.settings import Behaviour
from riverrank.operators.signals.signals import Signals
from riverrank.state.messages import CatalogueUpdate, Feedback, Seen, Update, decode_update
from riverrank.state.records.incoming import Event, Item

SPACE = feature_space(registry.SOURCES)
DENSE = 1 + SPACE.size


def shop() -> ItemIndex:
    """A index of 40 items in four categories, of which those of one category are taken together."""
    index = ItemIndex(Behaviour())
    for update in shop_updates():
        index.apply(update)
    return index


def shop_updates() -> list[Update]:
    """What the index of `shop` was told."""
    signals, told = Signals(Behaviour(), 0), []
    for k in range(40):
        told.append(CatalogueUpdate(Item(f"i{k}", 1, categories=(f"c{k % 4}",), attributes={"brand": f"b{k % 5}"})))
    past: dict[int, list[Seen]] = {}
    for k in range(400):
        user, item = k % 8, f"i{(k * 7 + k // 8) % 10 * 4 + k % 4}"
        history = past.setdefault(user, [])
        signals.learn(Feedback(Event(f"e{k}", "click", f"u{user}", k, item), 1.0, tuple(history[-20:])))
        history.append(Seen(item, k, 1.0))
    return [*told, decode_update(signals.flush()[0])]


def inputs_of(index: ItemIndex) -> Inputs:
    context = context_of(index, [Seen("i0", 1, 1.0), Seen("i4", 2, 1.0)], {})
    candidates = Retriever(Behaviour(), index).find(context, None)
    assert len(candidates.rows) >= 20
    return Inputs(index, candidates, candidates.features @ SPACE.prior[WARM])
