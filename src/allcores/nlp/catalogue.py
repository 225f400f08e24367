"""Stages by name: those that allcores brings, and those of the user's modules."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

from allcores.errors import UsageError
from allcores.nlp.records import ERROR, READ_FIELDS, Field
from allcores.nlp.stage import Stage, listed
from allcores.nlp.stages.annotation import LEMMAS
from allcores.nlp.stages.conversations import CONVERSATION
from allcores.nlp.stages.duplicates import DUPLICATES
from allcores.nlp.stages.embeddings import EMBEDDING
from allcores.nlp.stages.intent import INTENT
from allcores.nlp.stages.language import LANG
from allcores.nlp.stages.pii import PII
from allcores.nlp.stages.presidio import PRESIDIO
from allcores.nlp.stages.sentence_transformers import SENTENCE_TRANSFORMERS
from allcores.nlp.stages.sentiment import SENTIMENT
from allcores.nlp.stages.token_ids import IDS
from allcores.nlp.stages.tokens import TOKENS
from allcores.nlp.stages.unicode_text import UNICODE
from allcores.system import caller

#: all that there are, in the order in which they make sense
STAGES: Mapping[str, Stage] = {
    stage.name: stage
    for stage in (
        UNICODE, LANG, PII, PRESIDIO, TOKENS, IDS, LEMMAS, SENTIMENT, INTENT, EMBEDDING, SENTENCE_TRANSFORMERS,
        DUPLICATES, CONVERSATION,
    )
}  # fmt: skip
#: stages that take the place of another
INSTEAD: Mapping[str, str] = {"presidio": "pii", "sentence-transformers": "embedding"}
#: what runs where nothing is chosen: all that the extra `nlp` is enough for
DEFAULT: tuple[str, ...] = tuple(name for name in STAGES if name not in ("ids", "embedding", *INSTEAD))


def _fills_all(stage: Stage) -> bool:
    """Whether all that a stage gives is filled in order: it does nothing in workers, or only what begins with _."""
    return (stage.each is None and stage.batch is None) or stage.in_order is DUPLICATES.in_order


#: fields of these types have parts of the text, or places in it
_PARTS = ("list<string>", "list<int32>", "spans", "ranges")


def chosen(
    names: Iterable[str | Stage] | None,
    options: Mapping[str, Mapping[str, Any]],
    find: Callable[[str], Any] | None = None,
    spared: Container[str] = (),
) -> tuple[Stage, ...]:
    """The stages of a pipeline, in order, with their options.

    Args:
        names: Names of `STAGES`, stages, or names that `find` knows, or a text of them with commas; None: `DEFAULT`.
        options: By stage's name; of one that is not chosen, a warning says that they do nothing.
        find: Gives the stage for a name with a colon, `work.py:shout`.
        spared: Stages that were left out on purpose: no warning that their options do nothing.

    Raises:
        UsageError: For a stage that there is not, one twice or beside what it stands for, an order in which one has
            nothing to do, or an option that it does not have.
    """
    if not isinstance(options, Mapping):
        raise UsageError(f"options={options!r} must be by the names of stages: {{'pii': {{'replace': True}}}}")
    found: dict[str, Stage] = {}
    for name in DEFAULT if names is None else listed(names):
        stage = name if isinstance(name, Stage) else _named(name, find)
        if stage.name in found:
            raise UsageError(f"the stage {stage.name!r} is there twice: give one of them another name")
        found[stage.name] = stage
    for name, other in INSTEAD.items():
        if name in found and other in found:
            raise UsageError(f"the stage {name!r} is there in the place of {other!r}: leave one of them out")
    for name, given in options.items():
        if not isinstance(given, Mapping):
            raise UsageError(f"the options of the stage {name!r} are {given!r}; write them by name: {{'name': value}}")
        if name not in found and name not in STAGES:
            raise UsageError(f"there are options for a stage {name!r}, which there is not: {_known()}")
    stages = tuple(stage.with_options(options.get(name, {})) for name, stage in found.items())
    _check_order(stages)
    for name, given in options.items():
        if given and name not in found and name not in spared:
            caller.warn(
                f"the options of the stage {name!r} do nothing, for it is not among the stages: {', '.join(found)}"
            )
    return stages


def _check_order(stages: Sequence[Stage]) -> None:
    """Raise UsageError if a stage stands before what it needs, or before what is to take personal data out.

    A row without what a stage takes is passed over: it would be all of them, without a word.
    """
    there = {field.name for field in READ_FIELDS}
    if "unicode" not in (stage.name for stage in stages):
        there.add("text_norm")  # it is the text then
    #: what is known once all messages were seen, and by which stage
    late: dict[str, str] = {}
    for place, stage in enumerate(stages):
        for name in stage.takes:
            if name in there:
                continue
            if name in late:
                raise UsageError(
                    f"the stage {stage.name!r} takes {name}, which {late[name]!r} fills behind all stages, when the"
                    " messages are seen in order: go on with the rows instead"
                )
            for later in stages[place + 1 :]:
                if name in (field.name for field in later.fields) and name not in later.takes:
                    raise UsageError(
                        f"the stage {stage.name!r} takes {name}, which {later.name!r} gives behind it: put"
                        f" {later.name!r} before {stage.name!r}"
                    )
        if stage.in_order is not None and _fills_all(stage):
            late.update((field.name, stage.name) for field in stage.fields)
        else:
            there.update(field.name for field in stage.fields)
        if stage.withholds is not None and stage.withholds(stage.options):
            own = {field.name for field in stage.fields}
            for earlier in stages[:place]:
                for field in earlier.fields:
                    if field.type in _PARTS and field.name not in own:
                        raise UsageError(
                            f"the stage {earlier.name!r} stands before {stage.name!r}, which is to leave no personal"
                            f" data in the row, and {field.name} would have it: put {earlier.name!r} behind"
                            f" {stage.name!r}"
                        )


def check_takes(stages: Sequence[Stage]) -> None:
    """Raise UsageError if a stage takes a field that messages do not have, and no stage before it gives.

    A row that was made before may have it; a message has only what readers give.
    """
    there = {field.name for field in READ_FIELDS}
    if "unicode" not in (stage.name for stage in stages):
        there.add("text_norm")
    for stage in stages:
        for name in stage.takes:
            if name not in there:
                giving = [each.name for each in STAGES.values() if name in (field.name for field in each.fields)]
                own = [each.name for each in stages if each.name in giving]
                hint = (
                    f"let your {own[0]!r} give it" if own
                    else f"put {giving[0]!r} before it" if giving
                    else "name one of the fields that there are"
                )  # fmt: skip
                raise UsageError(
                    f"the stage {stage.name!r} takes {name}, which no stage before it gives, so it would pass over all"
                    f" messages: {hint}"
                )
        there.update(field.name for field in stage.fields)


def _named(name: str, find: Callable[[str], Any] | None) -> Stage:
    if name in STAGES:
        return STAGES[name]
    if find is None or ":" not in name:
        raise UsageError(f"there is no stage {name!r}: {_known()}")
    stage = find(name)
    if not isinstance(stage, Stage):
        raise UsageError(f'{name} is no stage: write `name = nlp.Stage("name", each=function, gives={{...}})`')
    return stage


def _known() -> str:
    return f"there are {', '.join(STAGES)}, and package.module:name or path/to/file.py:name of your own"


def columns(stages: Sequence[Stage]) -> tuple[Field, ...]:
    """The columns of an output: those of readers, of all stages that there are, of the user's, and the error.

    Stages that are left out have theirs, too, without values: so outputs of different choices fit one another.

    Raises:
        UsageError: If two stages give a field of one name with different types.
    """
    found: dict[str, Field] = {}
    for field in (*READ_FIELDS, *(field for stage in (*STAGES.values(), *stages) for field in stage.fields)):
        known = found.setdefault(field.name, field)
        if known.type != field.type:
            raise UsageError(f"the field {field.name!r} is {known.type} in one stage and {field.type} in another")
    if ERROR.name in found:
        raise UsageError("no stage can give a field 'error': raise an exception, and it stands there")
    return (*found.values(), ERROR)
