"""Programs of Debian packages that tests check files with: found, or installed where this process may."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


def program(name: str, package: str, give_up: Callable[[str], NoReturn]) -> str:
    """The path of a program. ``give_up(reason)`` when it is not here and cannot be had. Its service is not started."""
    return shutil.which(name) or _installed(name, package) or give_up(f"{name} is not here (apt install {package})")


def _installed(name: str, package: str) -> str | None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return None
    # One test worker after another: apt takes a lock, and does not wait for it everywhere.
    with (Path(tempfile.gettempdir()) / "lgsp-tests-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (found := shutil.which(name)) is not None:
            return found
        # RUNLEVEL=1 tells the package's scripts that this machine is not starting services now.
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        install = ["-o", "DPkg::Lock::Timeout=300", "install", "-y", "--no-install-recommends", package]
        for command in (["update"], install):
            done = subprocess.run(["apt-get", "-qq", *command], env=quiet, capture_output=True, check=False)
            if done.returncode != 0:
                return None
    return shutil.which(name)
