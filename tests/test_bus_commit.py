"""Group commit: leader and followers."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bus.commit import CommitInterrupted, GroupCommit


class Disk:
    """Commits lists of numbers: remembers each group, and may be slow, broken or blocked."""

    def __init__(self) -> None:
        self.groups: list[list[Any]] = []
        self.flushed: set[Any] = set()
        self.may_flush = threading.Event()
        self.may_flush.set()
        self.begun = threading.Event()

    def commit(self, works: Sequence[Any]) -> Sequence[Any]:
        self.begun.set()
        assert self.may_flush.wait(10)
        if "poison" in works:
            raise ValueError("cannot be written")
        if "killed" in works:
            raise SystemExit
        self.groups.append(list(works))
        self.flushed.update(works)
        return [KeyError(work) if work == "refused" else f"{work} written" for work in works]


def test_one_caller_commits_at_once() -> None:
    disk = Disk()
    assert GroupCommit(disk.commit).submit(1) == "1 written"
    assert disk.groups == [[1]]


def test_many_threads_share_few_transactions_and_each_gets_its_own_answer_after_its_flush() -> None:
    disk = Disk()
    commits: GroupCommit[int] = GroupCommit(disk.commit)

    def submit(number: int) -> bool:
        answer = commits.submit(number)
        return answer == f"{number} written" and number in disk.flushed

    disk.may_flush.clear()
    with ThreadPoolExecutor(33) as pool:
        first = pool.submit(submit, 0)
        assert disk.begun.wait(10)
        others = [pool.submit(submit, number) for number in range(1, 33)]
        while len(commits._queue) < 32:
            time.sleep(0.001)
        assert not any(future.done() for future in [first, *others]), "nobody is answered before the flush"
        disk.may_flush.set()
        assert all(future.result(10) for future in [first, *others])
    assert [len(group) for group in disk.groups] == [1, 32]


def test_a_group_has_an_upper_bound() -> None:
    disk = Disk()
    commits: GroupCommit[int] = GroupCommit(disk.commit)
    commits.MOST_IN_A_GROUP = 10
    disk.may_flush.clear()
    with ThreadPoolExecutor(26) as pool:
        futures = [pool.submit(commits.submit, 0)]
        assert disk.begun.wait(10)
        futures += [pool.submit(commits.submit, number) for number in range(1, 26)]
        while len(commits._queue) < 25:
            time.sleep(0.001)
        disk.may_flush.set()
        for future in futures:
            future.result(10)
    assert [len(group) for group in disk.groups] == [1, 10, 10, 5]


def _together(disk: Disk, works: Sequence[Any]) -> list[Any]:
    """The answers to works that are committed in one group."""
    commits: GroupCommit[Any] = GroupCommit(disk.commit)
    disk.may_flush.clear()
    with ThreadPoolExecutor(len(works) + 1) as pool:
        first = pool.submit(commits.submit, "first")
        assert disk.begun.wait(10)
        futures = []
        for number, work in enumerate(works, 1):  # one by one, so that their order is known
            futures.append(pool.submit(commits.submit, work))
            while len(commits._queue) < number:
                time.sleep(0.001)
        disk.may_flush.set()
        first.result(10)
        answers = [future.exception(10) or future.result() for future in futures]
        assert commits.submit("afterwards") == "afterwards written", "somebody leads again"
    return answers


def test_a_poisonous_work_fails_alone() -> None:
    answers = _together(Disk(), ["a", "poison", "b"])
    assert answers[0] == "a written"
    assert answers[2] == "b written"
    assert isinstance(answers[1], ValueError)


def test_an_answer_that_is_an_exception_goes_to_its_caller_alone() -> None:
    answers = _together(Disk(), ["a", "refused"])
    assert answers[0] == "a written"
    assert isinstance(answers[1], KeyError)


def test_a_killed_leader_never_looks_like_success() -> None:
    disk = Disk()
    answers = _together(disk, ["killed", "follower"])
    assert isinstance(answers[0], SystemExit)
    assert isinstance(answers[1], CommitInterrupted)
    assert "follower" not in disk.flushed


def test_a_leader_that_ends_before_it_commits_passes_the_lead_on(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk()
    commits: GroupCommit[Any] = GroupCommit(disk.commit)

    def told_to_end() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commits, "_lead", told_to_end)
    with pytest.raises(KeyboardInterrupt):
        commits.submit("never")
    monkeypatch.undo()
    assert commits.submit(1) == "1 written"
    assert disk.groups == [[1]], "what nobody waits for any more is not written"
