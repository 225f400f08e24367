"""Workers of a chat pipeline: models once, one thread each, no torch, and what a kill leaves is gone on with."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from tests.installed import needed
from tests.process.scripts import PATHS, Ended
from tests.process.waiting import PATIENCE_S
from tests.process.warm import Interpreter

from allcores import nlp
from allcores.nlp.catalogue import INSTEAD, STAGES

needed("spacy")

MESSAGES: list[dict[str, Any]] = [
    {"id": str(number), "text": f"Hello Bob, message {number} is for you in Paris. I love it, thanks!"}
    for number in range(40)
]


def loading(path: str) -> str:
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\n")
    return path


def facts(path: str, record: dict[str, Any]) -> dict[str, Any]:
    return {"threads": len(os.listdir("/proc/self/task")), "pid": os.getpid(), "torch": "torch" in sys.modules}


FACTS = nlp.Stage(
    "facts", each=facts, gives={"threads": "int32", "pid": "int32", "torch": "bool"}, load=loading, options={"path": ""}
)


def test_models_are_loaded_once_and_start_no_threads(tmp_path: Path) -> None:
    """A library that left a thread behind would make each worker load all models for itself; the pool would warn."""
    path = tmp_path / "loaded"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        stages = [name for name in STAGES if name not in INSTEAD]
        pipeline = nlp.chat_pipeline([*stages, FACTS], options={"facts": {"path": str(path)}})
        rows = list(pipeline.imap(MESSAGES, workers=2, batch=4))
    assert [str(each.message) for each in caught] == []
    assert len(path.read_text().splitlines()) == 1
    assert {row["threads"] for row in rows} <= {1, 2}, "a worker's own, and one that looks after it"
    assert len({row["pid"] for row in rows}) == 2 and not any(row["torch"] for row in rows)
    assert all(len(row["embedding"]) == 384 and row["input_ids"] and row["error"] is None for row in rows)


@functools.cache
def serial_rows() -> list[dict[str, Any]]:
    return list(nlp.chat_pipeline(SEVERAL).imap(MESSAGES, backend="serial"))


SEVERAL = ("unicode", "lang", "tokens", "lemmas", "sentiment", "ids")


@pytest.mark.parametrize(
    "how",
    [
        {"backend": "threads", "workers": 2},
        {"start_method": "fork", "workers": 2},
        # Each worker loads all models for itself, in seconds: that makes one differ from here, not from another.
        {"start_method": "spawn", "workers": 1},
    ],
    ids=str,
)
def test_rows_do_not_depend_on_where_they_are_made(how: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # spawn has no memory in common, and says so
        found = list(nlp.chat_pipeline(SEVERAL).imap(MESSAGES, **how))
    assert found == serial_rows()


def run(code: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder), *PATHS])
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **environ},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def test_tokenizers_with_threads_of_their_own_do_not_hang_forked_workers(tmp_path: Path) -> None:
    """With this variable a forked child's `encode_batch` never returns once its parent has used it."""
    code = """if True:
        from allcores import nlp
        from allcores.nlp.stages.token_ids import load_tokenizer
        load_tokenizer(None).encode_batch(["a"] * 100)
        messages = [{"text": "Hello world!"}] * 50
        rows = nlp.chat_pipeline(["unicode", "ids"]).imap(messages, workers=2, start_method="fork")
        print([row["input_ids"] for row in rows][-1])
    """
    done = run(code, tmp_path, TOKENIZERS_PARALLELISM="true")
    assert done.stdout == "[101, 7592, 2088, 999, 102]\n", done.stderr


def test_torch_is_not_loaded_into_workers_that_do_not_need_it(tmp_path: Path) -> None:
    """thinc, and scikit-learn, would import it wherever it is installed."""
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text(
        f"open({str(tmp_path / 'imported')!r}, 'w').close()\nraise ImportError('no torch')\n"
    )
    code = """if True:
        from allcores import nlp
        rows = nlp.chat_pipeline(["unicode", "tokens", "lemmas", "intent"]).imap([{"text": "Hello world!"}], workers=1)
        print(next(rows)["lemmas"])
        rows.close()
    """
    done = run(code, tmp_path)
    assert done.stdout == "['hello', 'world', '!']\n", done.stderr
    assert not (tmp_path / "imported").exists()


WORK = """
import os, time
from allcores import nlp

def slow(record):
    if os.environ.get("VICTIM"):
        if record["id"] == "150":
            os.kill(int(os.environ["VICTIM"]), 9)
        time.sleep(0.004)
    return {"length": len(record["text_norm"])}

slow = nlp.Stage("slow", each=slow, gives={"length": "int32"})
"""
PROGRAM = """
import os, sys
if {killed}:
    os.environ["VICTIM"] = str(os.getpid())
from allcores.__main__ import main
sys.exit(main())
"""


def test_a_run_that_was_killed_goes_on_and_writes_the_same_file(warm: Interpreter, tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(WORK)
    messages = [
        {"id": str(number), "text": f"message {number // 2} of all", "conversation_id": str(number % 7)}
        for number in range(300)
    ]
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps(message) + "\n" for message in messages))
    (tmp_path / "killed.py").write_text(PROGRAM.format(killed=True))
    (tmp_path / "left.py").write_text(PROGRAM.format(killed=False))
    stages = "unicode,work.py:slow,pii,duplicates,conversation"

    def command(program: str, output: str, *more: str) -> Ended:
        arguments = ["chat", "preprocess", "chat.jsonl", "-o", output, "--stages", stages, "--batch", "4", *more]
        return warm.script(tmp_path / program, *arguments, folder=tmp_path)

    killed = command("killed.py", "out.parquet", "--workers", "2")
    assert killed.code == -9 and not (tmp_path / "out.parquet").exists()
    resumed = command("left.py", "out.parquet", "--workers", "3", "--resume", "--json")
    assert resumed.code == 0, resumed.err
    assert json.loads(resumed.out)["resumed"] > 0
    whole = command("left.py", "whole.parquet", "--workers", "1", "--no-journal")
    assert whole.code == 0, whole.err
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
