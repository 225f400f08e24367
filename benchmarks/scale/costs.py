"""What items and messages cost, as `measure.py` found it on one machine."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

#: what was measured last, with machine, versions and spread
MEASURED = Path(__file__).with_name("measured.json")
#: real runs beside the model
CHECKED = Path(__file__).with_name("checked.json")


@dataclass(frozen=True)
class Costs:
    """Seconds of one core, unless they are bytes.

    Attributes:
        driver_item_s: Of the driver's program for an item: pulled, pickled, read, handed to the consumer.
        driver_message_s: Of the driver's program for a message there and back, whatever is in it.
        scheduler_message_s: Of the cluster's scheduler for the same.
        node_item_s: Of a node's own driver for an item.
        node_message_s: Of a node's own driver, and the cluster's process there, for a message.
        node_chunk_s: The same for a chunk.
        latency_s: A message there and back, with nothing to do, beyond what the above takes.
        item_bytes: An item or its outcome, pickled.
        journal_item_s: Of the driver's program for an item in a journal.
        journal_item_bytes: On the disk.
        resume_s: Until a run whose input is in place goes on.
        resume_item_s: The same, for each item that it has.
        publish_item_s: Putting the output together.
        start_s: Until a node's pool works.
    """

    driver_item_s: float = 0.0
    driver_message_s: float = 0.0
    scheduler_message_s: float = 0.0
    node_item_s: float = 0.0
    node_message_s: float = 0.0
    node_chunk_s: float = 0.0
    latency_s: float = 0.0
    item_bytes: int = 4
    journal_item_s: float = 0.0
    journal_item_bytes: float = 0.0
    resume_s: float = 0.0
    resume_item_s: float = 0.0
    publish_item_s: float = 0.0
    start_s: float = 0.0

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Costs:
        """The medians of what was measured."""
        medians = {name: found["median"] for name, found in facts["costs"].items()}
        return cls(**{each.name: medians[each.name] for each in fields(cls) if each.name in medians})

    @classmethod
    def measured(cls) -> Costs:
        """Those that are kept beside this file."""
        return cls.of(json.loads(MEASURED.read_text()))
