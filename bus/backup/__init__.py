"""Backup and restore: one sealed file that holds the whole bus at one moment.

What a file is made of stands in :mod:`bus.backup.container`; how it is sealed in :mod:`security.sealed_stream`.
"""

from __future__ import annotations

from collections.abc import Callable

#: Told what is being done and how much of it: for a person who waits.
Progress = Callable[[str, int], object]


def in_silence(_what: str, _count: int) -> None:
    """Nobody watches."""
