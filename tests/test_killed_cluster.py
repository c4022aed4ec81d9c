"""Two `serve`, two `work`, one PostgreSQL and three RabbitMQ nodes carry what the bus is for, while one of each is
killed and started again."""

from __future__ import annotations

import json
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from benchmarks import hai_phong
from benchmarks.demo_cluster import KINDS, play
from benchmarks.faults_servers import Servers, Skipped
from benchmarks.hai_phong import Played
from benchmarks.hai_phong_audit import Findings, audit
from benchmarks.hai_phong_facts import HalfYear
from benchmarks.havoc import Havoc, Victim


@pytest.fixture(scope="module")
def servers(missing_service: Callable[[str], NoReturn]) -> Iterator[Servers]:
    with tempfile.TemporaryDirectory(prefix="lgsp-servers-") as folder:
        Path(folder).chmod(0o711)  # PostgreSQL's own user passes through
        yield from _started(Servers(Path(folder)), missing_service)


def _started(servers: Servers, missing_service: Callable[[str], NoReturn]) -> Iterator[Servers]:
    try:
        try:
            servers.variables()
        except Skipped as reason:
            missing_service(str(reason))
        yield servers
    finally:
        servers.stop()


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.timeout(240)
def test_the_story_is_true_while_each_kind_of_process_is_killed(servers: Servers, tmp_path: Path) -> None:
    told: list[str] = []

    havoc = play(tmp_path, servers, told.append)

    assert havoc.has_killed(KINDS), havoc.kills
    assert any(line.startswith("16. ") for line in told)


# ── Hải Phòng ─────────────────────────────────────────────────────────────────────────────────────────────────────────

HALF_YEAR = HalfYear(dossiers_wanted=40, communes_wanted=6, departments_wanted=3)


def _audit(done: Played, **other: Any) -> Findings:
    facts = {"half_year": HALF_YEAR, "sent": done.sent, "arrivals_file": done.arrivals, "most_bundles": 20, **other}
    return audit(done.bus, **facts)


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.timeout(300)
def test_a_short_half_year_is_whole_and_the_audit_sees_what_is_not(servers: Servers, tmp_path: Path) -> None:
    with hai_phong.played(HALF_YEAR, tmp_path, servers, lambda _: None, pause_seconds=0.1) as done:
        found = _audit(done)
        assert (*done.report.complaints, *found.complaints) == ()
        assert done.report.kills.keys() == {"serve", "work", "rabbitmq"}
        assert (found.received, found.returned, found.still_open) == (40, 32, 8)
        assert found.accepted == found.once == 40 + 40 + 32
        assert (found.twice, found.lost, found.dead) == (0, 0, 0)
        assert done.report.procedures == (3, 3, 3)
        done.report.findings = found
        assert "**wrong**" not in hai_phong.write_report(done.report, tmp_path).read_text(encoding="utf-8")
        assert json.loads((tmp_path / "hai-phong.json").read_text(encoding="utf-8"))["whole"] is True
        _assert_the_audit_sees_what_is_wrong(done, tmp_path)


