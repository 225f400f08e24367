"""What is left of an input, over any number of sessions that end anywhere."""

from __future__ import annotations

import tempfile
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allcores.errors import RunChanged
from allcores.runs import remaining as module
from allcores.runs.index import RunIndex
from allcores.runs.ranges import RangeSet
from allcores.runs.remaining import RemainingItems
from allcores.runs.rows import put_anchors
from allcores.sources.chain import Chain
from allcores.sources.digest import Digest
from allcores.sources.open import source_of

ITEMS = 60
#: of a session: items that it reads, which of them it settles, whether the input is compared first
SESSION = st.tuples(st.integers(0, ITEMS), st.sets(st.integers(0, ITEMS - 1)), st.booleans())


def sources(folder: Path) -> dict[str, Any]:
    """Inputs of 60 items, of each kind that is read in another way."""
    text = [f"item {n}\n" for n in range(ITEMS)]
    (folder / "whole.txt").write_text("".join(text))
    (folder / "a.txt").write_text("".join(text[:25]))
    (folder / "b.txt").write_text("".join(text[25:]))
    names = [line.strip() for line in text]
    return {
        "file": source_of(folder / "whole.txt"),
        "chain": Chain([source_of(folder / "a.txt"), source_of(folder / "b.txt")]),  # type: ignore[list-item]
        "list": names,
        "once": names,
    }


@settings(max_examples=60)
@given(st.sampled_from(["file", "chain", "list", "once"]), st.lists(SESSION, max_size=5))
def test_each_item_is_given_until_it_is_settled(kind: str, sessions: list[tuple[int, set[int], bool]]) -> None:
    """With its index; what is known of the input fits it in each session, and another input does not."""
    with (
        tempfile.TemporaryDirectory() as name,
        patch.object(module, "BASE_ITEMS", 7),
        patch.object(module, "FAR_ITEMS", 3),
    ):
        source = sources(Path(name))[kind]
        run_index = RunIndex(name, writable=True, create=True, sync=False)
        settled = RangeSet()
        for reads, settles, compares in [*sessions, (ITEMS, set(range(ITEMS)), True)]:
            feed = RemainingItems(iter(source) if kind == "once" else source, settled)
            if compares or kind in ("list", "once"):
                feed.compare(run_index.anchors())
            feed.open(run_index)
            given_now: list[int] = []
            while len(given_now) < reads:
                index, row = feed.upcoming()
                part = list(islice(feed, min(row, 4)))
                if not part:
                    break
                assert part == [f"item {index + offset}" for offset in range(len(part))]
                for place in range(index, index + len(part)):
                    assert place not in settled
                    given_now.append(place)
                    if place in settles:
                        with run_index.transaction() as db:
                            put_anchors(db, feed.new_checkpoints(place) or [])
                        settled.add(place, place + 1)
            feed.close()
        assert list(settled) == [(0, ITEMS)] and feed.total in (None, ITEMS)
        if kind in ("list", "once"):
            # One item is another: noticed, wherever it is.
            for place in range(0, ITEMS, 7):
                changed = [*source[:place], "other", *source[place + 1 :]]
                with pytest.raises(RunChanged):
                    RemainingItems(changed, settled).compare(run_index.anchors())
        run_index.close()


@pytest.mark.parametrize("kind", ["file", "chain", "list", "once"])
def test_only_what_is_wanted(tmp_path: Path, kind: str) -> None:
    """Indices that rise: of what failed, say."""
    source = sources(tmp_path)[kind]
    run_index = RunIndex(str(tmp_path), writable=True, create=True)
    whole = RemainingItems(source, RangeSet())
    whole.open(run_index)
    for index, _ in enumerate(whole):
        if index % 9 == 0:
            with run_index.transaction() as db:
                put_anchors(db, whole.new_checkpoints(index) or [])
    whole.close()
    wanted = [3, 4, 20, 26, 59]
    with patch.object(module, "FAR_ITEMS", 3):
        feed = RemainingItems(iter(source) if kind == "once" else source, RangeSet([(0, ITEMS)]), wanted=iter(wanted))
        feed.compare(run_index.anchors())
        feed.open(run_index)
        given: list[tuple[int, Any]] = []
        while True:
            index, _ = feed.upcoming()
            found = list(islice(feed, 1))
            if not found:
                break
            given.append((index, found[0]))
    assert given == [(index, f"item {index}") for index in wanted]
    feed.close()
    run_index.close()


@pytest.mark.parametrize("touched", [False, True])
@pytest.mark.parametrize("kind", ["file", "chain", "list", "once"])
def test_ctrl_c_in_the_middle_of_an_item_loses_none(tmp_path: Path, kind: str, touched: bool) -> None:
    """What was given before may be settled, and the next session goes on behind it, with an input that is the same."""
    source = sources(tmp_path)[kind]
    run_index = RunIndex(str(tmp_path), writable=True, create=True)
    settled = RangeSet()
    feed = RemainingItems(iter(source) if kind == "once" else source, settled)
    feed.open(run_index)
    given = list(islice(feed, 30))

    def interrupted(digest: Digest, _: Any) -> None:
        raise KeyboardInterrupt

    with (
        patch.object(Digest, "add", interrupted),
        patch.object(Digest, "add_item", interrupted),
        pytest.raises(KeyboardInterrupt),
    ):
        given += feed
    with run_index.transaction() as db:
        put_anchors(db, feed.new_checkpoints(29) or [])
    settled.add(0, 30)
    feed.close()
    rest = RemainingItems(iter(source) if kind == "once" else source, settled)
    if touched or kind in ("list", "once"):
        rest.compare(run_index.anchors())
    rest.open(run_index)
    assert [*given[:30], *rest] == [f"item {n}" for n in range(ITEMS)]
    rest.close()
    run_index.close()
