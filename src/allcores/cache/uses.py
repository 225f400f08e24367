"""Which attributes code reads, and which it only counts up."""

from __future__ import annotations

from types import CodeType

#: functions that have an attribute's name as text
_BY_TEXT = frozenset({"getattr", "attrgetter"})


def attributes_used(code: CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the attributes that code reads, and of those that it has in `x.name += y`; functions in it apart.

    What is set alone is in neither. Where code calls `getattr`, all short texts in it count as read.
    """
    import dis  # it takes a while, and few keys need it

    read: set[str] = set()
    counted: set[str] = set()
    before = ""
    stored = {each.argval for each in dis.get_instructions(code) if each.opname == "STORE_ATTR"}
    for each in dis.get_instructions(code):
        if each.opname in ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"):
            # The object is doubled in `x.name += y` alone: it is read from, and then stored into.
            (counted if before == "COPY" and each.argval in stored else read).add(each.argval)
        before = each.opname
    if not _BY_TEXT.isdisjoint(code.co_names):
        read.update(each for each in code.co_consts if type(each) is str and each.isidentifier())
    return frozenset(read), frozenset(counted)
