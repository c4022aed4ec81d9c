"""Health, readiness, metrics, and the documents about the API, over real HTTP."""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from prometheus_client.parser import text_string_to_metric_families

from bus.readiness import readiness
from bus.web.app import SURFACES, create_app
from bus.web.openapi import openapi_document
from bus.web.pages import problem_types, reasons_by_problem
from schemas.moment import utc_now
from schemas.reasons import REASONS
from tests.bus_world import RECEIVING, SENDING, World, ask, bus_world, key_of, post

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with bus_world(tmp_path) as world:
        yield world


@pytest.fixture
def url(world: World) -> Iterator[str]:
    with world.serving() as url:
        yield url


# ---- health and readiness -------------------------------------------------------------------------------------------


def test_a_process_that_answers_is_healthy_whatever_else_is_wrong(world: World, url: str) -> None:
    world.bus.store.close()
    (world.settings.home / "lgsp.db").rename(world.settings.home / "away.db")
    assert ask("GET", f"{url}/healthz").status == 200


def test_a_bus_in_order_is_ready(url: str) -> None:
    answer = ask("GET", f"{url}/readyz")
    assert (answer.status, answer.json["ready"]) == (200, True)
    names = [check["name"] for check in answer.json["checks"]]
    assert names == ["store", "registry", "keys", "disk", "checkpoint", "ending"]


def test_without_its_store_the_bus_is_not_ready_and_says_nothing_of_paths(world: World, url: str) -> None:
    world.bus.store.close()
    shutil.move(world.settings.home / "lgsp.db", world.settings.home / "away.db")
    for leftover in world.settings.home.glob("lgsp.db-*"):
        leftover.unlink()
    answer = ask("GET", f"{url}/readyz")
    failed = {check["name"] for check in answer.json["checks"] if not check["ok"]}
    assert answer.status == 503
    assert {"store", "checkpoint"} <= failed
    assert str(world.settings.home) not in answer.body.decode()


def test_each_failing_check_is_named_with_what_to_do(world: World) -> None:
    post_directly(world)
    later = utc_now() + timedelta(days=800)  # no `lgsp work` sealed anything, and the ring's key has ended
    checks = {check.name: check for check in readiness(world.bus, later, least_free_bytes=2**62)}
    assert {name for name, check in checks.items() if not check.ok} == {"keys", "disk", "checkpoint"}
    assert "lgsp key rotate" in checks["keys"].why
    assert "1 entries wait" in checks["checkpoint"].why
    assert "make room" in checks["disk"].why


def test_a_quiet_night_is_no_alarm(world: World) -> None:
    post_directly(world)
    world.bus.seal_evidence(utc_now())
    checks = {check.name: check.ok for check in readiness(world.bus, utc_now() + timedelta(hours=10))}
    assert checks["checkpoint"]


def post_directly(world: World) -> None:
    with world.serving() as url:
        assert post(url, world.signed()).status == 202


TOLD_ELSEWHERE = (
    *("lgsp_broker_", "lgsp_relay_", "lgsp_deliveries_in_flight"),
    *("lgsp_evidence_unstamped_seconds", "lgsp_timestamp_age_seconds"),
)


# ---- metrics --------------------------------------------------------------------------------------------------------


