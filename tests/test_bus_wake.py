"""Taps between processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.wake import WakeListener, WakeSender


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[WakeListener]:
    listener = WakeListener(tmp_path)
    yield listener
    listener.close()


@pytest.fixture
def sender(tmp_path: Path) -> Iterator[WakeSender]:
    sender = WakeSender(tmp_path)
    yield sender
    sender.close()


def test_a_tap_wakes_every_listener_once(tmp_path: Path, listener: WakeListener, sender: WakeSender) -> None:
    other = WakeListener(tmp_path)
    for _ in range(3):
        sender.tap()
    assert (listener.wait(1), other.wait(1)) == (True, True)
    assert (listener.wait(0), other.wait(0)) == (False, False), "all taps so far count as one"
    other.close()


def test_a_listener_waits_no_longer_than_it_says(listener: WakeListener) -> None:
    begun = time.monotonic()
    assert not listener.wait(0.05)
    assert 0.04 < time.monotonic() - begun < 2


def test_a_listener_is_woken_from_its_own_process(listener: WakeListener) -> None:
    timer = threading.Timer(0.05, listener.tap)
    timer.start()
    assert listener.wait(5)
    timer.join()


def test_nobody_listening_is_no_failure(tmp_path: Path) -> None:
    sender = WakeSender(tmp_path / "not-there")
    sender.tap()
    sender.close()


def test_a_listener_that_is_gone_is_forgotten(tmp_path: Path, sender: WakeSender) -> None:
    listener = WakeListener(tmp_path)
    sender.tap()
    listener.close()
    assert list(tmp_path.iterdir()) == []
    sender.tap()
    sender.tap()


def test_a_full_pipe_does_not_block_the_sender(listener: WakeListener, sender: WakeSender) -> None:
    for _ in range(70_000):
        sender.tap()
    listener.tap()
    assert listener.wait(0)


def test_a_new_listener_is_found_within_a_second(tmp_path: Path, sender: WakeSender) -> None:
    sender.tap()  # looks, finds nobody
    listener = WakeListener(tmp_path)
    patience_ends = time.monotonic() + 5
    woken = False
    while not woken and time.monotonic() < patience_ends:
        sender.tap()
        woken = listener.wait(0.05)
    assert woken
    listener.close()


def test_the_pipe_of_a_killed_process_is_cleared_away_and_a_living_ones_is_not(
    tmp_path: Path, sender: WakeSender
) -> None:
    dies_listening = "import os, pathlib, sys; from bus.wake import WakeListener as L; L(pathlib.Path(sys.argv[1])); "
    subprocess.run([sys.executable, "-c", f"{dies_listening} os._exit(9)", str(tmp_path)], check=False)
    (orphan,) = tmp_path.iterdir()
    just_opening = tmp_path / f"{os.getpid()}-just-opening"
    os.mkfifo(just_opening)
    sender.tap()
    assert not orphan.exists()
    assert just_opening.exists()
