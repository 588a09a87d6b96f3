"""The vocabulary knows the rows of each token, and gives up tokens that no item has."""

from hypothesis import given
from hypothesis import strategies as st
from made_index import ROWS, TOKENS, small_index, token_array
from riverrank.operators.index import lists
from riverrank.operators.index.vocabulary import Vocabulary
from riverrank.state.hashing import hash32
from riverrank.state.messages import CatalogueUpdate
from riverrank.state.records.incoming import Item


@given(st.lists(st.tuples(st.integers(0, ROWS - 1), st.lists(st.integers(0, TOKENS - 1), max_size=4, unique=True))))
def test_the_vocabulary_knows_the_rows_of_each_token(steps):
    vocabulary, rows, held = Vocabulary(), [set[int]() for _ in range(TOKENS)], dict[int, list[int]]()
    numbers = [vocabulary.number(f"category={k}") for k in range(TOKENS)]
    vocabulary.fit(2)
    for row, tokens in steps:
        vocabulary.fit(ROWS)
        vocabulary.unlink(row, token_array([held.get(row, [])])[0])
        vocabulary.link(row, token_array([tokens])[0])
        held[row] = tokens
        for token in range(TOKENS):
            rows[token].discard(row)
            if token in tokens:
                rows[token].add(row)
        assert [vocabulary.rows_of(k).tolist() for k in numbers] == [sorted(rows[k]) for k in numbers]
        assert vocabulary.sizes[:TOKENS].tolist() == [len(rows[k]) for k in numbers]


def test_a_vocabulary_of_many_tokens_knows_each_by_number_hash_and_value():
    vocabulary = Vocabulary()
    names = [f"brand={k}" for k in range(2500)]  # more than there is room for at first
    assert [vocabulary.number(name) for name in names] == list(range(2500))
    assert [vocabulary.number(name) for name in names] == list(range(2500))
    assert vocabulary.hashes[:2500].tolist() == [hash32(name) for name in names]
    assert vocabulary.by_value["2400"] == [2400] and (vocabulary.slots == -1).all() and (vocabulary.heads == -1).all()


def test_tokens_that_no_item_has_are_given_up():
    """Items one after another with a token of their own each, then one that changes its own again and again."""
    index, brands, checked = small_index(100), [f"brand=b{k}" for k in range(7)], -1
    for k in range(6000):
        item_id = f"i{k}" if k < 3000 else "i2999"
        index.apply(CatalogueUpdate(Item(item_id, k, attributes={"brand": f"b{k % 7}", "sku": str(k)})))
        index.best_of(index.token_numbers[f"sku={k}"]), index.best_of(index.token_numbers[brands[k % 7]])
        if checked != index.vocabulary.releases or k % 100 == 0 or k > 5990:
            checked = index.vocabulary.releases
            held = {name: [] for name in index.token_names}
            for row in sorted(index.table.rows.values()):
                for number in index.tokens[row][index.tokens[row] >= 0].tolist():
                    held[index.token_names[number]].append(row)
            for number, (name, rows) in enumerate(held.items()):
                assert index.token_numbers[name] == number and number in index.tokens_of_value[name.split("=")[1]]
                assert index.token_hashes[number] == hash32(name) and index.token_sizes[number] == len(rows)
                assert index.vocabulary.rows_of(number).tolist() == rows
                assert sorted(index.best_of(number).tolist()) == rows or len(rows) > lists.BEST
            assert {name for name, rows in held.items() if rows} > {f"sku={k}"}
    vocabulary = index.vocabulary
    assert len(index.table.rows) == 100 and len(vocabulary.names) == len(vocabulary.numbers) <= 1024
    assert len(vocabulary.by_value) <= 1024 and len(vocabulary.hashes) == 1024 and 5 < vocabulary.releases < 10
    assert sum(map(len, vocabulary.by_value.values())) == len(vocabulary.names)


TWINS = {
    "vocabulary.link": test_the_vocabulary_knows_the_rows_of_each_token,
    "vocabulary.unlink": test_the_vocabulary_knows_the_rows_of_each_token,
    "vocabulary.chain": test_the_vocabulary_knows_the_rows_of_each_token,
}
