"""Which file systems a journal may be on: not those of another machine, whose locks and syncs do not hold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from ...errors import JournalError

__all__ = ["filesystem_type", "refuse_network_filesystem"]

#: Types in the kernel's mount table that keep the files on another machine.
NETWORK_TYPES: Final = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs", "fuse.rclone"}
    | {"fuse.s3fs", "fuse.sshfs", "fuse.curlftpfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2"}
    | {"pvfs2", "smb3", "smbfs", "virtiofs"}
)

_MOUNTS: Final = Path("/proc/self/mountinfo")
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


def refuse_network_filesystem(directory: Path) -> None:
    """Raise :class:`JournalError` if the directory is kept on another machine, as far as the mount table says."""
    kind = filesystem_type(directory)
    if kind in NETWORK_TYPES:
        raise JournalError(
            f"The data directory {directory} is on a network file system ({kind}), where a journal can be damaged: "
            "use a directory on a disk of this machine, or allow it with --allow-network-filesystem."
        )


def filesystem_type(directory: Path, mounts: str | None = None) -> str | None:
    """Return the type of the file system that the directory is on, ``None`` where it cannot be told.

    Parameters:
        mounts: the mount table in the format of ``/proc/self/mountinfo``, which is read by default.
    """
    if mounts is None:
        try:
            mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return None
    where = directory.resolve()
    best: tuple[int, str] | None = None
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        columns, kind = fields.split(" "), rest.partition(" ")[0]
        if len(columns) < 5:
            continue
        point = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), columns[4]))
        # Of two mounts on the same point the later one hides the earlier.
        if where.is_relative_to(point) and (best is None or len(point.parts) >= best[0]):
            best = len(point.parts), kind
    return None if best is None else best[1]
