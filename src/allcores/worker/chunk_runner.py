"""Runs the items of a chunk, and seals what is finished before anything can happen to it.

Sealing: finished values are pickled and put into the outbox on the status board once they are worth
more than SEAL_NS of work. If the process dies a moment later, the parent reads them there. So a crash
costs the item that caused it, and at most SEAL_NS of finished work that runs again.
"""

from __future__ import annotations

import os
from pickle import dumps as pickle_dumps
from time import monotonic_ns

from allcores.system import procfs, standard_streams
from allcores.transport import chunk_ends, frames, process_role
from allcores.transport.chunk_ends import waiting as at_chunk_end
from allcores.transport.exceptions import add_note, frames_of, pack_error
from allcores.transport.misfits import explain_misfit
from allcores.transport.pickling import (
    ITEM_UNREAD,
    MANY_VALUES,
    PROTOCOL,
    SCALARS,
    loads,
)
from allcores.transport.positions import (
    PHASE_CONTEXT,
    PHASE_FUNCTION,
    PHASE_IDLE,
    PHASE_LOADING,
    PHASE_OUTPUT,
    PHASE_RUNNING,
    PHASE_SEALING,
    together_word,
)
from allcores.transport.reduction import Reduction
from allcores.transport.references import Arrivals, OpenFiles
from allcores.transport.refilled_items import AT_ONCE, RefilledItems, shows
from allcores.transport.status_board import (
    BUSY,
    CLAIMED,
    CURRENT,
    DONE,
    FIRST,
    LIMIT,
    OUTBOX_BYTES,
    PHASE,
    SEQUENCE,
    STARTED,
    USED,
)
from allcores.worker import following
from allcores.worker import forked as forks
from allcores.worker.folding import FOLD_NS, FRAMES, Fold, packing
from allcores.worker.learned_function import LearnedFunction
from allcores.worker.process_reset import TIDY_NS, NoReset, ProcessReset
from allcores.worker.result_packer import ResultPacker
from allcores.worker.watched_functions import WatchedFunctions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from allcores.shared_memory.worker_side import WorkerMemory

#: Finished work that may have to run again after a crash, ns. A seal takes some 8 µs here, and as much in the parent:
#: with 200 µs it took 5 % of the cores from items of 100 µs.
SEAL_NS = 1_000_000
#: Items that are started without another look at the board take no longer than this, ns, and one item.
BURST_NS = 50_000
#: ... and are no more than this.
MOST_STRIDE = 256
#: After bursts of so many quick items the clock is read once per GROUP (a power of two): a slow one among them
#: takes at most the rest of its group along. Not where items have deadlines or report their seconds.
MANY = 64
GROUP = 8

#: of the frames that stand between a worker and a function
_OWN = (globals(), LearnedFunction.calling.__globals__, *FRAMES)


