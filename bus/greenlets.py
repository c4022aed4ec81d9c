"""The ground that `lgsp serve` and `lgsp work` stand on: gevent, which lets thousands of slow partners wait at once.

Importing this module patches the standard library, which is why the two programs import it before anything else and
nobody else imports it. The rest of the bus is written for plain threads and does not know.
"""

# ruff: noqa: E402  # the patch comes before every other import, or locks made earlier stay unpatched
from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import gc
from collections.abc import Callable
from typing import Any

import gevent

#: Allocations between two looks for garbage cycles. The hot path makes none; Python's 700 costs some 5 % there.
_GARBAGE_THRESHOLD = 50_000


def in_real_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call where a blocking flush or lock holds up no other greenlet (:class:`bus.store.Apart`)."""
    return gevent.get_hub().threadpool.apply(function, arguments)


def settle_in() -> None:
    """Call once when everything is imported and opened."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_THRESHOLD)
