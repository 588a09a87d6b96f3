"""What is kept of users beside their state: bounded by items, and nothing of whoever is to be forgotten."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from riverrank.operators.recent import Shown

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "forget", "forget_user"]),
        st.sampled_from("uvw"),
        st.sampled_from("abc"),
        st.integers(0, 5),
    ),
    max_size=40,
)


@given(STEPS)
def test_shown_lists_are_those_of_a_plain_list_bounded_by_items(steps):
    shown, plain = Shown(most=9), []
    for what, user, name, size in steps:
        if what == "put":
            shown.put(user, name, 0, SimpleNamespace(size=size))
            plain = [each for each in plain if each[:2] != (user, name)] + [(user, name, size)]
            while sum(each[2] for each in plain) > 9:
                plain.pop(0)
        elif what == "forget":
            shown.forget(user, name)
            plain = [each for each in plain if each[:2] != (user, name)]
        else:
            shown.forget_user(user)
            plain = [each for each in plain if each[0] != user]
        held = {(u, n): found.size for u in "uvw" for n in "abc" if (found := shown.get(u, n, 0)) is not None}
        assert held == {each[:2]: each[2] for each in plain}
        assert shown.get(user, name, 1) is None
