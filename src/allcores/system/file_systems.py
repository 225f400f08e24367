"""What a folder lies on: some file systems of networks do not keep the locks that databases need."""

from __future__ import annotations

import os

#: file systems whose files other machines may change, or whose locks are not to be trusted
NETWORK = frozenset(
    (
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "gfs2", "ocfs2", "beegfs",
        "fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "fuse.glusterfs", "fuse.ceph", "fuse.goofys",
        "fuse.juicefs", "fuse.davfs", "drvfs",
    )
)  # fmt: skip
_MOUNTS = "/proc/self/mountinfo"


def network_file_system(path: str, mounts: str | None = None) -> str | None:
    """The kind of a network's file system that a path lies on; None if it lies on another one, or if nobody tells.

    Args:
        path: A file or folder; it need not be there yet.
        mounts: What the kernel says of mounts, as in /proc/self/mountinfo; None: read it there.
    """
    if mounts is None:
        try:
            with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as file:
                mounts = file.read()
        except OSError:
            return None
    path = os.path.realpath(path)
    best, kind = "", ""
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        parts = fields.split(" ")
        if len(parts) < 5 or not rest:
            continue
        place = _unescaped(parts[4])
        inside = path == place or path.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best):  # the last one mounted at a place is what is seen
            best, kind = place, rest.split(" ")[0]
    return kind if kind in NETWORK else None


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
