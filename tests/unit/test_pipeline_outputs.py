"""What comes out of a line and its sides, whichever of them is ahead."""

from __future__ import annotations

import pytest

from allcores.outcome import Kind
from allcores.pipelines.links import Raised, Tee
from allcores.pipelines.marks import Barrier, Failed, Mark, Sided
from allcores.pipelines.outputs import MOST_WAITING, AlignedOutput, End, Output


def failed() -> Failed:
    return Failed(1, "f", 0, Kind.FAILED, ValueError("no"), "item", "record")


def ends(output: Output, sides: int) -> tuple[Tee, list[End]]:
    """A tee, and the ends of its line (0) and its sides."""
    line = [End(number, output) for number in range(sides + 1)]
    return Tee(line[1:], line[0]), line


@pytest.mark.parametrize("sides", [1, 3])
def test_a_record_that_failed_before_a_tee_is_told_once(sides: int) -> None:
    output = Output(range(sides + 1), with_marks=True)
    tee, _ = ends(output, sides)
    mark = failed()
    tee.mark(mark)
    assert output.items == [mark]


def test_a_tee_in_a_side_tells_it_once_too() -> None:
    output = Output(range(3), with_marks=True)
    line, side, inner = (End(number, output) for number in range(3))
    tee = Tee([Tee([inner], side)], line)
    mark = failed()
    tee.mark(mark)
    assert output.items == [mark]


def test_a_failure_is_told_by_a_side_that_goes_on_when_the_line_has_ended() -> None:
    output = Output(range(3), with_marks=True)
    tee, line = ends(output, 2)
    line[0].finish(whole=True)
    line[1].finish(whole=True)
    mark = failed()
    tee.mark(mark)
    assert output.items == [mark]


@pytest.mark.parametrize("mark", [Raised(OSError("gone")), failed()], ids=["source", "record"])
def test_what_is_on_the_line_comes_before_what_was_raised_behind_it(mark: Mark) -> None:
    """Though a side that is quicker was there long before."""
    output = Output(range(2), with_marks=False)
    tee, line = ends(output, 1)
    tee.put([1])
    if isinstance(mark, Raised):
        line[1].mark(mark)
        assert output.error is None and not output.done
        line[0].put([2])
        line[0].mark(mark)
    else:
        tee.mark(mark)
    assert not output.whole and output.done
    assert isinstance(output.error, OSError if isinstance(mark, Raised) else ValueError)
    assert [each for each in output.items if isinstance(each, int)] == ([1, 2] if isinstance(mark, Raised) else [1])


def test_a_failure_that_a_side_has_first_is_told_in_its_place_on_the_line() -> None:
    output = Output(range(2), with_marks=True)
    tee, line = ends(output, 1)
    mark = failed()
    mark.on_line = True
    line[1].mark(mark)
    tee.put([1])
    line[0].mark(mark)
    assert [each for each in output.items if not isinstance(each, Sided)] == [1, mark]


@pytest.mark.parametrize("with_marks", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_a_failure_behind_the_end_of_the_line_is_told_by_a_side(with_marks: bool, first: bool) -> None:
    """It was on its way along the line, too, which wanted nothing more before it came there."""
    output = Output(range(2), with_marks=with_marks)
    _, line = ends(output, 1)
    mark = failed()
    mark.on_line = True
    if first:
        line[1].mark(mark)
        assert output.items == [] and output.error is None
    line[0].finish(whole=True)
    line[0].mark(mark)
    line[1].mark(mark)
    assert (output.items, output.error, output.whole) == (
        ([mark], None, True) if with_marks else ([], mark.error, False)
    )


def test_what_the_source_raised_is_told_when_the_line_ended_before() -> None:
    """Its sides are not whole then; also when it ends a moment later."""
    for order in ((0, 1), (1, 0)):
        output = Output(range(2), with_marks=False)
        _, line = ends(output, 1)
        for number in order:
            if number:
                line[1].mark(Raised(OSError("gone")))
            else:
                line[0].finish(whole=True)
        assert isinstance(output.error, OSError) and not output.whole, order


def test_behind_barriers_too() -> None:
    output = AlignedOutput(range(2))
    tee, line = ends(output, 1)
    first, second = Barrier(0), Barrier(1)
    mark, error = failed(), Raised(OSError("gone"))
    line[1].put(["a"])
    for each in (first, second, error):
        line[1].mark(each)
    assert output.items == []
    line[0].put([1])
    line[0].mark(first)
    line[0].mark(mark)
    line[0].mark(second)
    assert output.error is None
    line[0].mark(error)
    assert [each for each in output.items if not isinstance(each, Sided)] == [1, first, mark, second]
    assert isinstance(output.error, OSError)
    assert tee.done


@pytest.mark.parametrize("cut", [0, 1])
def test_no_barrier_passes_a_side_that_was_cut_off(cut: int) -> None:
    """Stopped in a gap, one has not all that came of later items, which the others have: they are to run again."""
    output = AlignedOutput(range(2))
    _, line = ends(output, 1)
    for item in range(3):
        for number in (0, 1):
            if number != cut or item == 0:
                line[number].put([item])
                line[number].mark(Barrier(item))
    line[cut].finish(whole=False)
    line[1 - cut].put(["more"])
    assert [each.index for each in output.items if isinstance(each, Barrier)] == [0]
    line[1 - cut].finish(whole=False)
    assert [each.index for each in output.items if isinstance(each, Barrier)] == [0] and output.done


def test_a_side_that_wants_no_more_holds_up_no_barrier() -> None:
    output = AlignedOutput(range(2))
    _, line = ends(output, 1)
    line[1].finish(whole=True)
    for item in range(3):
        line[0].mark(Barrier(item))
    assert [each.index for each in output.items] == [0, 1, 2]


def test_who_waits_for_a_side_that_was_cut_off_comes_to_its_end() -> None:
    output = AlignedOutput(range(2))
    _, line = ends(output, 1)
    line[0].put(list(range(MOST_WAITING)))
    assert line[0].full
    line[1].finish(whole=False)
    assert not line[0].full