def scrape(url: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    answer = ask("GET", f"{url}/metrics")
    assert answer.status == 200
    samples: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return samples


def test_metrics_agree_with_what_happened(world: World, url: str) -> None:
    message = world.signed()
    for _ in range(2):
        post(url, message)
    post(url, world.signed())
    ask("POST", f"{url}/v1/exchange", b"{}")
    (first, _) = ask("GET", f"{url}/v1/inbox", headers=world.bearer(RECEIVING)).json["deliveries"]
    ask("POST", f"{url}/v1/inbox/{first['delivery_id']}/ack", b"", world.bearer(RECEIVING))
    post(url, world.signed())
    told = scrape(url)
    service = (("service", "dossier.transfer"),)
    assert told["lgsp_messages_accepted_total"][service] == 3
    assert told["lgsp_messages_repeated_total"][service] == 1
    assert told["lgsp_messages_refused_total"][(("problem", "not-identified"),)] == 1
    assert told["lgsp_delivery_attempts_total"][(("outcome", "delivered"),)] == 1
    assert told["lgsp_queue_messages"][(("system", RECEIVING),)] == 1
    assert 0 <= told["lgsp_queue_oldest_seconds"][(("system", RECEIVING),)] < 60
    assert told["lgsp_deliveries"] == {(("state", "delivering"),): 1, (("state", "dead"),): 0}
    assert told["lgsp_evidence_entries"][()] == 5
    assert told["lgsp_evidence_sealed_entries"][()] == 0
    assert told["lgsp_certificate_days_left"][(("key_id", key_of(SENDING).key_id), ("system", SENDING))] > 700


def test_histograms_add_up_and_count_in_seconds(world: World, url: str) -> None:
    for _ in range(5):
        post(url, world.signed())
    told = scrape(url)
    buckets = [
        value for _, value in sorted(told["lgsp_accept_seconds_bucket"].items(), key=lambda b: float(b[0][0][1]))
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1] == told["lgsp_accept_seconds_count"][()] == 5
    assert 0 < told["lgsp_accept_seconds_sum"][()] < 60


def test_a_breaker_that_opened_is_seen(world: World, url: str) -> None:
    for _ in range(world.settings.breaker_failures):
        world.bus.bulkheads.enter(RECEIVING)
        world.bus.bulkheads.leave(RECEIVING, healthy=False)
    states = {dict(labels)["state"]: value for labels, value in scrape(url)["lgsp_breaker_state"].items()}
    assert states == {"closed": 0, "open": 1, "half-open": 0}


def test_every_metric_has_its_line_in_the_run_book(world: World, url: str) -> None:
    post(url, world.signed())
    world.bus.seal_evidence(utc_now())
    text = ask("GET", f"{url}/metrics").body.decode()
    served = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    written = set(re.findall(r"^\| `(lgsp_\w+)`", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE))
    # The others are told where there is a broker or a timestamp authority, and by a process that delivers:
    # tests/test_observability.py.
    assert served == {name for name in written if not name.startswith(TOLD_ELSEWHERE)}


# ---- the document of the API ----------------------------------------------------------------------------------------


def test_the_openapi_document_is_valid_and_names_every_route_that_is_served(world: World, url: str) -> None:
    document = ask("GET", f"{url}/openapi.json").json
    assert document["openapi"].startswith("3.1")
    validate(document)
    written = {(path, method) for path, methods in document["paths"].items() for method in methods}
    served = {
        (re.sub(r"<(?:[a-z]+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in create_app(world.bus).url_map.iter_rules()
        if not rule.rule.startswith("/console/")  # pages for people
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert written == served
    assert not any(path.endswith("/requests") or "catalogues" in path for path, _ in written)


def test_every_operation_says_who_may_call_it_and_what_goes_wrong(world: World) -> None:
    document = openapi_document(create_app(world.bus), "https://bus.invalid")
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation["summary"], path
            assert operation["description"], path
            assert operation["security"] is not None
            assert "application/problem+json" in operation["responses"]["default"]["content"]
            if operation["security"]:
                # Over SOAP every problem is a fault, and a fault is a 500 (SOAP 1.1, section 6.2).
                assert {"401", "500"} & operation["responses"].keys(), path
    assert {"Manifest", "Receipt", "Problem"} <= document["components"]["schemas"].keys()


def test_what_problems_say_fits_the_problem_schema(world: World, url: str) -> None:
    schemas = openapi_document(create_app(world.bus), "https://bus.invalid")["components"]["schemas"]
    validator = Draft202012Validator({"$ref": "#/components/schemas/Problem", "components": {"schemas": schemas}})
    broken = post(url, world.signed({"title": 1})).json
    validator.validate(broken)
    validator.validate(ask("GET", f"{url}/nowhere").json)
    types = schemas["Problem"]["properties"]["type"]["enum"]
    assert sorted(types) == sorted(f"/problems/{slug}" for slug in problem_types())
    receipts = Draft202012Validator({"$ref": "#/components/schemas/Receipt", "components": {"schemas": schemas}})
    receipts.validate(post(url, world.signed()).json)


@pytest.mark.parametrize("surface", sorted(SURFACES))
def test_a_surface_that_is_not_named_is_not_there(tmp_path: Path, surface: str) -> None:
    first_path = {
        "exchange": "/v1/keys",
        "soap": "/soap/exchange?wsdl",
        "registry": "/v1/registry/agencies",
        "docs": "/docs",
        "operations": "/metrics",
    }
    others = ",".join(sorted(SURFACES.keys() - {surface}))
    with bus_world(tmp_path, surfaces=others) as world, world.serving() as url:
        for name, path in first_path.items():
            assert (ask("GET", url + path).status == 404) == (name == surface), path


# ---- pages ----------------------------------------------------------------------------------------------------------


def test_the_api_page_loads_only_what_is_served_here(url: str) -> None:
    page = ask("GET", f"{url}/docs")
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    assert "/docs/swagger-ui-bundle.js" in loaded
    for place in [*loaded, "/openapi.json"]:
        assert place.startswith("/")
        assert ask("GET", url + place).status == 200, place
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "http" not in policy
    assert "validatorUrl: null" in ask("GET", f"{url}/docs/start.js").body.decode()


@pytest.mark.parametrize("name", ["LICENSE", "..%2f__init__.py", "index.html", "swagger-ui.js.map", "../../etc/passwd"])
def test_the_api_page_serves_nothing_else_of_its_package(url: str, name: str) -> None:
    assert ask("GET", f"{url}/docs/{name}").status == 404


def test_every_problem_type_has_its_page_in_both_languages(url: str) -> None:
    index = ask("GET", f"{url}/problems").body.decode()
    for slug, kind in problem_types().items():
        page = ask("GET", f"{url}/problems/{slug}")
        assert page.status == 200
        text = html.unescape(page.body.decode())
        assert kind.title_vi in text
        assert kind.title in text
        assert f'href="/problems/{slug}"' in index
    for reason in REASONS:
        assert f'id="{reason}"' in index
    assert ask("GET", f"{url}/problems/nothing").status == 404


def test_a_problems_page_names_the_reasons_it_is_raised_with() -> None:
    found = reasons_by_problem()
    assert {"no-grant", "purpose-missing", "purpose-not-granted"} <= found["NotPermitted"]
    assert "quota-of-day" in found["TooMany"]
    assert "no-grant" not in found["Malformed"]


@pytest.mark.parametrize("path", ["/healthz", "/openapi.json", "/nowhere", "/v1/inbox", "/v1/keys", "/problems"])
def test_every_answer_is_hardened(url: str, path: str) -> None:
    headers = ask("GET", url + path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"
    if path.startswith("/v1"):
        assert headers["cache-control"] == "no-store"


def test_the_real_server_names_no_version_of_itself(world: World) -> None:
    with world.server_process() as url:
        assert not re.search(r"[0-9]", ask("GET", f"{url}/healthz").headers.get("server", ""))
