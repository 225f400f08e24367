"""`allcores chat`: messages as a table of features; a check of files of chat; what is in a table."""

from __future__ import annotations

from typing import Any

import click

from allcores.cli.output import check_stdout

_HELP = """Messages of chat as a table of features: make it, check files, count what is in them.

Needs the extra nlp: pip install 'allcores[nlp]'.
"""
_PREPROCESS = """Read messages of INPUT, run all stages over them on all cores, and write a row for each.

INPUT is JSON Lines (messages; OpenAI's messages; ShareGPT's conversations; ConvoKit), JSON, CSV, TSV or plain text,
also as .gz, .bz2, .xz or .zst, a pattern, or - for standard input. A message that cannot be read, a stage that fails,
a crash and a deadline are a row whose error says so; the command ends with 0 all the same.

\b
  allcores chat preprocess messages.jsonl -o features.parquet
  allcores chat preprocess 'chat/*.jsonl.gz' -o out.parquet --stages unicode,lang,pii,work.py:shout
  allcores chat preprocess m.csv -o out.jsonl --column text=body --set pii.replace=true --set lang.threshold=0.7

Ctrl-C once finishes what is running; whatever ends it, the same command with --resume goes on.
"""
_VALIDATE = """Check files of chat: name each fault with file:line, conversation, turn, rule, and a fix.

Exit code 1 if there are errors, 0 if there are none or only warnings.
"""
_CONVERT = """Write conversations of INPUT in another form: OpenAI's messages, ShareGPT's conversations, or ChatML.

INPUT is JSON Lines or JSON, and may mix these forms. What ShareGPT has no place for stands beside its turns under
OpenAI's name for it, so the way there and back changes nothing; with --plain, and in ChatML, what is left out is told.
A line that is no conversation is named, and the others are written: then the exit code is 1.

\b
  allcores chat convert train.jsonl -o sharegpt.jsonl --to sharegpt
  allcores chat convert sharegpt.jsonl -o train.jsonl --to openai
"""
_STATS = """Count what is in FILE: a table that `chat preprocess` has written, or messages.

Languages, lengths, intents, entities, personal data, duplicates, sentiment, errors by reason. With --page as a page
for the browser, which also names the first rows of each reason.
"""
_COMPARE = """Do the same work over messages of INPUT in several ways, and compare them.

A loop, allcores, and what other libraries offer: spaCy's n_process, the tokenizers' and onnxruntime's own threads,
joblib, datasets.map.

Each way runs in a process of its own, from its imports to the last result, in rounds of shuffled order, and its results
are compared with the loop's. What is not installed is left out, and said. Exit code 1 if allcores' results differ.

\b
  allcores chat compare messages.jsonl
  allcores chat compare messages.jsonl --what lemmas --messages 3000 --picture compare.svg
"""


@click.group("chat", help=_HELP)
def command() -> None:
    """See `_HELP`."""


_format = click.option(
    "--format", type=click.Choice(["jsonl", "json", "csv", "tsv", "text"]), help="Of INPUT; default: by suffix."
)
_column = click.option(
    "--column", "names", metavar="FIELD=NAME", multiple=True, help="Where INPUT has text, id, speaker ...; repeatable."
)
_page = click.option("--page", metavar="FILE", help="Also write a page with what is in the table, as HTML.")
_json = click.option("--json", "as_machine", is_flag=True, help="Print JSON on standard output.")


@command.command("preprocess", help=_PREPROCESS, context_settings={"max_content_width": 110})
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="OUT", required=True, help="File to (over)write: .parquet or .jsonl.")
@click.option("--stages", metavar="A,B,C", help="Stages, in order; also work.py:name. See allcores chat stages.")
@click.option("--config", metavar="FILE", help="TOML: stages, and a table of options for each.")
@click.option(
    "--set", "settings", metavar="STAGE.OPTION=VALUE", multiple=True, help="An option of a stage; repeatable."
)
@_format
@_column
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Default: the core budget.")
@click.option("--batch", type=click.IntRange(min=1), default=32, show_default=True, help="Messages that models get.")
@click.option("--timeout", type=float, metavar="SECONDS", help="For each message; one that takes longer is an error.")
@click.option(
    "--backend",
    metavar="NAME",
    default="processes",
    show_default=True,
    help="processes, threads, serial, or interpreters (Python 3.14 and later); or nodes of a cluster:"
    " dask://HOST:PORT, ray://HOST:PORT, ray.",
)
@click.option("--start-method", type=click.Choice(["template", "fork", "spawn", "forkserver"]), help="Of processes.")
@click.option("--journal/--no-journal", default=True, help="Remember what is done, to be resumed (default).")
@click.option("--explain", is_flag=True, help="Print what would run, and how embeddings would use the cores; then end.")
@click.option("--resume", is_flag=True, help="Go on with the latest run that wrote to OUT; begin one if there is none.")
@click.option("--accept-changes", is_flag=True, help="With --resume, go on although stages or input have changed.")
@click.option("--runs-dir", metavar="FOLDER", help="Where runs are kept; default: as allcores runs tells.")
@_page
@_json
@click.option("-q", "--quiet", is_flag=True, help="No live view and no summary.")
def preprocess(**given: Any) -> int:
    """See `_PREPROCESS`."""
    if given["as_machine"]:
        check_stdout()
    from allcores.cli.chat_run import preprocess

    return preprocess(**given)


@command.command("validate", help=_VALIDATE, context_settings={"max_content_width": 110})
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@_format
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="For large files; default: the core budget.")
@_json
def validate(**given: Any) -> int:
    """See `_VALIDATE`."""
    check_stdout()
    from allcores.cli.chat_run import validate

    return validate(**given)


@command.command("convert", help=_CONVERT, context_settings={"max_content_width": 110})
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="OUT", required=True, help="File to (over)write: .jsonl.")
@click.option("--to", type=click.Choice(["openai", "sharegpt", "chatml"]), required=True, help="The form of OUT.")
@click.option("--plain", is_flag=True, help="Of ShareGPT: turns have from and value, and nothing beside.")
@_format
@_json
def convert(**given: Any) -> int:
    """See `_CONVERT`."""
    if given["as_machine"]:
        check_stdout()
    from allcores.cli.chat_convert import convert_files

    return convert_files(**given)


@command.command("stats", help=_STATS, context_settings={"max_content_width": 110})
@click.argument("file")
@_format
@_page
@_json
def stats(**given: Any) -> int:
    """See `_STATS`."""
    check_stdout()
    from allcores.cli.chat_run import stats

    return stats(**given)


@command.command("compare", help=_COMPARE, context_settings={"max_content_width": 110})
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option(
    "--what", metavar="A,B", default="lemmas,tokens,text,ids,embedding", show_default=True, help="What to compare."
)
@click.option("--messages", type=click.IntRange(min=1), default=2_000, show_default=True, help="The first so many.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="How often each way runs.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Default: the core budget.")
@click.option("--picture", metavar="FILE", help="Also draw it, as SVG.")
@_format
@_column
@_json
def compare(**given: Any) -> int:
    """See `_COMPARE`."""
    check_stdout()
    from allcores.cli.chat_compare import compare

    return compare(**given)


@command.command("stages")
@click.option("--stages", metavar="A,B,C", help="These; default: all that allcores brings.")
@click.option("--config", metavar="FILE", help="TOML: stages, and a table of options for each.")
def stages(**given: Any) -> int:
    """List stages: what each takes and gives, and its options."""
    check_stdout()
    from allcores.cli.chat_run import show_stages

    return show_stages(**given)
