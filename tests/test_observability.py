"""Metrics, alerts, dashboard: what a file names a running bus really tells; every alarm goes off when it should."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.rabbitmq import RabbitNode
from benchmarks.timestamp_authority import AuthorityMissing, TimestampServer
from bus.worker import Worker
from tests.bus_world import MINISTRY, World, ask, bus_world, post
from tests.debian import program
from tests.loopback import closed_port, serving
from tests.processes import running, until

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "docker" / "observability"
RULES = yaml.safe_load((SHIPPED / "alerts.yaml").read_text("utf-8"))
ALERTS: dict[str, dict[str, Any]] = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
DASHBOARD = json.loads((SHIPPED / "dashboard.json").read_text("utf-8"))
GiveUp = Callable[[str], NoReturn]


# ---- every alarm goes off, and stays quiet when all is well

#: Series of made-up numbers in promtool's notation, a value a minute for two hours: name → values.
Series = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """When an alert fires, and a world in which it must not."""

    fires: Series
    quiet: Series
    #: Labels of the alarm beside its severity.
    labels: Mapping[str, str]
    at: str = "2h"


def _up(job: str, value: str) -> Series:
    return {f'up{{job="{job}",instance="a"}}': value}


def _buckets(name: str, slow: str) -> Series:
    """A histogram whose observations are all fast, or all slow."""
    fast = "0+0x120" if slow else "0+60x120"
    return {
        f'{name}_bucket{{le="0.1",instance="a"}}': fast,
        f'{name}_bucket{{le="1.0",instance="a"}}': "0+60x120",
        f'{name}_bucket{{le="+Inf",instance="a"}}': "0+60x120",
    }


def _nodes(*up: int) -> Series:
    return {f'lgsp_broker_node_up{{node="mq{n}",instance="{i}"}}': f"{v}x120" for n, v in enumerate(up) for i in "ab"}


def _one(series: str, bad: str, good: str, **labels: str) -> Trial:
    return Trial(fires={series: bad}, quiet={series: good}, labels=labels)


WAITING = 'lgsp_queue_oldest_seconds{system="G99/csdl",instance="a"}'
TRIALS: dict[str, Trial] = {
    "LgspProcessDown": Trial(
        fires=_up("lgsp-work", "0x120"), quiet=_up("lgsp-work", "1x120"), labels={"job": "lgsp-work", "instance": "a"}
    ),
    "LgspNobodyServes": Trial(
        fires=_up("lgsp-serve", "0x120"), quiet=_up("lgsp-serve", "1x120"), labels={}
    ),
    "LgspNobodyWorks": Trial(
        fires=_up("lgsp-serve", "1x120"), quiet=_up("lgsp-work", "1x120"), labels={}
    ),
    "LgspProxyHasNobody": _one(
        'haproxy_backend_active_servers{proxy="serve",instance="p"}', "0x120", "1x120", proxy="serve", instance="p"
    ),
    "LgspHomeFull": _one('lgsp_home_free_bytes{instance="a"}', "1e9x120", "9e9x120", instance="a"),
    "LgspRegistryDiffers": Trial(
        fires={f'lgsp_registry_revision{{instance="{i}"}}': f"{v}x120" for i, v in (("a", 7), ("b", 8))},
        quiet={f'lgsp_registry_revision{{instance="{i}"}}': "7x60 8x60" for i in "ab"},
        labels={},
    ),
    "LgspAcceptSlow": Trial(
        fires=_buckets("lgsp_accept_seconds", "slow"), quiet=_buckets("lgsp_accept_seconds", ""), labels={}
    ),
    "LgspCommitSlow": Trial(
        fires=_buckets("lgsp_commit_seconds", "slow"), quiet=_buckets("lgsp_commit_seconds", ""), labels={}
    ),
    "LgspStoreSlow": _one('lgsp_store_read_seconds{instance="a"}', "0.6x120", "0.01x120", instance="a"),
    # promtool's clock begins on Thursday, 1 January 1970: 5h is noon in Vietnam, 20h is three at night.
    "LgspNothingAccepted": Trial(
        fires={'lgsp_messages_accepted_total{service="a",instance="a"}': "9x400"},
        quiet={'lgsp_messages_accepted_total{service="a",instance="a"}': "0+1x400"},
        labels={},
        at="5h",
    ),
    "LgspManyRefusals": _one(
        'lgsp_messages_refused_total{problem="not-identified",instance="a"}', "0+120x120", "0+6x120",
        problem="not-identified",
    ),
    "LgspDeadLetters": _one(
        'lgsp_delivery_attempts_total{outcome="died",instance="a"}', "0x110 1x10", "1x120"
    ),
    "LgspManyRetries": Trial(
        fires={
            'lgsp_delivery_attempts_total{outcome="retried",instance="a"}': "0+60x120",
            'lgsp_delivery_attempts_total{outcome="delivered",instance="a"}': "0+6x120",
        },
        quiet={
            'lgsp_delivery_attempts_total{outcome="retried",instance="a"}': "0+6x120",
            'lgsp_delivery_attempts_total{outcome="delivered",instance="a"}': "0+60x120",
        },
        labels={},
    ),
    "LgspQueueOld": _one(WAITING, "0+60x120", "0+20x120", system="G99/csdl"),
    "LgspAllQueuesOld": Trial(
        fires={WAITING: "0+60x120", 'lgsp_queue_oldest_seconds{system="H99.16/kho"}': "0+30x120"},
        quiet={WAITING: "0+60x120", 'lgsp_queue_oldest_seconds{system="H99.16/kho"}': "5x120"},
        labels={},
    ),
    "LgspBreakerOpen": _one(
        'lgsp_breaker_state{system="G99/csdl",state="open",instance="a"}', "1x120", "1x60 0x60", system="G99/csdl"
    ),
    "LgspRelayStuck": _one('lgsp_relay_turn_age_seconds{instance="w"}', "0+60x120", "0.5x120", instance="w"),
    "LgspWorkFull": Trial(
        fires={f'lgsp_deliveries_in_flight{{instance="{i}"}}': "500x120" for i in "ab"},
        quiet={f'lgsp_deliveries_in_flight{{instance="{i}"}}': f"{v}x120" for i, v in (("a", 500), ("b", 3))},
        labels={},
    ),
    "LgspBrokerNodeDown": Trial(fires=_nodes(1, 0, 1), quiet=_nodes(1, 1, 1), labels={"node": "mq1"}),
    "LgspBrokerNoMajority": Trial(fires=_nodes(1, 0, 0), quiet=_nodes(1, 1, 0), labels={}),
    "LgspBrokerDisconnected": _one('lgsp_broker_connected{instance="w"}', "0x120", "1x120", instance="w"),
    "LgspBrokerBlocked": _one('lgsp_broker_blocked{instance="w"}', "1x120", "0x120", instance="w"),
    "LgspBrokerSlow": _one('lgsp_broker_confirm_seconds{instance="w"}', "2x120", "0.02x120", instance="w"),
    "LgspEvidenceUnsealed": _one('lgsp_evidence_unsealed_seconds{instance="a"}', "0+60x120", "1x120"),
    "LgspTimestampsStopped": _one('lgsp_evidence_unstamped_seconds{instance="a"}', "0+60x120", "0+10x120"),
    "LgspEvidenceShrank": _one('lgsp_evidence_entries{instance="a"}', "0+10x110 3x10", "0+10x120"),
    "LgspCertificateEnds": Trial(
        fires={'lgsp_certificate_days_left{system="G99/csdl",key_id="k"}': "20x120"},
        quiet={
            'lgsp_certificate_days_left{system="G99/csdl",key_id="k"}': "20x120",
            'lgsp_certificate_days_left{system="G99/csdl",key_id="l"}': "300x120",
        },
        labels={"system": "G99/csdl"},
    ),
    "LgspCertificateEndsNow": _one(
        'lgsp_certificate_days_left{system="G99/csdl",key_id="k"}', "2x120", "20x120", system="G99/csdl"
    ),
}  # fmt: skip


def test_every_alert_is_tried() -> None:
    assert TRIALS.keys() == ALERTS.keys()


@pytest.mark.service
def test_every_alarm_goes_off_and_none_without_reason(tmp_path: Path, missing_service: GiveUp) -> None:
    promtool = program("promtool", "prometheus", missing_service)
    cases = []
    for name, trial in TRIALS.items():
        for series, expected in ((trial.fires, [_alarm(name, trial.labels)]), (trial.quiet, [])):
            cases.append(
                {
                    "interval": "1m",
                    "input_series": [{"series": each, "values": values} for each, values in series.items()],
                    "alert_rule_test": [{"eval_time": trial.at, "alertname": name, "exp_alerts": expected}],
                }
            )
    night = {"series": 'lgsp_messages_accepted_total{service="a"}', "values": "9x2000"}
    for quiet_at in ("20h", "53h"):  # at night, and on Saturday
        quiet = {"eval_time": quiet_at, "alertname": "LgspNothingAccepted", "exp_alerts": []}
        cases.append({"interval": "1m", "input_series": [night | {"values": "9x4000"}], "alert_rule_test": [quiet]})
    (tmp_path / "trials.yaml").write_text(
        yaml.safe_dump({"rule_files": [str(SHIPPED / "alerts.yaml")], "evaluation_interval": "5m", "tests": cases})
    )
    said = subprocess.run([promtool, "test", "rules", str(tmp_path / "trials.yaml")], capture_output=True, text=True)
    assert said.returncode == 0, said.stdout[-4000:] + said.stderr[-4000:]


def _alarm(name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """What promtool compares with: every label and every word."""
    annotations = {
        key: re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda match: labels[match[1]], text)
        for key, text in ALERTS[name]["annotations"].items()
    }
    return {"exp_labels": {**ALERTS[name]["labels"], **labels}, "exp_annotations": annotations}


@pytest.mark.service
def test_prometheus_takes_its_configuration(missing_service: GiveUp) -> None:
    promtool = program("promtool", "prometheus", missing_service)
    for what, file in (("rules", "alerts.yaml"), ("config", "prometheus.yaml")):
        said = subprocess.run([promtool, "check", what, str(SHIPPED / file)], capture_output=True, text=True)
        assert said.returncode == 0, said.stdout + said.stderr


def test_every_alert_leads_to_its_place_in_the_run_book() -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    headings = {heading.lower() for heading in re.findall(r"^#{2,4} (Lgsp\w+)$", text, re.MULTILINE)}
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
        assert rule["labels"]["severity"] in ("warning", "critical")
    assert headings == {name.lower() for name in ALERTS}


# ---- what the files name is told by a running bus


@contextmanager
def producing(folder: Path, rabbitmq: RabbitNode, give_up: GiveUp) -> Iterator[tuple[World, str, str]]:
    """A bus in production mode (but for its store), its `serve` and its `work` as processes: their addresses."""
    port = closed_port()
    gone = f"amqp://guest:guest@127.0.0.1:{closed_port()}/"
    with (
        serving(lambda environ, start: start("500 Broken", []) and [b""]) as partner,
        stamping(folder / "tsa", give_up) as authority,
        bus_world(
            folder,
            partner_url=partner.url,
            broker_url=f"{rabbitmq.url},{gone}",
            work_port=port,
            timestamp_url=authority.url,
            timestamp_authority=authority.roots_file,
            timestamp_seconds=0.2,
        ) as world,
        world.server_process() as serve,
        running("bus.work", world.environment, world.settings.home / "work.log"),
    ):
        yield world, serve, f"http://127.0.0.1:{port}"


@contextmanager
def stamping(folder: Path, give_up: GiveUp) -> Iterator[TimestampServer]:
    try:
        server = TimestampServer(folder)
    except AuthorityMissing as reason:
        give_up(str(reason))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def names_of(url: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    told: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(ask("GET", f"{url}/metrics").body.decode()):
        for sample in family.samples:
            told.setdefault(sample.name, []).append((sample.labels, sample.value))
    return told


@pytest.mark.service
def test_a_running_bus_tells_all_that_the_files_and_the_manual_name(
    tmp_path: Path, rabbitmq: RabbitNode, missing_service: GiveUp
) -> None:
    with producing(tmp_path, rabbitmq, missing_service) as (world, serve, work):
        assert until(lambda: names_of(work)["lgsp_broker_connected"] == [({}, 1.0)])
        message = world.signed({}, service="dossier.note", receivers=[MINISTRY])
        assert [post(serve, message).status, post(serve, message).status] == [202, 200]
        ask("POST", f"{serve}/v1/exchange", b"{}")
        awaited = {"lgsp_broker_confirm_seconds", "lgsp_timestamp_age_seconds", "lgsp_breaker_state"}
        assert until(lambda: awaited <= names_of(work).keys())
        served, worked = names_of(serve), names_of(work)
        told = served.keys() | worked.keys()
        ready = ask("GET", f"{work}/readyz").json
    # One of the two nodes does not exist.
    assert sorted(value for _, value in served["lgsp_broker_node_up"]) == [0.0, 1.0]
    assert {"lgsp_relay_turn_age_seconds", "lgsp_deliveries_in_flight"} <= worked.keys() - served.keys()
    assert {check["name"] for check in ready["checks"]} >= {"broker", "relay"}
    assert ready["ready"], ready
    ours = {name for name in named_in_files() if name.startswith("lgsp_")}
    assert ours - told == set()
    families = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in told}
    rows = set(re.findall(r"^\| `(lgsp_\w+)`", (ROOT / "docs" / "metrics.md").read_text("utf-8"), re.MULTILINE))
    assert families == rows


def named_in_files() -> set[str]:
    expressions = [rule["expr"] for rule in ALERTS.values()]
    expressions += [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    return {name for text in expressions for name in re.findall(r"\b(?:lgsp|haproxy)_\w+", text)}


@pytest.mark.service
def test_a_broker_that_goes_is_seen_by_those_who_need_it(tmp_path: Path, rabbitmq: RabbitNode) -> None:
    """`work` is not ready without it; `serve` says what it sees and goes on taking messages."""
    dead = f"amqp://guest:guest@127.0.0.1:{closed_port()}/"
    with bus_world(tmp_path, broker_url=dead) as world:
        worker = Worker(world.bus)
        with world.server_process() as serve:
            told = {check["name"]: check for check in ask("GET", f"{serve}/readyz").json["checks"]}
            assert told["broker"]["ok"]
            assert "1 of 1 nodes cannot be reached" in told["broker"]["why"]
            assert post(serve, world.signed()).status == 202
            standing = worker.standing()
            assert standing.broker is not None
            assert not standing.broker.connected
            assert [(labels["node"], value) for labels, value in names_of(serve)["lgsp_broker_node_up"]] == [
                (dead.rpartition("@")[2].rstrip("/"), 0.0)
            ]
        worker._broker.close()


def test_the_dashboard_is_one() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids)) >= 20
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        if panel["type"] == "row":
            continue
        assert panel["title"]
        assert panel["description"]
        assert panel["targets"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert {"lgsp_queue_messages", "lgsp_breaker_state", "lgsp_checkpoint_age_seconds"} <= named_in_files()


@pytest.mark.service
def test_prometheus_reads_every_expression_of_the_dashboard(tmp_path: Path, missing_service: GiveUp) -> None:
    promtool = program("promtool", "prometheus", missing_service)
    targets = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    targets += re.findall(r"^(?!#)(.+)$", _promql_of_the_manual(), re.MULTILINE)
    rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(targets)]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    said = subprocess.run([promtool, "check", "rules", str(tmp_path / "panels.yaml")], capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr


def _promql_of_the_manual() -> str:
    found = re.search(r"```promql\n(.*?)```", (ROOT / "docs" / "metrics.md").read_text("utf-8"), re.DOTALL)
    assert found is not None
    return found[1]
