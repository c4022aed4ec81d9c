"""Proofs that count once: where it is remembered that one has been used."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class UseOnce(Protocol):
    """Remembers uses for all processes of the bus. Thread-safe; durable when it returns."""

    def __call__(self, proof: bytes, expires_at: datetime, /) -> bool:
        """Note the use of a proof, by its SHA-256, until it expires; False when it had been used before.

        Raises what its store raises: a use that could not be noted does not count.
        """
        ...
