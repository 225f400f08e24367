"""Chat pipelines on the nodes of a cluster: the same command, and the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.installed import needed
from tests.process.clusters import DaskNodes
from tests.process.warm import Interpreter

from allcores.cli.exits import Exit

needed("distributed", "ftfy", "vaderSentiment", "rensa")
pytestmark = pytest.mark.cluster_client

TOML = """
[[stage]]
filter = "work.py:has_text"
[[stage]]
batch = 4
[[stage]]
map = "work.py:texts"
[[stage]]
unbatch = true
"""
WORK = """
def has_text(row):
    return isinstance(row.get("text"), str)

def texts(rows):
    return [row["text"].upper() for row in rows]
"""


def test_the_same_bytes_on_nodes(warm: Interpreter, tmp_path: Path) -> None:
    """Of a chat pipeline and of a pipeline in a file, neither of which is changed for it.

    The stages are those whose models are small: with spaCy, each node would import for a second.
    """
    (tmp_path / "p.toml").write_text(TOML)
    (tmp_path / "work.py").write_text(WORK)
    rows = [{"id": str(n), "text": f"I love {n % 7}, write to bob{n}@example.com in Berlin!"} for n in range(60)]
    talk = {"messages": [{"role": "user", "content": "Hello there"}, {"role": "assistant"}]}
    lines = [*map(json.dumps, rows), json.dumps(talk), '{"text": 5}']
    (tmp_path / "m.jsonl").write_text("".join(f"{line}\n" for line in lines))
    chat = ("chat", "preprocess", "m.jsonl", "--stages", "unicode,lang,pii,sentiment,duplicates,conversation")
    pipe = ("pipe", "p.toml", "m.jsonl")
    with DaskNodes(2) as nodes:
        cluster = nodes.address.replace("tcp://", "dask://")
        for name, words in (("chat", chat), ("pipe", pipe)):
            told = []
            for kind, backend in (("here", "processes"), ("there", cluster)):
                more = ("-o", f"{name}-{kind}.jsonl", "--backend", backend, "--json", "-q")
                done = warm.run(*words, *more, folder=tmp_path, environ={"ALLCORES_HOME": str(tmp_path / "home")})
                assert done.code == Exit.OK, done.err
                told.append(json.loads(done.out))
            here, there = (tmp_path / f"{name}-{kind}.jsonl" for kind in ("here", "there"))
            assert here.read_bytes() == there.read_bytes() and here.stat().st_size > 1_000
            assert told[1]["workers"] == 2, told[1]


def test_a_backend_that_there_is_not(warm: Interpreter, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"text": "hello"}\n')
    done = warm.run("chat", "preprocess", "m.jsonl", "-o", "o.jsonl", "--backend", "moon", folder=tmp_path)
    assert done.code == Exit.USAGE
    assert "backend='moon' is not one of" in done.err and not (tmp_path / "o.jsonl").exists()
