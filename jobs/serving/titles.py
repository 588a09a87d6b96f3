"""Titles of items, for whoever reads a slate: from the catalogue as it stands now, a file or a topic up to its present
end. Only those that are asked for are held.
"""

from collections.abc import Collection
from typing import NamedTuple

import msgspec
from riverrank.jobs.config import preflight
from riverrank.jobs.config.edges import FileSettings
from riverrank.jobs.config.schema import Config
from riverrank.jobs.local.reading import read_items
from riverrank.state.records.outgoing import Slate


class _Titled(NamedTuple):
    """The newest record of an item so far."""

    ts: int
    title: str | None


def titles_of(config: Config, item_ids: Collection[str]) -> dict[str, str]:
    """The title of each of `item_ids` that has one, by the newest record of the item; none where no items are
    configured (`files.items`, else `kafka.items`).

    Raises:
        UsageError: the file or the topic is not there, or no broker answers.
        Failure: the file is damaged, or the broker goes away.
    """
    newest: dict[str, _Titled] = {}
    if config.files.items:
        preflight.check_readable(msgspec.structs.replace(config, files=FileSettings(items=config.files.items)))
    elif config.kafka.bootstrap and config.kafka.items:
        preflight.check_topic(config.kafka, config.kafka.items)
    with preflight.broker_errors(config.kafka):
        for item in read_items(config):
            held = newest.get(item.item_id)
            if item.item_id in item_ids and (held is None or item.ts >= held.ts):
                newest[item.item_id] = _Titled(item.ts, None if item.deleted else item.title)
    return {item_id: found.title for item_id, found in newest.items() if found.title}


def named_on(slate: Slate) -> set[str]:
    """The items that a slate names: those on it, and those that its reasons come from.

    >>> from riverrank.state.records.outgoing import Cause, ModelInfo, Slot
    >>> slot = Slot("i-8", 1, 0.8, 1.0, ("covisit",), (Cause("because_you_clicked", "i-3"),))
    >>> sorted(named_on(Slate("u:1", "u", 1, 0, "e", "warm", "control", ModelInfo(1, 1), (slot,))))
    ['i-3', 'i-8']
    """
    reasons = {reason.item_id for slot in slate.items for reason in slot.reasons}
    return {slot.item_id for slot in slate.items} | {item_id for item_id in reasons if item_id}
