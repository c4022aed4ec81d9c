"""The benchmark of a province's day, with few dossiers: what it counts is what happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.dossier_day import Quarter, Report, play, write_summary


@pytest.mark.slow
def test_a_short_day_gets_everywhere_once_and_is_counted(tmp_path: Path) -> None:
    report = play(24, 4, tmp_path / "home", lambda _: None)

    assert report.wrong == []
    assert report.messages == 24 * 13
    assert sum(waits.count for waits in report.calls) == 24 * 13
    assert {waits.name: waits.count for waits in report.deliveries_by_system}["G99/cong-dvc"] == 24 * 5
    assert len(report.quarters) == 4
    assert all(quarter.memory_mb["serve"] > 10 for quarter in report.quarters)
    summary = write_summary(report, tmp_path).read_text(encoding="utf-8")
    assert "| population.citizen-lookup | 24 |" in summary


def test_growth_compares_the_last_quarter_with_the_second() -> None:
    report = Report(dossiers=4)
    for number in range(1, 5):
        report.quarters.append(
            Quarter(
                messages=number,
                messages_per_second=1.0,
                call_p50_ms=float(number),
                call_p95_ms=1.0,
                bus_cpu_us_per_message=1.0,
                store_bytes_per_message=10.0 * number,
                memory_mb={"serve": 100.0, "work": 50.0 * number},
            )
        )

    assert report.growth() == {
        "call p50": 2.0,
        "processor time of the bus a message": 1.0,
        "store bytes a message": 2.0,
        "memory of serve": 1.0,
        "memory of work": 2.0,
    }
