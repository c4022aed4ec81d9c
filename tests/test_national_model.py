"""The model of a country's load: plain arithmetic, checked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.national import Place, main, need_of, read_costs
from benchmarks.production import PRODUCTION

COSTS = {"serve": 1000.0, "work": 1000.0, "store": 500.0, "broker": 250.0}


def test_a_place_needs_what_its_busiest_hour_needs() -> None:
    need = need_of(Place(name="x", messages_a_day=180_000, receivers=10), COSTS, most_per_second=100.0)

    assert need.peak_per_second == 10.0  # a fifth of the day in one hour
    assert need.cores == {"serve": 0.02, "work": 0.02, "store": 0.01, "broker": 0.005}
    assert need.nodes == 2  # never fewer: one may be down
    assert need.store_share == 0.1


def test_more_messages_need_more_nodes_in_proportion() -> None:
    small, large = (need_of(Place(name="x", messages_a_day=n, receivers=1), COSTS, 1000.0) for n in (10**7, 10**9))
    assert large.cores["serve"] == pytest.approx(100 * small.cores["serve"])
    assert large.nodes > 50
    assert large.gigabytes_a_year == pytest.approx(100 * small.gigabytes_a_year)


def test_costs_are_read_from_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "summary.json"
    finding = {"name": PRODUCTION, "cpu_us_by_role": COSTS, "delivered_per_second": 700.0}
    path.write_text(json.dumps({"findings": [finding]}))

    assert read_costs(path) == (COSTS, 700.0)
    assert main([str(path)]) == 0
    assert "15,000,000" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "{}", '{"findings": []}', "[]x"])
def test_what_is_no_summary_is_refused_in_words(tmp_path: Path, text: str) -> None:
    path = tmp_path / "summary.json"
    path.write_text(text)
    with pytest.raises(SystemExit) as ended:
        main([str(path)])
    assert ended.value.code == 2
