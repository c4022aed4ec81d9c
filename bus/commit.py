"""Group commit: many callers, one flush to disk, each answered only after the flush that holds its work.

Leader and followers, without a thread or a timer of its own: the first caller that finds nobody committing becomes
the leader and commits everything that is queued; whoever arrives meanwhile waits, and the first of them leads next.
So an idle bus commits at once, and a busy one commits in groups as large as the last flush was slow.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

Work = TypeVar("Work")


class CommitInterrupted(RuntimeError):
    """The process was told to stop in the middle of a commit: nobody in that group may be told that it was written."""


class _Waiter(Generic[Work]):
    __slots__ = ("done", "error", "gate", "result", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.result: Any = None
        #: Stands until the commit says otherwise, so that a killed leader never looks like success.
        self.error: Exception | None = CommitInterrupted()
        self.done = False
        self.gate = threading.Lock()
        self.gate.acquire()


class GroupCommit(Generic[Work]):
    """Hands queued work to ``commit`` in groups. Thread-safe.

    ``commit(works)`` writes all of them in one transaction and returns one result each, in order; an exception object
    as a result is raised to its caller alone. When ``commit`` itself raises, each work is tried alone, so that one
    that cannot be written does not take its neighbours with it; unless it raises one of ``of_all``, which is nobody's
    fault: then all hear of it at once, and nothing is tried again.
    """

    #: Bounds a transaction: its memory, and how long others wait for the writer lock.
    MOST_IN_A_GROUP = 256

    def __init__(
        self, commit: Callable[[Sequence[Work]], Sequence[Any]], of_all: tuple[type[Exception], ...] = ()
    ) -> None:
        self._commit = commit
        self._of_all = of_all
        self._mutex = threading.Lock()
        self._queue: list[_Waiter[Work]] = []
        self._leader: _Waiter[Work] | None = None

    def submit(self, work: Work) -> Any:
        """Write ``work`` and return its result once it is on disk; raises what the commit said of it."""
        waiter = _Waiter(work)
        with self._mutex:
            self._queue.append(waiter)
            if self._leader is None:
                self._appoint()
        try:
            waiter.gate.acquire()  # opened when our group is on disk, or when it is our turn to lead
            if not waiter.done:
                self._lead()
        except BaseException:  # this thread is told to end: nobody may wait for it to lead
            self._withdraw(waiter)
            raise
        if waiter.error is not None:
            raise waiter.error
        return waiter.result

    def _lead(self) -> None:
        with self._mutex:
            group, self._queue = self._queue[: self.MOST_IN_A_GROUP], self._queue[self.MOST_IN_A_GROUP :]
        try:
            self._write(group)
        finally:
            for waiter in group:
                waiter.done = True
                waiter.gate.release()
            with self._mutex:
                self._appoint()

    def _appoint(self) -> None:
        """The first in the queue leads next. Called with the mutex held, when nobody leads or the leader is done."""
        self._leader = self._queue[0] if self._queue else None
        if self._leader is not None:
            self._leader.gate.release()

    def _withdraw(self, waiter: _Waiter[Work]) -> None:
        with self._mutex:
            if waiter in self._queue:
                self._queue.remove(waiter)
            if self._leader is waiter:
                self._appoint()

    def _write(self, group: Sequence[_Waiter[Work]]) -> None:
        try:
            results = self._commit([waiter.work for waiter in group])
        except Exception as error:
            if len(group) == 1 or isinstance(error, self._of_all):
                for waiter in group:
                    waiter.error = error
                return
            for waiter in group:
                self._write([waiter])
            return
        for waiter, result in zip(group, results, strict=True):
            waiter.result = result
            waiter.error = result if isinstance(result, Exception) else None
