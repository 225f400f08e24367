"""Nothing asks for a network: all stages run where the kernel ends whoever connects."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.installed import needed
from tests.nlp import offline
from tests.process.scripts import PATHS
from tests.process.waiting import PATIENCE_S

from allcores.nlp.catalogue import INSTEAD, STAGES

needed("spacy", "onnxruntime", "tokenizers", "rensa")


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python without a network, with an empty home: nothing was fetched or made before."""
    home = {"HOME": str(folder), "ALLCORES_HOME": str(folder / "home"), "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, offline.__file__, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(PATHS), **home},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    if done.returncode == 77:
        pytest.skip("this kernel has no seccomp filters")
    return done


@pytest.mark.parametrize("address", ["('127.0.0.1', 9)", "('192.0.2.1', 53)"])
@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
def test_a_program_that_connects_is_ended(tmp_path: Path, address: str, kind: str) -> None:
    code = f"import socket; socket.socket(socket.AF_INET, socket.{kind}).connect({address})"
    done = python(tmp_path, "-c", code)
    assert done.returncode == -signal.SIGSYS


def test_all_stages_run_without_a_network(tmp_path: Path) -> None:
    messages = [
        {"id": str(number), "text": f"Hello Bob, message {number} is for you in Paris: write to a@b.com, thanks!"}
        for number in range(24)
    ]
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps(message) + "\n" for message in messages))
    stages = ",".join(name for name in STAGES if name not in INSTEAD)
    done = python(
        tmp_path, "-m", "allcores", "chat", "preprocess", "chat.jsonl", "-o", "out.jsonl", "--workers", "2",
        "--stages", stages, "--page", "page.html", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["errors"] == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(rows) == len(messages)
    for row in rows:
        assert row["lang"] == "en" and row["lemmas"] and row["intent"] and row["input_ids"]
        assert len(row["embedding"]) == 384 and row["sentiment"] > 0 and row["pii"][0]["type"] == "EMAIL"
