"""File systems that only the calling process sees, and that are gone with it."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUSER = 0x0002_0000, 0x1000_0000
MS_RDONLY, MS_REMOUNT, MS_REC, MS_PRIVATE = 1, 32, 1 << 14, 1 << 18


class CannotMountError(Exception):
    """The system does not let this process have a mount of its own."""


def mount_tmpfs(folder: str, options: str) -> None:
    """A file system in memory on top of the folder. Call it before there are threads."""
    enter_namespace()
    call("mount", b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options.encode())


def remount_read_only(folder: str) -> None:
    """What is mounted there can only be read from now on."""
    call("mount", b"none", os.fsencode(folder), None, MS_RDONLY | MS_REMOUNT, None)


def mount_ext4(folder: str, image: Path, megabytes: int) -> None:
    """A small ext4 in a file, on top of the folder; needs root and loop devices."""
    enter_namespace()
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    for command in (["mkfs.ext4", "-q", str(image)], ["mount", "-o", "loop", str(image), folder]):
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise CannotMountError(f"{command[0]}: {error}") from error


def enter_namespace() -> None:
    """Mounts from now on are this process's own."""
    user, group = os.getuid(), os.getgid()
    if user == 0:
        call("unshare", CLONE_NEWNS)
    else:
        call("unshare", CLONE_NEWNS | CLONE_NEWUSER)
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"0 {user} 1"),
            ("gid_map", f"0 {group} 1"),
        ):
            Path("/proc/self", name).write_text(text, encoding="ascii")
    call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)


def call(name: str, *arguments: bytes | int | None) -> None:
    """A function of the C library that answers 0, or fails."""
    library = ctypes.CDLL(None, use_errno=True)
    given = [ctypes.c_ulong(one) if isinstance(one, int) else one for one in arguments]
    if getattr(library, name)(*given) != 0:
        raise CannotMountError(f"{name}: {os.strerror(ctypes.get_errno())}")
