"""Pages of jobs by key: each is as quick as the first, however many jobs there are.

Indexes give the newest jobs of a state, a task, or a tag. What they do not know (text, times, several conditions with a
tag) is looked for in what they give, portion by portion, until the page is full or time is up; the page says how many
were looked at, and the next page goes on from there.
"""

from __future__ import annotations

import heapq
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Column, Connection, and_, func, or_, select, true
from sqlalchemy.sql import ColumnElement

from allcores.jobs import schema
from allcores.jobs.errors import BadJob
from allcores.jobs.model import Job, JobFilter, JobPage, State
from allcores.jobs.reading import among, jobs_where
from allcores.jobs.rows import half_of_pair, shown
from allcores.jobs.secret_values import shown_json

#: seconds for which jobs are looked at for what no index knows: for a text, and for the rest
SEARCH_S, LOOK_S = 0.25, 0.02
#: jobs of a page at most
MOST = 1_000
#: jobs that are looked at in one step: the first, and at most
_STEP, _LAST_STEP = 250, 4_000
#: the same for a text, which may be looked for in megabytes of each: the fewest, and seconds that a step is to take
_FEWEST, _STEP_S = 4, 0.02
#: jobs around a time that are looked at for those whose clock was set back
_MARGIN = 1_000
_jobs = schema.jobs
#: where a text is looked for: what each user of a console sees, and what may have secrets
_OPEN = (_jobs.c.id, _jobs.c.task, _jobs.c.key, _jobs.c.note, _jobs.c.error)
_WITH_SECRETS = (_jobs.c.arguments, _jobs.c.result)
_JSON = frozenset({"arguments", "error", "result"})


def checked(wanted: JobFilter) -> JobFilter:
    """The same filter, its states as they are meant: a list of words will do.

    Raises:
        BadJob: It is none, or a condition makes no sense.
    """
    if not isinstance(wanted, JobFilter):
        raise BadJob(f"jobs are chosen by a JobFilter, not by {shown(wanted)}")
    states: object = wanted.states
    if not isinstance(states, tuple | list | set | frozenset):
        raise BadJob(f"the filter's states are a tuple of states, as in ('failed',), not {shown(states)}")
    for state in states:
        if state not in tuple(State):
            raise BadJob(f"there is no state {shown(state)}: the states are {', '.join(State)}")
    if wanted.hidden is not None and not isinstance(wanted.hidden, re.Pattern):
        raise BadJob(f"the filter's hidden is a pattern, as of re.compile, not {shown(wanted.hidden)}")
    for name in ("task", "tag", "text"):
        value = getattr(wanted, name)
        if value is not None and (not isinstance(value, str) or len(value) > 500 or "\0" in value):
            raise BadJob(f"the filter's {name} is a text of at most 500 characters")
        if value is not None and half_of_pair(value) is not None:
            raise BadJob(f"the filter's {name} is no text: {value!r} has half of a surrogate pair")
    for name in ("since", "until"):
        value = getattr(wanted, name)
        # Larger ones are no times, and whole numbers no database can compare.
        if value is not None and not (type(value) in (int, float) and abs(value) <= 2**53):
            raise BadJob(f"the filter's {name} is a time in seconds since 1970, not {shown(value)}")
    return replace(wanted, states=tuple(State(state) for state in states))