class ChunkRunner:
    """The worker's side of chunks.

    Args:
        send: Takes a frame for the pipe, in parts.
        slot: This worker's slot of the board.
        outbox: Its outbox, there too.
        notes: Where faulthandler writes.
        left_alone: Modules in which functions may change globals without a word.
    """

    def __init__(
        self,
        send: Callable[..., None],
        slot: Any,
        outbox: memoryview,
        *,
        items_limit: int | None = None,
        growth_limit: int | None = None,
        worker_memory: WorkerMemory | None = None,
        behind: Callable[[], bool] | None = None,
        notes: int = -1,
        left_alone: frozenset[str] = frozenset(),
    ) -> None:
        self._worker_memory = worker_memory
        self._loads = loads if worker_memory is None else worker_memory.loads
        self._results = ResultPacker(worker_memory)
        self._send = send
        #: whether something that was logged waits for the pipe
        self._behind = behind
        self._slot = slot
        self._outbox = outbox
        self._used = 0
        self._flushed_ns = monotonic_ns()
        #: sealed results are sent at least this often inside of a chunk, as the parent wants it
        self._report_ns = 0
        self._process_reset = NoReset() if process_role.in_interpreter() else ProcessReset(notes)
        self.state: tuple[Any, ...] = ()
        #: how the function of the chunk that runs is called
        self._style = "one"
        self._functions: dict[int, LearnedFunction] = {}
        self._watched = WatchedFunctions(left_alone)
        self._files = OpenFiles()
        self._items_left = items_limit
        self._growth_limit = growth_limit
        self._rss_at_start = resident_bytes() if growth_limit is not None else 0
        self.leaving = False
        #: the last chunk was a call that is likely to be followed by another at once
        self.prompt = False
        #: becomes non-empty in a process that a task forked: it must never answer for us
        self.forked: list[bool] = []
        #: what the chunk's function gives is merged
        self._merges = False
        #: the items that are being run
        self._burst: list[Any] = []
        if hasattr(os, "register_at_fork"):
            # What was printed is written here alone, and not once more by the copy.
            os.register_at_fork(before=standard_streams.flush, after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self.forked.append(True)
        # What the task's own copy of this process still iterates over: the running item is its last.
        self._burst.clear()

    # --- functions ---

    def learn(self, number: int, body: bytes) -> None:
        """Take in a function. One that will not load is remembered by its error."""
        # A module may take long to be imported, or end the process.
        phase, self._slot[PHASE] = self._slot[PHASE], PHASE_FUNCTION
        self._functions[number] = function = LearnedFunction.of(body, self._loads)
        if function.error is None:
            self._watched.unseen.add(number)
        self._slot[PHASE] = phase

    def follow(self, data: bytes) -> None:
        """Tasks begin with what is around the caller by now."""
        phase, self._slot[PHASE] = self._slot[PHASE], PHASE_CONTEXT
        folder = following.follow(data)
        self._slot[PHASE] = phase
        if folder is not None:
            self._process_reset.go_to(folder)

    def forget(self, number: int) -> None:
        """Drop a function that will not be called again."""
        self._functions.pop(number, None)
        self._watched.forget(number)

    def _callable(self, function: LearnedFunction) -> Callable[[Any], Any]:
        """What to call with each item of the chunk that was just unpickled."""
        call = function.calling(self.state)
        if not Arrivals.seen:
            return call
        # There are references among the items (or were elsewhere: then this chunk is looked through for nothing).
        Arrivals.seen = False
        loaded, style = self._files.loaded, function.style
        return lambda item: call(loaded(style, item))

    # --- chunks ---

    def run(self, sequence: int, body: bytes) -> None:
        """Run a chunk and send what came of it."""
        slot = self._slot
        base = sequence << 32
        slot[STARTED] = monotonic_ns()
        slot[CURRENT] = 0
        slot[SEQUENCE] = sequence
        slot[PHASE] = PHASE_LOADING
        slot[CLAIMED] = base
        if base >= slot[LIMIT]:
            if self._worker_memory is not None:
                self._worker_memory.skip(memoryview(body)[frames.CHUNK_HEAD.size :])
            self._seal(sequence, 0, 0, [], [], None, 0, ended=True)
            self._rest()
            return
        number, flags, count, report_us, batch, skip, slot[FIRST] = frames.CHUNK_HEAD.unpack_from(body)
        self._report_ns = report_us * 1000
        self.prompt = bool(flags & frames.PROMPT)
        learned = self._functions[number]
        function, broken = learned.target, learned.error
        self._style = learned.style
        if following.values is not None:
            broken = following.set_context() or broken
        try:
            items = self._loads(memoryview(body)[frames.CHUNK_HEAD.size :])
            if flags & frames.SHARED:
                items = items[skip : skip + count]
        except BaseException as error:
            if count > 1 or flags & frames.SHARED:
                self._put(frames.RECORD.pack(sequence, 0, 0, frames.ENDED | frames.UNLOADABLE, 0, 0), b"")
                self._rest()
                return
            add_note(error, ITEM_UNREAD)
            items, broken = [None], error
        slot[STARTED] = monotonic_ns()
        if batch:
            # Before it is said to run: if the process ends a moment later, no item is taken for one that ran alone.
            slot[CURRENT] = together_word(0, min(batch, len(items)))
        slot[PHASE] = PHASE_RUNNING
        if broken is None:
            self._merges = type(function) is Reduction
            self._watched.begin_chunk(number, function)
            durations: list[int] | None = [] if flags & frames.DETAILED else None
            refilled = learned.refilled if len(items) > 1 and learned.refilled.needed else None
            if batch:
                self._run_batches(sequence, items, batch, learned, durations, refilled)
                learned.within.let_go()
            else:
                untimed = not flags & (frames.DETAILED | frames.TIMED)
                call, fold = self._callable(learned), None
                if type(function) is Reduction:
                    fold = Fold(function, call, shared=self._worker_memory is not None)
                    call = fold.add
                self._run_items(sequence, items, call, durations, untimed, fold, refilled)
            if refilled is not None:
                refilled.let_go()
            # What lies in blocks goes back once nobody refers to it: we do no more.
            self._burst = items = []
        else:
            slot[CLAIMED] = base + len(items)
            count = min(len(items), max(0, slot[LIMIT] - base))
            failures = list(enumerate([pack_error(broken)] * count))
            self._seal(sequence, 0, count, [], failures, None, 0, ended=True, unloadable=True)
            # Its traceback has this frame: a cycle otherwise.
            broken = None
        self._rest()

    def _run_items(
        self,
        sequence: int,
        items: list[Any],
        call: Callable[[Any], Any],
        durations: list[int] | None,
        untimed: bool,
        fold: Fold | None,
        refilled: RefilledItems | None,
    ) -> None:
        """The hot loop: one store per item, and one reading of the clock per item or per group of quick ones.

        Items run in bursts. A burst is claimed on the board, then checked against the limit; it ends
        after BURST_NS at the latest, so that a slow item among quick ones ends its own burst, and the
        start time on the board is never wrong by more.
        """
        slot, forked, clock, current = self._slot, self.forked, monotonic_ns, CURRENT
        base = sequence << 32
        values: list[Any] = []
        append = values.append
        failures: list[tuple[int, Any]] = []
        begun = now = clock()
        first = position = 0
        stride = 1
        last = self._quota(len(items))
        seal_ns = SEAL_NS if fold is None else FOLD_NS
        if fold is not None:
            refilled = None  # what is combined is not kept
        while position < last:
            end = min(position + stride, last)
            slot[CLAIMED] = base + end
            limit = slot[LIMIT]
            if base + end > limit:
                end = max(position, limit - base)
                if end == position:
                    break
            slot[STARTED] = then = now
            until = now + BURST_NS
            # Items that were quick for long are timed in groups: the clock costs as much as they do.
            mask = GROUP - 1 if stride >= MANY and untimed else 0
            self._burst = burst = items[position:end]
            for item in burst:
                slot[current] = position
                try:
                    append(call(item))
                except BaseException as error:
                    if forked:
                        forks.leave(error)
                    if type(error) is TypeError:
                        explain_misfit(error, self._style, has_state=bool(self.state))
                    failures.append((position, pack_error(error, skip_frames=frames_of(error, *_OWN))))
                position += 1
                if position & mask:
                    continue
                now = clock()
                if durations is not None:
                    durations.append(now - then)
                    then = now
                if now > until:
                    break
            if forked:
                forks.leave()
            if mask:
                now = clock()
            # A burst that took too long had a slow item in it, and its like may follow: claim no more than one.
            stride = 1 if now > until else min(2 * stride, MOST_STRIDE)
            if refilled is not None:
                # One by one: the next call may change what this one has returned.
                stride, seal_ns, refilled = (1, AT_ONCE, refilled) if shows(refilled, values) else (1, SEAL_NS, None)
            # What is last is sealed with the end of the chunk, also if another worker has taken over what follows.
            if now - begun > seal_ns and position < last and base + position < slot[LIMIT]:
                spent = now - begun
                if fold is not None:
                    entries = fold.take(aligned=bool(failures))
                    self._seal(sequence, first, position - first, entries, failures, durations, spent)
                elif failures or durations is not None or not self._seal_plain(sequence, first, values, spent, now):
                    self._seal(sequence, first, position - first, values, failures, durations, spent)
                values.clear()
                failures.clear()
                if durations is not None:
                    durations.clear()
                first = position
                begun = now = clock()
        if fold is not None:
            values = fold.take(aligned=bool(failures))
        self._seal(sequence, first, position - first, values, failures, durations, now - begun, ended=True)

    def _run_batches(
        self,
        sequence: int,
        items: list[Any],
        batch: int,
        function: LearnedFunction,
        durations: list[int] | None,
        refilled: RefilledItems | None,
    ) -> None:
        from allcores.transport.batches import batch_call
        from allcores.worker.batch_runner import run_batches

        loaded, Arrivals.seen = self._files.loaded if Arrivals.seen else None, False
        call = batch_call(function.style, function.target, self.state, loaded, within=function.within)
        if type(function.target) is Reduction:
            call = packing(call, shared=self._worker_memory is not None)
        quota = self._quota(len(items))
        run_batches(
            self._slot, self.forked, sequence, items, batch, call, durations, quota, self._seal, SEAL_NS, refilled
        )

    def _quota(self, count: int) -> int:
        """How many of `count` items this worker may still run before it is replaced."""
        return count if self._items_left is None else min(count, self._items_left)

    # --- results ---

    def _seal_plain(self, sequence: int, start: int, values: list[Any], total_ns: int, now: int) -> bool:
        """Seal scalars in the midst of a chunk; False if `_seal` must do it.

        Written out in one piece: after a millisecond of the function's work the caches are cold, and each call of a
        function costs several times what it usually does.
        """
        count = len(values)
        if count > MANY_VALUES or not SCALARS.issuperset(map(type, values)):
            return False
        slot = self._slot
        slot[PHASE] = PHASE_SEALING
        payload = pickle_dumps(values, PROTOCOL)
        used = self._used
        begin = used + frames.RECORD.size
        end = begin + len(payload)
        if end > OUTBOX_BYTES or (self._behind is not None and self._behind()):
            return False
        if now - self._process_reset.tidied_ns > TIDY_NS:
            self._process_reset.tidy()
        slot[DONE] += count
        slot[BUSY] += total_ns
        if self._items_left is not None:
            self._items_left -= count
        frames.RECORD.pack_into(self._outbox, used, sequence, start, count, frames.PLAIN, total_ns, len(payload))
        self._outbox[begin:end] = payload
        # Only now does it count: the parent reads no further than this.
        self._used = slot[USED] = end
        if now - self._flushed_ns > self._report_ns:
            self.flush()
        slot[PHASE] = PHASE_RUNNING
        return True

    def _seal(
        self,
        sequence: int,
        start: int,
        count: int,
        values: list[Any],
        failures: list[tuple[int, Any]],
        durations: list[int] | None,
        total_ns: int,
        *,
        ended: bool = False,
        unloadable: bool = False,
    ) -> None:
        slot = self._slot
        slot[PHASE] = PHASE_SEALING
        if count:
            if not ended and monotonic_ns() - self._process_reset.tidied_ns > TIDY_NS:
                self._process_reset.tidy()
            slot[DONE] += count
            slot[BUSY] += total_ns
            if self._items_left is not None:
                self._items_left -= count
        if ended:
            if self._watched.comparing:
                # Before the outcomes leave: whoever reads them is told.
                told = self._watched.end_chunk(values)
                if told is not None:
                    self._send(frames.frame(frames.CHANGED, 0, pickle_dumps(told, PROTOCOL)))
            # Before the outcomes leave, for then the program may want to write to a file that its tasks have read.
            self._files.close()
            if at_chunk_end:
                # Not within the deadline of the last item, which is finished.
                slot[STARTED] = monotonic_ns()
                chunk_ends.run()
            if self._used_up():
                self.leaving = True
        flags = (frames.ENDED if ended else 0) | (frames.LEAVING if self.leaving else 0)
        payload = b""
        if count:
            mode, payload = self._results.pack(start, values, failures, durations, merged=self._merges)
            flags |= mode | (frames.UNLOADABLE if unloadable else 0)
        self._put(frames.RECORD.pack(sequence, start, count, flags, total_ns, len(payload)), payload)
        slot[PHASE] = PHASE_RUNNING

    def _put(self, record: bytes, payload: bytes) -> None:
        """Into the outbox if it fits, else straight into the pipe."""
        used, length = self._used, len(record) + len(payload)
        if self._behind is not None and self._behind():
            # The parent may read the outbox at any moment, and what was logged comes first.
            self._send()
        if used + length > OUTBOX_BYTES:
            self.flush()
            used = 0
        if length > OUTBOX_BYTES:
            self._send(frames.HEADER.pack(length, frames.RESULTS, 0) + record, payload)
            return
        self._outbox[used : used + len(record)] = record
        self._outbox[used + len(record) : used + length] = payload
        # Only now does it count: the parent reads no further than this.
        self._used = self._slot[USED] = used + length
        if monotonic_ns() - self._flushed_ns > self._report_ns:
            self.flush()

    def flush(self) -> None:
        """Send what is sealed."""
        used = self._used
        released = self._worker_memory.released() if self._worker_memory is not None else b""
        if self.forked:
            forks.leave()
        if released and not used:
            self._send(released)
        if used:
            self._send(released + frames.HEADER.pack(used, frames.RESULTS, 0) + self._outbox[:used])
            self._used = self._slot[USED] = 0
        self._flushed_ns = monotonic_ns()

    def _rest(self) -> None:
        """Between chunks: send what is sealed. Never later: the next item may take hours."""
        slot = self._slot
        slot[STARTED] = 0
        slot[PHASE] = PHASE_IDLE
        self.flush()
        # After the results are on their way: nobody waits for this.
        self._process_reset.tidy()
        slot[PHASE] = PHASE_OUTPUT
        standard_streams.flush()
        slot[PHASE] = PHASE_IDLE

    def _used_up(self) -> bool:
        if self._items_left is not None and self._items_left <= 0:
            return True
        limit = self._growth_limit
        return limit is not None and resident_bytes() - self._rss_at_start > limit


def resident_bytes() -> int:
    """Resident memory of this process's own; 0 where it cannot be told."""
    return procfs.resident_bytes(os.getpid()) or 0
