"""The allocator of shared memory: who has which range, and how much memory stays behind it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from allcores.shared_memory.allocator import ALIGNMENT, Allocator, Block, Taken, capacity_for

START, SPAN, BUDGET = 1 << 38, 1 << 30, 8 << 20


@given(st.integers(1, 1 << 36))
def test_classes_are_few_and_tight(need: int) -> None:
    capacity = capacity_for(need)
    assert capacity >= need
    assert capacity % ALIGNMENT == 0
    assert capacity - need < max(ALIGNMENT, need / 4)
    assert capacity_for(capacity) == capacity


class Blocks(RuleBasedStateMachine):
    """Any order of taking, giving and trimming."""

    def __init__(self) -> None:
        super().__init__()
        self.allocator = Allocator(START, SPAN, BUDGET)
        self.out: dict[int, tuple[Block, int]] = {}
        self.largest = 0

    @rule(need=st.integers(1, 12 << 20))
    def take(self, need: int) -> None:
        self.largest = max(self.largest, need)
        taken = self.allocator.take(need)
        self.drop(taken)
        if taken is None:
            assert self.out, "an item larger than the budget must travel, too"
            return
        block = taken.block
        assert block.offset >= START and block.offset + block.capacity <= START + SPAN
        assert block.capacity >= need
        for other, _ in self.out.values():
            assert block.offset + block.capacity <= other.offset or other.offset + other.capacity <= block.offset
        self.out[block.offset] = block, need

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def give(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.out)))
        del self.out[offset]
        self.allocator.give(offset)
        self.drop()

    @rule(offset=st.integers(START, START + SPAN))
    def give_what_is_not_out(self, offset: int) -> None:
        if offset not in self.out:
            before = self.allocator.kept
            self.allocator.give(offset)
            assert self.allocator.kept == before

    @rule()
    def trim(self) -> None:
        self.allocator.trim()
        self.drop()
        assert self.allocator.kept == self.allocator.in_use

    def drop(self, taken: Taken | None = None) -> None:
        """The owner gives memory back at once, before anything is written; nothing of it is in use."""
        for block in self.allocator.to_drop:
            assert taken is None or not (taken.warm and taken.block == block), "warm memory was given up"
            for other, _ in self.out.values():
                assert block.offset + block.capacity <= other.offset or other.offset + other.capacity <= block.offset
        self.allocator.to_drop.clear()

    @invariant()
    def counts(self) -> None:
        allocator = self.allocator
        assert allocator.leased == len(self.out)
        assert sum(need for _, need in self.out.values()) <= allocator.in_use <= allocator.kept
        most = max(BUDGET, self.largest) + self.largest if self.largest > BUDGET // 4 else BUDGET
        assert allocator.kept <= most, "memory grows beyond the budget"


TestBlocks = Blocks.TestCase


def test_what_came_back_last_is_used_first() -> None:
    """Its pages are in the caches."""
    allocator = Allocator(START, SPAN, BUDGET)
    blocks = [allocator.take(1 << 20) for _ in range(3)]
    assert all(taken is not None and not taken.warm for taken in blocks)
    for taken in blocks:
        assert taken is not None
        allocator.give(taken.block.offset)
    again = allocator.take(1 << 20)
    assert again is not None and again.warm and blocks[-1] is not None
    assert again.block == blocks[-1].block


def test_memory_of_other_sizes_makes_room() -> None:
    """What waits, unused, does not keep a new size from its share."""
    allocator = Allocator(START, SPAN, BUDGET)
    small = [allocator.take(1 << 20) for _ in range(8)]
    for taken in small:
        assert taken is not None
        allocator.give(taken.block.offset)
    assert allocator.take(6 << 20) is not None
    assert allocator.kept <= BUDGET
    assert len(allocator.to_drop) >= 6


def test_without_a_budget_there_are_no_blocks() -> None:
    assert Allocator(START, SPAN, 0).take(1) is None
