"""The kernel's small text files, and where this process's control groups lie. See system/cores.py for what they say."""

from __future__ import annotations

from collections.abc import Iterator


class KernelFiles:
    """Reads the kernel's small text files below `root`. Missing and unreadable is None, not an error."""

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")

    def text(self, path: str) -> str | None:
        """The stripped content of a file."""
        try:
            with open(self.root + path, encoding="utf-8", errors="surrogateescape") as file:
                return file.read().strip()
        except (OSError, ValueError):
            return None

    def number(self, path: str) -> int | None:
        """A file that holds one whole number; None for "max"."""
        text = self.text(path) or ""
        return int(text) if text.isdecimal() else None

    def table(self, path: str) -> dict[str, str]:
        """A file of lines "name value": first word to the rest."""
        rows = (line.partition(" ") for line in (self.text(path) or "").splitlines())
        return {name: value.strip() for name, _, value in rows}

    def groups(self, controller: str) -> Iterator[tuple[int, str]]:
        """(cgroup version, folder) of this process's group and of each visible one above it."""
        seen = set()
        for version, mount, below in self._places(controller):
            parts = [part for part in below.split("/") if part]
            for depth in range(len(parts), -1, -1):
                folder = "/".join([mount, *parts[:depth]])
                if folder not in seen:
                    seen.add(folder)
                    yield version, folder

    def own_groups(self, controller: str) -> Iterator[tuple[int, str]]:
        """(cgroup version, folder) of the process's own group alone."""
        for version, mount, below in self._places(controller):
            yield version, mount + below

    def _places(self, controller: str) -> Iterator[tuple[int, str, str]]:
        """(cgroup version, mount point, path of our group below it), version 1 first.

        The path in /proc/self/cgroup and the root in mountinfo are both paths in the hierarchy, so
        the group is at mount point + (path less root). In a container without a namespace of its
        own, path and root are both the container's long name, and nothing is left. When the root is
        not above the path (a namespace shows "/../..", or the process was moved), the mount point
        itself is the nearest group that can be read.
        """
        paths = self._group_paths(controller)
        for version in (1, 2):
            path = paths.get(version)
            mounts = self._mounts(version, controller)
            if path is None or not mounts:
                continue
            within = [
                (mount, path if root == "/" else path[len(root) :])
                for mount, root in mounts
                if root == "/" or path == root or path.startswith(root + "/")
            ]
            if not within or "/.." in path:
                within = [(mounts[0][0], "")]
            for mount, below in within:
                yield version, mount, below.rstrip("/")

    def _group_paths(self, controller: str) -> dict[int, str]:
        """From cgroup version to this process's path in that hierarchy, from /proc/self/cgroup."""
        paths = {}
        for line in (self.text("/proc/self/cgroup") or "").splitlines():
            # hierarchy-ID:controller-list:path; version 2 is 0 and has no list
            number, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if number == "0" and not controllers:
                paths[2] = path
            elif controller in controllers.split(","):
                paths[1] = path
        return paths

    def _mounts(self, version: int, controller: str) -> list[tuple[str, str]]:
        """(mount point, root within the hierarchy) of every mount of that hierarchy."""
        mounts = []
        for line in (self.text("/proc/self/mountinfo") or "").splitlines():
            # 36 35 98:0 /root /mount/point options [optional fields ...] - type source options
            place, _, kind = line.partition(" - ")
            fields, what = place.split(" "), kind.split(" ")
            if len(fields) < 5 or len(what) < 3:
                continue
            if version == 2:
                matches = what[0] == "cgroup2"
            else:
                matches = what[0] == "cgroup" and controller in what[2].split(",")
            if matches:
                mounts.append((_unescaped(fields[4]).rstrip("/"), _unescaped(fields[3])))
        return mounts


def _unescaped(path: str) -> str:
    """A path of mountinfo, where space, tab, newline and backslash are written in octal."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, character)
    return path
