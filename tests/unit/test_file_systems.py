"""What a path lies on, as the kernel tells it."""

from __future__ import annotations

import pytest

from allcores.system.file_systems import network_file_system

MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:40 / /srv rw,relatime shared:1 - nfs4 server:/srv rw
31 30 0:41 / /srv/local rw - xfs /dev/vdb rw
32 22 0:42 / /mnt/with\\040blank rw - fuse.sshfs host:/ rw
33 22 0:43 / /mnt/c rw - 9p drvfs rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/anna/jobs.sqlite", None),
        ("/srv/jobs.sqlite", "nfs4"),
        ("/srv", "nfs4"),
        ("/srv2/jobs.sqlite", None),
        ("/srv/local/jobs.sqlite", None),
        ("/mnt/with blank/jobs.sqlite", "fuse.sshfs"),
        ("/mnt/c/jobs.sqlite", "9p"),
    ],
)
def test_the_innermost_mount_says_what_it_is(path: str, kind: str | None) -> None:
    assert network_file_system(path, MOUNTS) == kind


def test_this_machine_is_asked() -> None:
    assert network_file_system("/proc") is None
