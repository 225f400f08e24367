"""What runs by itself (workflows, commit hooks, .ci/run) calls what exists, on the promised Python versions."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from tests.docs.pages import ROOT

yaml = pytest.importorskip("yaml")

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def jobs() -> list[tuple[str, dict[str, Any]]]:
    """The jobs of all workflows, each with a name for messages."""
    return [
        (f"{path.name}: {name}", job)
        for path in WORKFLOWS
        for name, job in yaml.safe_load(path.read_text())["jobs"].items()
    ]


def commands() -> list[str]:
    """Each line of shell in a workflow."""
    steps = [step for _, job in jobs() for step in job["steps"]]
    return [line for step in steps for line in step.get("run", "").splitlines()]


def hooks() -> list[dict[str, Any]]:
    """The commit hooks that run the project's own tools."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    return [hook for repo in config["repos"] if repo["repo"] == "local" for hook in repo["hooks"]]


def promised() -> list[str]:
    """The Python versions that the package's classifiers name."""
    found = [
        re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", each) for each in PROJECT["project"]["classifiers"]
    ]
    return [each[1] for each in found if each]


def test_workflows_call_what_exists() -> None:
    """Nothing but make targets and scripts of .ci, so that all that a workflow does can be done here, too."""
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
    assert {"make test", "make check", "make docs", "make coverage"} <= set(commands())
    for command in commands():
        if made := re.fullmatch(r"make ([a-z]+)", command):
            assert made[1] in targets, command
        else:
            script = ROOT / command.removeprefix("sudo ").split()[0]
            assert script.parent == ROOT / ".ci" and os.access(script, os.X_OK), command


def test_every_make_target_is_explained() -> None:
    """By `make help`, and it is a command, not a file."""
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE)) - {"help", "clean"}
    phony = re.search(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)
    assert phony and targets | {"help", "clean"} == set(phony[1].split())
    assert targets == set(re.findall(r"@echo \"make ([a-z]+) ", MAKEFILE))


def test_jobs_end_by_themselves() -> None:
    """One that hangs is not kept for the six hours that are the default."""
    assert [name for name, job in jobs() if job.get("timeout-minutes", 360) > 45] == []


def test_promised_versions_are_tested() -> None:
    """The workflow, .ci/run and the classifiers name the same ones, and the oldest is what pip asks for."""
    versions = promised()
    matrices = [
        job["strategy"]["matrix"]["python"]
        for _, job in jobs()
        if "python" in job.get("strategy", {"matrix": {}})["matrix"]
    ]
    assert matrices == [versions]
    assert PROJECT["project"]["requires-python"] == f">={versions[0]}"
    assert PROJECT["tool"]["mypy"]["python_version"] == versions[0]
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{versions[0].replace('.', '')}"
    looped = re.search(r"^for version in (.+); do$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert looped and looped[1].split() == versions


def test_hooks_run_the_tools_of_make_check() -> None:
    """From the project's own environment: `.ci/tool NAME`, which `make check` runs as `python -m NAME`."""
    called = [hook["entry"].split() for hook in hooks()]
    assert {tuple(words[:2]) for words in called} == {(".ci/tool", "ruff"), (".ci/tool", "mypy")}
    assert os.access(ROOT / ".ci" / "tool", os.X_OK)
    for words in called:
        plain = [word for word in words[1:] if not word.startswith("--")]
        assert f"-m {' '.join(plain)}" in MAKEFILE


def test_checks_install_nothing_on_the_machine() -> None:
    """System packages have one place, which only .ci/run and the workflows call."""
    installing = re.compile(r"(^|[&;|]) *(sudo +)?(apt-get|apt|dnf|brew) +(-\S+ +)*(install|update)", re.MULTILINE)
    found = [
        path.name
        for path in [ROOT / "Makefile", *sorted((ROOT / ".ci").iterdir())]
        if installing.search(path.read_text())
    ]
    assert found == ["machine"]
    callers = [
        path.name for path in (ROOT / ".ci").iterdir() if re.search(r"^\.ci/machine", path.read_text(), re.MULTILINE)
    ]
    assert callers == ["run"]
    assert ".ci/machine" not in MAKEFILE


def test_machine_installs_what_is_missing(tmp_path: Path) -> None:
    """With a program of each need on PATH nothing is installed; with none, apt-get is asked for the packages."""
    text = (ROOT / ".ci" / "machine").read_text()
    needs = dict(re.findall(r"^    \"([\w.-]+): (.+?)\"", text, re.MULTILINE))
    assert "chromium" in needs
    for program in ("bash", "env", "cat"):
        (tmp_path / program).symlink_to(shutil.which(program) or "")
    for name, body in {"apt-get": f'echo "$@" >>{tmp_path}/asked', "id": "echo 0"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)

    def prepare() -> str:
        (tmp_path / "asked").write_text("")
        subprocess.run(
            [ROOT / ".ci" / "machine"], env={"PATH": str(tmp_path)}, check=True, timeout=120, stderr=subprocess.DEVNULL
        )
        return (tmp_path / "asked").read_text()

    # Programs at a place of their own may be there: PATH, which is empty here, does not hide them.
    missing = [
        package
        for package, programs in needs.items()
        if not any(program.startswith("/") and Path(program).exists() for program in programs.split())
    ]
    assert "chromium" in missing
    assert prepare().splitlines()[-1] == f"install -y -qq --no-install-recommends {' '.join(missing)}"
    for package in missing:
        name = next(program for program in needs[package].split() if not program.startswith("/"))
        (tmp_path / name).symlink_to(tmp_path / "cat")
    assert prepare() == ""
