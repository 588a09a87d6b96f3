"""What tests of compiled kernels share: which kernels there are, by reading the sources, so that it is the same whether
they are compiled or not; and for which types they are compiled when streams are answered.

    python tests/kernels.py EVENTS STREAM...     these types, as JSON
"""

import ast
import json
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import oracle
from riverrank.jobs.config.schema import parse
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models.ranker import Ranker
from riverrank.operators.session.session import Session
from riverrank.operators.signals.signals import Signals
from riverrank.operators.slate.recommend import Recommend
from riverrank.state.messages import CatalogueUpdate, decode_feedback, decode_update, encode
from riverrank.state.records import Event, Item, decode_event, decode_item

OPERATORS = Path(__file__).resolve().parent.parent / "operators"


def kernels_of(folder: str) -> set[str]:
    """`module.function` of each function in the modules of operators/`folder` that numba compiles."""
    return {
        f"{path.stem}.{node.name}"
        for path in sorted((OPERATORS / folder).glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and any("njit" in ast.unparse(mark) for mark in node.decorator_list)
    }


def missing_twins(folder: str, twins: Mapping[str, Any], tests: Mapping[str, Any]) -> set[str]:
    """The kernels of operators/`folder` that `twins` names no test of `tests`, a module's globals, for, and what it
    names that is no kernel.
    """
    kernels = kernels_of(folder)
    assert kernels, f"operators/{folder} holds no kernel: has it moved?"
    return kernels ^ {name for name, test in twins.items() if tests.get(test.__name__) is test}


def signatures() -> dict[str, list[str]]:
    """By kernel, as `folder.module.function`, all types that it was compiled for or loaded with in this process."""
    found = {}
    for name, module in sorted(sys.modules.items()):
        for value in vars(module).values() if name.startswith("riverrank.operators.") else ():
            if hasattr(value, "signatures") and value.py_func.__module__ == name:
                found[f"{name.removeprefix('riverrank.operators.')}.{value.py_func.__name__}"] = [
                    ", ".join(map(str, types)) for types in value.signatures
                ]
    return found


def answer_streams(names: Iterable[str], events: int) -> int:
    """Answer the first events of the oracle's streams, with the operators alone, their messages and states as bytes;
    how many slates came of it.
    """
    slates = 0
    for name in names:
        behaviour = parse(tomllib.loads(oracle.STREAMS[name].config)).behaviour
        items, lines = oracle.made_lines(oracle.STREAMS[name])
        index, session = ItemIndex(behaviour), Session(behaviour)
        signals = [Signals(behaviour, shard) for shard in range(behaviour.signals.shards)]
        ranker, recommend = Ranker(behaviour, index), Recommend(behaviour, index)
        sessions: dict[str, bytes | None] = {}
        users: dict[str, bytes | None] = {}
        for item in (decode_item(line, b"", 0) for line in items):
            if isinstance(item, Item):
                index.apply(decode_update(encode(CatalogueUpdate(item))))
        for event in (decode_event(line) for line in lines[:events]):
            if not isinstance(event, Event):
                continue
            accepted = session.accept(event, sessions.get(event.user_id))
            sessions[event.user_id] = accepted.state
            if accepted.feedback is None:
                continue
            feedback = decode_feedback(encode(accepted.feedback))
            answer = recommend.answer(feedback, users.get(event.user_id))
            users[event.user_id] = answer.state
            slates += answer.slate is not None
            ranker.learn(feedback)
            for shard in signals:
                shard.learn(feedback)
            updates = [update for learner in (*signals, ranker) if learner.due() for update in learner.flush()]
            for update in updates:
                index.apply(decode_update(update))
        recommend.popular(0)
    return slates


if __name__ == "__main__":
    slates = answer_streams(sys.argv[2:], int(sys.argv[1]))
    print(json.dumps({"slates": slates, "signatures": signatures()}))
