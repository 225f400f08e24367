"""A pool on a real Dask cluster that takes TLS alone: with its certificates, with others, and with none."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from tests.installed import late
from tests.process.clusters import DaskNodes
from tests.process.waiting import Watcher, wait_full_strength

from allcores import Pool

distributed = late("distributed")
pytestmark = [
    pytest.mark.cluster_client,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl, which makes certificates"),
]


class Secured(NamedTuple):
    """A cluster, and certificates in a folder: NAME.pem and NAME.key each, "own" of the cluster, and "other"."""

    address: str
    folder: Path

    def config(self, name: str, ca: str | None = None) -> dict[str, str]:
        """What Dask's configuration has for a program with these."""
        paths = {"ca-file": f"{ca or name}.pem", "client.cert": f"{name}.pem", "client.key": f"{name}.key"}
        return {f"distributed.comm.tls.{key}": str(self.folder / path) for key, path in paths.items()}


def environment(folder: Path) -> dict[str, str]:
    """Variables that name the certificates of the cluster, for all who take part."""
    found = {"CA_FILE": "own.pem"}
    for role in ("CLIENT", "SCHEDULER", "WORKER"):
        found |= {f"{role}__CERT": "own.pem", f"{role}__KEY": "own.key"}
    return {f"DASK_DISTRIBUTED__COMM__TLS__{name}": str(folder / path) for name, path in found.items()}


def cluster_of(secured: Secured) -> object:
    """What a pool uses of a cluster object."""
    own, key = str(secured.folder / "own.pem"), str(secured.folder / "own.key")
    security: Any = distributed.Security(tls_ca_file=own, tls_client_cert=own, tls_client_key=key)
    return SimpleNamespace(scheduler_address=secured.address, security=security)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("certificates")
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    for name in ("own", "other"):
        files = ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run(
            ["openssl", "req", *kind, "-subj", f"/CN={name}", *files], cwd=folder, check=True, capture_output=True
        )
    with DaskNodes(1, tls=environment(folder)) as nodes:
        secured = Secured(nodes.address, folder)
        # The node's template starts with its first pool, and stays.
        watcher = Watcher()
        with Pool(backend="dask", address=cluster_of(secured), observers=[watcher]) as pool:
            wait_full_strength(pool, watcher)
        yield secured


def double(number: int) -> int:
    return 2 * number


def test_a_cluster_object_has_its_own_certificates(secured: Secured) -> None:
    """As LocalCluster(security=...) has: nothing else names them."""
    assert secured.address.startswith("tls://")
    with Pool(backend="dask", address=cluster_of(secured)) as pool:
        assert pool.map(double, range(50)) == [2 * number for number in range(50)]


def test_the_command_line_takes_certificates_from_the_configuration(secured: Secured, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("".join(f"{number}\n" for number in range(20)))
    command = [sys.executable, "-m", "allcores", "run", "json:loads", "in.txt", "-o", "out.jsonl"]
    command += ["--backend", f"dask://{secured.address}", "--runs-dir", str(tmp_path / "runs")]

    def run(variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, **variables}
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)

    without = run({})
    assert without.returncode != 0
    assert f"address='{secured.address}' needs certificates, and this program has none: set " in without.stderr
    assert "Traceback" not in without.stderr
    done = run(environment(secured.folder))
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == list(range(20))


#: Tells what a pool says for each address and configuration: a client that is refused leaves descriptors open.
REFUSED = """
import json, sys, dask, allcores
from allcores.adapters import dask_cluster
dask_cluster.CONNECT_S = 2.0
for address, config in json.loads(sys.argv[1]):
    with dask.config.set(config):
        try:
            allcores.Pool(backend="dask", address=address)
        except allcores.AllcoresError as error:
            print(json.dumps([type(error).__name__, str(error)]))
"""


def test_whoever_is_not_accepted_hears_why(secured: Secured) -> None:
    """In one sentence, and without a wait for an answer that never comes, also at the program's end."""
    place = secured.address.removeprefix("tls://")
    unread = secured.config("own") | {"distributed.comm.tls.ca-file": str(secured.folder / "none.pem")}
    with DaskNodes(1) as plain:
        asked = [
            (secured.address, secured.config("other")),
            (secured.address, secured.config("own", ca="other")),
            (secured.address, secured.config("other", ca="own")),
            (secured.address, {}),
            (place, {"distributed.comm.default-scheme": "tls"}),
            (secured.address, unread),
            (f"tcp://{place}", secured.config("own") | {"distributed.comm.require-encryption": True}),
            (f"tcp://{place}", secured.config("own")),
            (plain.address.replace("tcp://", "tls://"), secured.config("own")),
        ]
        run = subprocess.run(
            [sys.executable, "-c", REFUSED, json.dumps(asked)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    # Older versions of Dask tell on standard error of how a client ends that did not connect.
    assert "Traceback" not in run.stderr.partition("Exception ignored in")[0]
    told = [json.loads(line) for line in run.stdout.splitlines()]
    # Another one's CA; another CA here alone; a certificate that the cluster's CA has not signed.
    for kind, text in told[:3]:
        assert kind == "BrokenPool"
        assert text.startswith(f"The Dask scheduler at {secured.address} and this program do not accept each other's ")
        assert "DASK_DISTRIBUTED__COMM__TLS__CA_FILE" in text
    for (kind, text), address in zip(told[3:5], (secured.address, place), strict=True):
        assert kind == "UsageError"
        assert text.startswith(f"address={address!r} needs certificates, and this program has none: set ")
    assert told[5][0] == "UsageError"
    assert "none.pem" in told[5][1] and "cannot be read: " in told[5][1]
    assert told[6][0] == "UsageError" and "give the scheduler's address as tls://HOST:PORT." in told[6][1]
    for (kind, text), address in zip(told[7:], (f"tcp://{place}", asked[8][0]), strict=True):
        assert kind == "BrokenPool"
        assert text.startswith(f"There is no Dask scheduler at {address}: ")
        assert text.endswith("one with TLS has tls://..., and no other.")


@pytest.mark.parametrize(
    "error",
    [
        ssl.SSLError("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)"),
        ValueError("IOStream is not idle; cannot convert to SSL"),
    ],
    ids=["it answers", "it speaks first"],
)
def test_a_scheduler_without_tls_is_none_with_it(error: Exception) -> None:
    """Whichever of the two is quicker; the error itself may be the cause of others."""
    from allcores.adapters.dask_cluster import _no_connection

    outer = OSError(f"Timed out trying to connect ({error})")
    outer.__cause__ = error
    assert _no_connection("tls://there:8786", outer).startswith("There is no Dask scheduler at tls://there:8786: ")
