"""There is one place for a source, and one for a feature."""

import numpy as np
import pytest
from riverrank.operators.candidates import registry
from riverrank.operators.candidates.context import WARM, context_of
from riverrank.operators.candidates.features import feature_space
from riverrank.operators.candidates.retrieval import Retriever
from riverrank.operators.candidates.source import Score, Source
from riverrank.operators.candidates.sources.popular import Popular
from riverrank.operators.models.ranker import Ranker
from riverrank.operators.models.weights import RankerWeights
from riverrank.state.messages import Feedback, Seen, decode_update
from riverrank.state.records.incoming import Event
from shop_pipeline import PLAIN, Shop, ids


class Toy(Source):
    """Two items, whoever asks; only this test knows of it."""

    name = "toy"
    meaning = "what lies on top"
    reason = "on_top"
    quota = 0.05
    scores = (Score("toy", prior=9.0), Score("evenness", prior=0.25, plain=True))
    ranks = describes = True

    def rank(self, query):
        return query.index.table.rows_of(["i57", "i58"])

    def describe(self, query, rows, proposed, scores, column):
        scores[np.isin(rows, self.rank(query)), column] = 1.0
        scores[:, column + 1] = rows % 2


class ReachingToy(Toy):
    """The same by what it reaches."""

    scores = (Toy.scores[0], Toy.scores[1]._replace(described=True))
    ranks = False
    reaches = True

    def reach(self, query, column):
        query.reached.add(self.rank(query), np.ones(2, np.float32), column)

    def describe(self, query, rows, proposed, scores, column):
        scores[:, column] = rows % 2


class OnlyReachingToy(ReachingToy):
    """One that says nothing of candidates."""

    describes = False


TOYS = pytest.mark.parametrize("toy", [Toy(), ReachingToy()], ids=["ranks", "reaches"])


@TOYS
def test_a_source_of_one_line_in_the_registry_proposes_and_describes_candidates(toy, monkeypatch):
    before = Retriever(PLAIN, Shop().index).features
    monkeypatch.setattr(registry, "SOURCES", (*registry.SOURCES, toy))
    retriever = Retriever(PLAIN, Shop().index)
    space, index = retriever.features, retriever.index
    added = [name for name in space.names if name not in before.names]
    assert added == ["toy:root", "toy:share", "evenness"]
    assert [space.sources[space.source_of[space.names.index(name)]] for name in added] == ["toy"] * 3
    assert [space.prior[WARM][space.names.index(name)] for name in added] == [9.0, 0.0, 0.25]
    assert space.reasons[space.sources.index("toy")] == "on_top"
    found = retriever.find(context_of(index, [Seen("i1", 1, 1.0)], {}), None)
    proposed = found.rows[found.proposed >> space.sources.index("toy") & 1 > 0]
    assert proposed.tolist() == index.table.rows_of(["i57", "i58"]).tolist()
    assert (found.features[:, space.names.index("toy:root")] == np.isin(found.rows, proposed)).all()
    assert (found.features[:, space.names.index("evenness")] == found.rows % 2).all()


def test_scores_that_contradict_each_other_or_what_their_source_does_are_refused():
    plain, given = Score("plain", plain=True), Score("given")
    described = plain._replace(described=True)
    for toy, scores, message in (
        (ReachingToy(), (described, given), r"^source toy: scores that are described come last$"),
        (ReachingToy(), (given, plain), r"^source toy: reaches, so it describes where some scores are described"),
        (OnlyReachingToy(), (given, described), r"^source toy: reaches, so it describes where some scores are descr"),
        (Toy(), (given, plain._replace(relative=True)), r"^score plain: a plain one has no share that could be told$"),
    ):
        toy.scores = scores
        with pytest.raises(ValueError, match=message):
            feature_space((toy,))


@TOYS
def test_a_source_that_would_propose_nothing_for_want_of_a_quota_is_refused(toy, monkeypatch):
    monkeypatch.setattr(type(toy), "quota", 0.0)
    with pytest.raises(ValueError, match=r"^source toy: proposes nothing without a quota$"):
        feature_space((toy,))


@pytest.mark.parametrize("toy", [Toy(), ReachingToy(), OnlyReachingToy()], ids=["ranks", "reaches", "only reaches"])
def test_what_a_source_gives_to_what_it_reaches_and_what_proposes_are_told_by_its_scores(toy):
    plain, quiet, described = Score("plain", plain=True), Score("quiet", proposes=False), Score("told", described=True)
    toy.scores = (quiet, Score("given"), plain, Score("too"), *((described,) if toy.describes else ()))
    names = [score.name for score in toy.reached_scores]
    assert (names, toy.proposing) == ((["quiet", "given", "plain", "too"], (1, 3)) if toy.reaches else ([], ()))
    assert "plain" in feature_space((toy,)).names


class EvenPopular(Popular):
    """Popularity with a plain score more."""

    scores = (*Popular.scores, Score("evenness", prior=0.25, plain=True))

    def describe(self, query, rows, proposed, scores, column):
        super().describe(query, rows, proposed, scores, column)
        scores[:, column + len(Popular.scores)] = rows % 2


def test_a_plain_score_of_a_source_is_a_feature_and_learns_a_weight(monkeypatch):
    sources = tuple(EvenPopular() if source.name == "popular" else source for source in registry.SOURCES)
    monkeypatch.setattr(registry, "SOURCES", sources)
    shop = Shop()
    ranker, index = Ranker(PLAIN, shop.index), shop.index
    column = ranker.retriever.features.names.index("evenness")
    assert ranker.retriever.features.sources[ranker.retriever.features.source_of[column]] == "popular"
    assert RankerWeights.of(None, ranker.retriever.features).weights[:, column].tolist() == [0.25, 0.25]
    history: tuple[Seen, ...] = ()
    for k in range(60):  # one who takes what has an odd row
        item = f"i{(2 * k * k + 1) % 60}"
        assert index.row(item) % 2
        ranker.learn(Feedback(Event(f"e{k}", "click", f"u{k % 3}", k, item), 1.0, history))
        history = (*history[-5:], Seen(item, 1, 1.0))
    weights = next(decode_update(update) for update in ranker.flush())
    learned = RankerWeights.of(weights, ranker.retriever.features).weights
    assert learned[WARM, column] > 0.3 and weights.names[column] == "evenness"


@TOYS
def test_a_source_of_one_line_in_the_registry_is_on_slates(toy, monkeypatch):
    monkeypatch.setattr(registry, "SOURCES", (*registry.SOURCES, toy))
    shop = Shop()
    shop.crowd(events=3)
    for slate in (shop.send("cold", "request"), shop.send("warm", "click", "i2")):
        assert set(ids(slate)[:2]) == {"i57", "i58"} and len(slate.items) == 20
        for slot in slate.items[:2]:
            assert "toy" in slot.sources and slot.reasons[0].code == "on_top" and slot.reasons[0].weight > 2.0
        assert all("toy" not in slot.sources for slot in slate.items[2:])