class Walk:
    """The jobs of a filter, by their numbers, in one direction.

    Args:
        connection: In a transaction that reads.
        dialect: "sqlite" or "postgresql".
        wanted: Which jobs.
        older: From the newest on; False: from the oldest.
    """

    def __init__(self, connection: Connection, dialect: str, wanted: JobFilter, *, older: bool = True) -> None:
        self.connection = connection
        self.dialect = dialect
        self.wanted = checked(wanted)
        self.older = older
        self._first, self._last = self._bounds()
        self.rest = self._rest()
        #: what the database finds is looked through once more, without what is hidden
        self._hidden = self.wanted.hidden if self.wanted.text else None

    def _bounds(self) -> tuple[int, int]:
        """Numbers of the first and last job that can be meant: what was submitted between two times."""
        first, last = 1, 2**62
        created = _jobs.c.created
        if self.wanted.since is not None:
            near = select(_jobs.c.seq).where(created >= self.wanted.since).order_by(created).limit(_MARGIN)
            first = self.connection.execute(select(func.min(near.subquery().c.seq))).scalar() or 2**62
        if self.wanted.until is not None:
            near = select(_jobs.c.seq).where(created < self.wanted.until).order_by(created.desc()).limit(_MARGIN)
            last = self.connection.execute(select(func.max(near.subquery().c.seq))).scalar() or 0
        return first, last

    def _rest(self) -> ColumnElement[bool] | None:
        """What no index knows."""
        wanted = self.wanted
        conditions: list[ColumnElement[bool]] = []
        if wanted.tag is not None:
            if wanted.states:
                conditions.append(_jobs.c.state.in_([state.value for state in wanted.states]))
            if wanted.task is not None:
                conditions.append(_jobs.c.task == wanted.task)
        if wanted.since is not None:
            conditions.append(_jobs.c.created >= wanted.since)
        if wanted.until is not None:
            conditions.append(_jobs.c.created < wanted.until)
        if wanted.text:
            conditions.append(self._contains(wanted.text))
        return and_(true(), *conditions) if conditions else None

    def _contains(self, words: str) -> ColumnElement[bool]:
        return or_(_found(words, _OPEN), _found(words, _WITH_SECRETS))

    def numbers(self, beyond: int | None, limit: int) -> list[int]:
        """The next jobs that an index gives, beyond a number."""
        wanted = self.wanted
        if wanted.tag is not None:
            table = schema.job_tags
            return self._one_order(table.c.seq, beyond, limit, table.c.tag == wanted.tag)
        orders = [
            self._one_order(
                _jobs.c.seq,
                beyond,
                limit,
                *([_jobs.c.state == state] if state is not None else []),
                *([_jobs.c.task == wanted.task] if wanted.task is not None else []),
            )
            for state in self._states()
        ]
        return orders[0] if len(orders) == 1 else list(heapq.merge(*orders, reverse=self.older))[:limit]

    def steps(self, beyond: int | None, first: int, most: int) -> Iterator[tuple[list[int], bool]]:
        """What `numbers` gives, some at a time, and whether there are no more; they are looked at before the next ones.

        Args:
            beyond: A number, as of `numbers`.
            first: How many at first; for a text few, and as many as take some milliseconds then.
            most: How many at last.
        """
        step = min(_FEWEST, first) if self.wanted.text else first
        while True:
            begun = time.monotonic()
            # One more shows whether there are more.
            seqs = self.numbers(beyond, step + 1)
            is_last = len(seqs) <= step
            seqs = seqs[:step]
            yield seqs, is_last
            if is_last:
                return
            beyond = seqs[-1]
            took = time.monotonic() - begun
            if took < _STEP_S:
                step = min(step * (4 if took < _STEP_S / 4 else 1), most)
            elif self.wanted.text:
                step = max(step // 4, min(_FEWEST, first))

    def _states(self) -> Sequence[str | None]:
        if self.wanted.states:
            return list(dict.fromkeys(state.value for state in self.wanted.states))
        # The index by task goes by state: each gives its newest.
        return [None] if self.wanted.task is None else [state.value for state in State]

    def _one_order(self, seq: Any, beyond: int | None, limit: int, *conditions: ColumnElement[bool]) -> list[int]:
        first, last = self._first, self._last
        if beyond is not None:
            first, last = (first, min(last, beyond - 1)) if self.older else (max(first, beyond + 1), last)
        if first > last:
            return []
        order = seq.desc() if self.older else seq
        statement = select(seq).where(seq >= first, seq <= last, *conditions).order_by(order).limit(limit)
        return list(self.connection.execute(statement).scalars())

    def jobs(self, seqs: Sequence[int], limit: int) -> list[Job]:
        """Those of these jobs that fit all conditions."""
        if not seqs:
            return []
        if self._hidden is not None:
            # Here, and not in what the database is asked: of the first ones that it finds, all may have to go.
            seqs = sorted(self.matching(seqs), reverse=self.older)[:limit]
        condition: ColumnElement[bool] = _jobs.c.seq.in_(among(self.dialect, list(seqs)))
        if self.rest is not None:
            condition = and_(condition, self.rest)
        return jobs_where(self.connection, condition, _jobs.c.seq.desc() if self.older else _jobs.c.seq, limit=limit)

    def matching(self, seqs: Sequence[int], *more: ColumnElement[bool]) -> list[int]:
        """Numbers of those of these jobs that fit all conditions, and some more."""
        if not seqs:
            return []
        conditions: list[ColumnElement[bool]] = [_jobs.c.seq.in_(among(self.dialect, list(seqs))), *more]
        if self.rest is not None:
            conditions.append(self.rest)
        if self._hidden is None:
            return list(self.connection.execute(select(_jobs.c.seq).where(*conditions)).scalars())
        assert self.wanted.text is not None
        statement = select(_jobs.c.seq, _found(self.wanted.text, _OPEN), *_WITH_SECRETS).where(*conditions)
        rows = self.connection.execute(statement)
        return [seq for seq, found, *texts in rows if found or any(map(self._is_shown_in, texts))]

    def _is_shown_in(self, text: str | None) -> bool:
        """Whether a JSON text has the words of the filter where they are not hidden."""
        assert self._hidden is not None and self.wanted.text is not None
        shown = shown_json(text, self._hidden).lower()
        return any(words.lower() in shown for words in _as_json_and_plain(self.wanted.text))


def _found(words: str, columns: Sequence[Column[Any]]) -> ColumnElement[bool]:
    return or_(
        *(
            column.ilike(f"%{_escaped(each)}%", escape="!")
            for column in columns
            for each in (_as_json_and_plain(words) if column.name in _JSON else (words,))
        )
    )


def _as_json_and_plain(words: str) -> list[str]:
    """What is JSON has its text as JSON writes it."""
    return list(dict.fromkeys((json.dumps(words)[1:-1], words)))


def _escaped(words: str) -> str:
    return words.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def page(
    connection: Connection,
    dialect: str,
    wanted: JobFilter,
    *,
    after: int | None = None,
    before: int | None = None,
    limit: int = 50,
    seconds: float | None = None,
) -> JobPage:
    """Jobs, newest first: the ones after a number in that order, or the ones before it.

    Raises:
        BadJob: For a filter or limits that make no sense.
    """
    if not isinstance(limit, int) or not 1 <= limit <= MOST:
        raise BadJob(f"a page has from 1 to {MOST:,} jobs, not {shown(limit)}")
    if after is not None and before is not None:
        raise BadJob("a page is after a job or before one, not both")
    for number in (after, before):
        if number is not None and not isinstance(number, int):
            raise BadJob(f"a page begins at the number of a job, not at {shown(number)}")
    older = before is None
    walk = Walk(connection, dialect, wanted, older=older)
    found: list[Job] = []
    start = beyond = after if older else before
    searched, searched_all = 0, True
    if walk.rest is None:
        found = walk.jobs(walk.numbers(beyond, limit + 1), limit + 1)
        if found:
            beyond = found[min(limit, len(found)) - 1].seq
    else:
        if seconds is None:
            seconds = SEARCH_S if wanted.text else LOOK_S
        end = time.monotonic() + seconds
        for seqs, is_last in walk.steps(beyond, _STEP, _LAST_STEP):
            found += walk.jobs(seqs, limit + 1 - len(found))
            if len(found) > limit:
                searched += sum(1 for seq in seqs if (seq >= found[-1].seq if older else seq <= found[-1].seq))
                break
            searched += len(seqs)
            if is_last:
                break
            beyond = seqs[-1]
            if time.monotonic() > end:
                searched_all = False
                break
    return _made(found, limit, older, start, beyond, searched, searched_all)


def _made(
    found: list[Job], limit: int, older: bool, start: int | None, beyond: int | None, searched: int, searched_all: bool
) -> JobPage:
    more = len(found) > limit or not searched_all
    jobs = found[:limit]
    if len(found) > limit:
        beyond = jobs[-1].seq
    # From a page on which nothing is, the way back leads to the job that the way there began behind, too.
    if older:
        newer = None if start is None else (jobs[0].seq if jobs else start - 1)
        return JobPage(tuple(jobs), beyond if more else None, newer, searched, searched_all)
    jobs.reverse()
    last = jobs[-1].seq if jobs else None if start is None else start + 1
    return JobPage(tuple(jobs), last, beyond if more else None, searched, searched_all)