def _assert_the_audit_sees_what_is_wrong(done: Played, folder: Path) -> None:
    """The same half-year with one thing wrong at a time."""
    lines = done.arrivals.read_text("ascii").splitlines()
    at = next(number for number, line in enumerate(lines) if f" effect {done.sent[0].message_id} " in line)
    other = folder / "other-arrivals"

    other.write_text("\n".join([*lines, lines[at]]), "ascii")  # a receiver that forgets a key
    found = _audit(done, arrivals_file=other)
    assert (found.twice, found.lost, found.complaints) == (1, 0, [f"{done.sent[0].message_id}: 2 effects"])

    other.write_text("\n".join(lines[:at] + lines[at + 1 :]), "ascii")
    found = _audit(done, arrivals_file=other)
    assert (found.twice, found.lost, found.complaints[0]) == (0, 1, f"{done.sent[0].message_id}: 0 effects")

    found = _audit(done, sent=done.sent[1:])
    assert any("nobody holds a receipt" in complaint for complaint in found.complaints)
    assert any("was accepted 0 times" in complaint for complaint in found.complaints)

    stranger = replace(done.sent[0], message_id="01a20000-0000-7000-8000-000000000000")
    found = _audit(done, sent=[*done.sent, stranger])
    assert f"{stranger.message_id}: acknowledged and not in the ledger" in found.complaints
    assert f"{stranger.message_id}: its bundle does not verify" in _audit(done, sent=[stranger]).complaints

    forged = replace(done.sent[0], receipt_sha256="0" * 64)
    found = _audit(done, sent=[forged, *done.sent[1:]])
    assert found.complaints == [f"{forged.message_id}: its sender holds another receipt"]

    more = HalfYear(dossiers_wanted=41, communes_wanted=6, departments_wanted=3)
    assert any(complaint.startswith("statistics of ") for complaint in _audit(done, half_year=more).complaints)


def test_the_half_year_is_that_of_the_document() -> None:
    half_year = HalfYear()
    figures = half_year.expected()
    assert (len(half_year.communes), len(half_year.departments)) == (212, 19)
    assert sum(each.received for each in figures.values()) == 26_690
    assert sum(each.returned for each in figures.values()) == 21_594
    assert sum(each.in_progress for each in figures.values()) == 5_096
    assert all(each.returned == each.early + each.on_time + each.late for each in figures.values())
    assert len({dossier.code for dossier in half_year.dossiers}) == 26_690
    assert len(figures) == 231
    by_district = Counter(unit[:6] for unit in half_year.communes for _ in range(figures[unit].received))
    assert {district for district, _ in by_district.most_common(4)} == set(half_year.districts[:4])


def test_the_half_year_is_the_same_each_time_and_goes_forward() -> None:
    half_year, again = (HalfYear(dossiers_wanted=500) for _ in range(2))
    assert half_year.dossiers == again.dossiers
    for dossier in half_year.dossiers:
        days = [errand.day for errand in half_year.errands(dossier)]
        assert days == sorted(days)
        assert dossier.finished is None or dossier.received < dossier.finished


class _Mayfly:
    """A victim that tells what is done to it, and may fail to come back."""

    def __init__(self, kind: str, deeds: list[str], over: Callable[[], None], *, comes_back: bool = True) -> None:
        self._deeds, self._over, self._comes_back = deeds, over, comes_back
        self.victim = Victim(kind=kind, kill=lambda: deeds.append(f"{kind} dies"), start=self._start)

    def _start(self) -> None:
        self._deeds.append(f"{self.victim.kind} is back")
        if len(self._deeds) >= 8 or not self._comes_back:
            self._over()
        if not self._comes_back:
            raise RuntimeError(f"{self.victim.kind} did not come back")


def test_one_dies_when_the_one_before_is_back() -> None:
    deeds: list[str] = []
    enough = threading.Event()
    mayflies = [_Mayfly(kind, deeds, enough.set).victim for kind in ("serve", "work", "rabbitmq")]
    with Havoc(mayflies, pause_seconds=0) as havoc:
        assert enough.wait(10)
    assert deeds[:8] == [
        f"{kind} {deed}" for kind in ("serve", "work", "rabbitmq", "serve") for deed in ("dies", "is back")
    ]
    assert havoc.has_killed(3)
    assert not havoc.has_killed(3, 10**9)


def test_who_does_not_come_back_is_told() -> None:
    deeds: list[str] = []
    over = threading.Event()
    mayfly = _Mayfly("work", deeds, over.set, comes_back=False).victim
    havoc = Havoc([mayfly], pause_seconds=0)
    havoc.__enter__()
    assert over.wait(10)
    with pytest.raises(RuntimeError, match="did not come back"):
        havoc.__exit__(None)
    assert deeds == ["work dies", "work is back"]
