"""Drafts of services from WSDL and OpenAPI: the awkward corpus, and where documents may come from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from connectors.http import HttpClient
from connectors.importing.draft import Draft, Wishes, code_of, draft
from connectors.importing.openapi import read_openapi
from connectors.importing.sources import MAX_DOCUMENT_BYTES, MAX_DOCUMENTS, AllowedHosts, Documents, is_public
from connectors.importing.wsdl import read_wsdl
from connectors.soap import describe_wsdl
from registry.contract import Contract
from registry.manifests import entry_from, read_manifests
from registry.model import HttpCall, Service, SoapCall, System
from schemas.identifiers import AgencyCode, SystemCode
from schemas.problem import Malformed, SchemaViolation
from schemas.reasons import REASONS
from tests.loopback import closed_port, serving

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "corpus"
XML, JSON = "application/xml", "application/json"


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a file of the corpus gives: services by code with their pattern, refusals by operation, or one reason."""

    file: str
    services: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    whole: str = ""


REPLY, ONE_WAY = "request-reply", "one-way"

CASES = (
    Case(file="wsdl/imports-in-imports.wsdl", services={"t.find-parcel": REPLY}),
    Case(
        file="wsdl/several-services-and-ports.wsdl",
        services={"t.registry-find": REPLY, "t.archive-find": REPLY, "t.count": REPLY, "t.notify": ONE_WAY},
    ),
    Case(
        file="wsdl/rpc-style.wsdl",
        services={"t.find": REPLY},
        refused={
            "Add": "wsdl-rpc-style",
            "Encoded": "import-wsdl-encoded",
            "Pair": "wsdl-body-not-one",
            "Typed": "wsdl-body-not-one",
            "Ask": "import-wsdl-direction",
            "Twice": "import-wsdl-overloaded",
            "Attach": "import-wsdl-mime",
        },
    ),
    Case(file="wsdl/rich-types.wsdl", services={"t.register": REPLY, "t.look": REPLY}),
    Case(file="wsdl/any.wsdl", services={"t.wrap": REPLY}),
    Case(file="wsdl/soap12-only.wsdl", services={"t.find": REPLY}),
    Case(file="wsdl/missing-soap-action.wsdl", services={"t.find": REPLY}),
    Case(file="wsdl/headers-and-faults.wsdl", services={"t.find": REPLY}),
    Case(file="wsdl/mixed-forms.wsdl", services={"t.find": REPLY}),
    Case(file="wsdl/includes-itself.wsdl", services={"t.find": REPLY}),
    Case(file="wsdl/wrong-target-namespace.wsdl", refused={"Find": "import-wsdl-element-unknown"}),
    Case(file="wsdl/import-of-wrong-namespace.wsdl", whole="import-schema-namespace"),
    Case(file="wsdl/conflicting-types.wsdl", whole="import-schema-conflict"),
    Case(file="wsdl/no-soap-port.wsdl", whole="wsdl-no-soap-port"),
    Case(file="wsdl/wsdl-2.0.wsdl", whole="import-not-wsdl"),
    Case(file="wsdl/doctype.wsdl", whole="xml-doctype"),
    Case(file="wsdl/entity-bomb.wsdl", whole="xml-doctype"),
    Case(file="wsdl/file-scheme.wsdl", whole="import-place-refused"),
    Case(file="wsdl/absolute-path.wsdl", whole="import-place-refused"),
    Case(file="wsdl/out-of-the-folder.wsdl", whole="import-place-refused"),
    Case(file="wsdl/missing-import.wsdl", whole="import-not-found"),
    Case(file="wsdl/private-address.wsdl", whole="import-host-not-allowed"),
    Case(
        file="openapi/version-3-0.yaml",
        services={
            "t.read-paper": REPLY,
            "t.put-dossiers-by-code-papers-by-number": ONE_WAY,
            "t.elsewhere": ONE_WAY,
        },
        refused={
            "probePaper": "import-openapi-method",
            "uploadPaper": "import-openapi-file",
            "downloadPaper": "import-openapi-file",
            "formPaper": "import-openapi-body",
            "searchDeep": "import-openapi-parameter",
            "searchCookie": "import-openapi-parameter",
            "twice": "import-openapi-parameter-twice",
            "undeclared": "import-openapi-path",
        },
    ),
    Case(
        file="openapi/version-3-1.json",
        services={
            "t.save-tree": REPLY,
            "t.save-shape": REPLY,
            "t.save-pattern": ONE_WAY,
            "t.read-shared": REPLY,
        },
        refused={
            "/gone": "import-openapi-reference",
            "readPrivate": "import-host-not-allowed",
            "readFile": "import-place-refused",
            "readLoop": "import-openapi-loop",
            "readNamed": "import-openapi-reference",
        },
    ),
    Case(file="openapi/swagger-2-0.json", whole="import-openapi-version"),
    Case(file="openapi/yaml-anchors.yaml", whole="import-not-openapi"),
    Case(file="openapi/not-openapi.json", whole="import-not-openapi"),
    Case(file="openapi/shared.yaml", whole="import-not-openapi"),
)


def drafted(given: Path | str, *, hosts: str = "", **wishes: Any) -> Draft:
    wanted = {"prefix": "t", "owner": AgencyCode("G99.01"), **wishes}
    with Documents(str(given), hosts) as documents:
        found = read_openapi(documents) if "openapi" in str(given) else read_wsdl(documents)
    return draft(found, Wishes(**wanted))


def registered(made: Draft, folder: Path) -> dict[str, Service]:
    """The services as ``lgsp registry apply`` reads them from the written files, by code."""
    for name, text in made.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    entries = [entry_from(document) for document in read_manifests([folder / name for name in made.manifests])]
    return {str(entry.code): entry for entry in entries if isinstance(entry, Service)}


@pytest.mark.parametrize("case", [case for case in CASES if case.whole], ids=lambda case: case.file)
def test_a_file_that_cannot_be_used_is_refused_with_its_reason(case: Case) -> None:
    assert reason_of(lambda: drafted(CORPUS / case.file)) == case.whole


@pytest.mark.parametrize("case", [case for case in CASES if not case.whole], ids=lambda case: case.file)
def test_a_file_of_the_corpus_gives_services_and_reasons(case: Case, tmp_path: Path) -> None:
    made = drafted(CORPUS / case.file)
    services = registered(made, tmp_path)
    assert {code: str(service.pattern) for code, service in services.items()} == case.services
    assert {refusal.name: refusal.problem.reason for refusal in made.refusals} == case.refused
    for service in services.values():
        contract = Contract(service)  # compiles both schemas
        assert service.provider is not None
        assert (service.stage, service.owner) == ("draft", "G99.01")
        assert contract.takes(service.provider.content_type)
        match service.provider.call:
            case SoapCall(wsdl=wsdl, operation=operation, port=port):
                assert "schemaLocation" not in wsdl
                assert "wsdl:import" not in wsdl
                assert describe_wsdl(wsdl).find(operation, port)[1].request == service.element
            case call:
                assert isinstance(call, HttpCall)


def test_every_file_of_the_corpus_is_in_the_table() -> None:
    files = {str(path.relative_to(CORPUS)) for kind in ("wsdl", "openapi") for path in (CORPUS / kind).glob("*.*")}

    assert files == {case.file for case in CASES}


WITH_TYPES = "http://example.invalid/land/types"
PAYLOADS: tuple[tuple[str, str, str, str, str, bool], ...] = (
    (
        "wsdl/imports-in-imports.wsdl",
        "t.find-parcel",
        "request",
        XML,
        f'<p:FindParcel xmlns:p="{WITH_TYPES}"><p:SheetNumber>7</p:SheetNumber><p:ParcelNumber>12</p:ParcelNumber>'
        "<p:Commune>00001</p:Commune></p:FindParcel>",
        True,
    ),
    (
        "wsdl/imports-in-imports.wsdl",
        "t.find-parcel",
        "request",
        XML,
        f'<p:FindParcel xmlns:p="{WITH_TYPES}"><p:SheetNumber>7</p:SheetNumber><p:ParcelNumber>12</p:ParcelNumber>'
        "<p:Commune>1</p:Commune></p:FindParcel>",
        False,
    ),
    # The chameleon's local elements stay unqualified, as its document says.
    (
        "wsdl/imports-in-imports.wsdl",
        "t.find-parcel",
        "reply",
        XML,
        f'<p:FindParcelResponse xml:lang="vi" xmlns:p="{WITH_TYPES}"><p:Parcel><Area>10.5</Area>'
        '<Owner xsi:nil="true" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"/></p:Parcel></p:FindParcelResponse>',
        True,
    ),
    (
        "wsdl/mixed-forms.wsdl",
        "t.find",
        "reply",
        XML,
        '<p:FindResponse xmlns:p="urn:example:mixed"><Found>true</Found></p:FindResponse>',
        True,
    ),
    (
        "wsdl/mixed-forms.wsdl",
        "t.find",
        "request",
        XML,
        '<p:Find xmlns:p="urn:example:mixed"><p:Code>12345</p:Code></p:Find>',
        True,
    ),
    # A type that nothing names but xsi:type came along.
    (
        "wsdl/rich-types.wsdl",
        "t.register",
        "request",
        XML,
        '<p:Register xmlns:p="urn:example:rich"><p:Who xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xsi:type="p:Foreigner"><p:FullName>NGUYEN</p:FullName><p:Passport>X1</p:Passport></p:Who></p:Register>',
        True,
    ),
    (
        "wsdl/rich-types.wsdl",
        "t.look",
        "reply",
        XML,
        '<p:LookResponse xmlns:p="urn:example:rich"><p:Citizen><p:FullName>NGUYEN</p:FullName>'
        "<p:BirthDate>1990-01-31</p:BirthDate><p:Number>1</p:Number><p:OldNumber>2</p:OldNumber></p:Citizen>"
        "</p:LookResponse>",
        False,
    ),
    # The root of the other direction is no request.
    (
        "wsdl/soap12-only.wsdl",
        "t.find",
        "request",
        XML,
        '<p:FindResponse xmlns:p="urn:example:twelve"><p:Found>true</p:Found></p:FindResponse>',
        False,
    ),
    ("openapi/version-3-0.yaml", "t.read-paper", "request", JSON, '{"code": "a", "number": 1, "part": ["x"]}', True),
    ("openapi/version-3-0.yaml", "t.read-paper", "request", JSON, '{"code": "a", "number": 0}', False),
    ("openapi/version-3-0.yaml", "t.read-paper", "request", JSON, '{"code": "a", "number": 2147483648}', False),
    ("openapi/version-3-0.yaml", "t.read-paper", "request", JSON, '{"code": "a", "number": 1, "y": 1}', False),
    ("openapi/version-3-0.yaml", "t.read-paper", "reply", JSON, '{"id": 1, "name": null, "kind": null}', True),
    ("openapi/version-3-0.yaml", "t.read-paper", "reply", JSON, '{"id": 1, "name": "x", "fee": 0}', False),
    ("openapi/version-3-0.yaml", "t.read-paper", "reply", JSON, '{"id": 1, "name": "x", "owner": null}', True),
    ("openapi/version-3-0.yaml", "t.read-paper", "reply", JSON, '{"name": "x"}', False),
    (
        "openapi/version-3-0.yaml",
        "t.put-dossiers-by-code-papers-by-number",
        "request",
        JSON,
        '{"code": "a", "number": 1, "body": {"name": "x", "secret": "y"}}',
        True,
    ),
    (
        "openapi/version-3-1.json",
        "t.save-tree",
        "request",
        JSON,
        '{"name": "a", "children": [{"name": "b", "children": [{"name": "c"}]}]}',
        True,
    ),
    ("openapi/version-3-1.json", "t.save-tree", "request", JSON, '{"name": "a", "children": [{"name": 1}]}', False),
    ("openapi/version-3-1.json", "t.save-shape", "request", JSON, '{"kind": "circle", "radius": 1}', True),
    ("openapi/version-3-1.json", "t.save-shape", "request", JSON, '{"kind": "circle", "side": 1}', False),
    ("openapi/version-3-1.json", "t.save-shape", "reply", JSON, "null", True),
    ("openapi/version-3-1.json", "t.save-shape", "reply", JSON, "7", False),
    ("openapi/version-3-1.json", "t.read-shared", "reply", JSON, '"2026-11-21"', True),
    ("openapi/version-3-1.json", "t.read-shared", "reply", JSON, '"21/11/2026"', False),
)


@pytest.fixture(scope="module")
def contracts(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Contract]:
    """Every service of the corpus that a payload below is for."""
    found: dict[tuple[str, str], Contract] = {}
    for number, file in enumerate(sorted({payload[0] for payload in PAYLOADS})):
        folder = tmp_path_factory.mktemp(str(number))
        for code, service in registered(drafted(CORPUS / file), folder).items():
            found[file, code] = Contract(service)
    return found


@pytest.mark.parametrize(("file", "code", "side", "content_type", "payload", "fits"), PAYLOADS)
def test_the_drafted_schemas_mean_what_the_description_means(
    contracts: dict[tuple[str, str], Contract],
    file: str,
    code: str,
    side: str,
    content_type: str,
    payload: str,
    fits: bool,
) -> None:
    form = getattr(contracts[file, code], side)
    if fits:
        form.validate(payload.encode(), content_type)
    else:
        with pytest.raises(SchemaViolation):
            form.validate(payload.encode(), content_type)


def test_a_payload_that_one_language_cannot_say_is_published_in_the_other(tmp_path: Path) -> None:
    made = drafted(CORPUS / "wsdl/any.wsdl")

    [service] = registered(made, tmp_path).values()
    assert service.content_types == (XML,)
    assert any("JSON and XML" in note.en and "chỉ nhận" in note.vi for note in made.services[0].notes)


def test_both_languages_where_the_schema_can_be_said_in_both(tmp_path: Path) -> None:
    [service] = registered(drafted(CORPUS / "wsdl/soap12-only.wsdl"), tmp_path).values()

    assert service.content_types == (JSON, XML)
    sent = Contract(service).for_provider(b'{"Code":"01"}', JSON)
    assert sent is not None
    assert sent.content_type == XML
    assert b"Code>01<" in sent.body


def test_only_selected_operations_are_drafted_and_unknown_ones_are_told() -> None:
    made = drafted(CORPUS / "wsdl/several-services-and-ports.wsdl", select=frozenset({"Count", "Nothing"}))

    assert [service.code for service in made.services] == ["t.count"]
    assert made.unknown == ("Nothing",)


def test_a_header_block_that_the_endpoint_must_give_is_told() -> None:
    [service] = drafted(CORPUS / "wsdl/headers-and-faults.wsdl").services

    [note] = service.notes
    assert note.en.startswith("the request has a header block {urn:example:headers}Login:")
    assert note.vi.startswith("yêu cầu có khối đầu thư SOAP {urn:example:headers}Login:")


def test_the_system_has_the_endpoint_and_names_its_secret(tmp_path: Path) -> None:
    made = drafted(CORPUS / "openapi/version-3-1.json", system=SystemCode("G99.12/registry"))

    registered(made, tmp_path)
    [document] = read_manifests([tmp_path / "G99.12.registry.yaml"])
    system = entry_from(document)
    assert isinstance(system, System)
    assert system.endpoint is not None
    assert system.endpoint.url == "https://registry.example.invalid"
    assert system.endpoint.settings == {"auth": "oauth2", "token_path": "oauth/token"}
    assert system.endpoint.secret == made.secret == "g99.12.registry"
    assert set(system.receives) == {service.code for service in made.services}


def test_operations_at_several_addresses_are_told_when_a_system_is_drafted() -> None:
    made = drafted(CORPUS / "wsdl/several-services-and-ports.wsdl", system=SystemCode("G99.01/x"))

    [note] = made.notes
    assert "different addresses" in note.en
    assert "nhiều địa chỉ khác nhau" in note.vi


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("TraCuuThongTinCongDan", "x.tra-cuu-thong-tin-cong-dan"),
        ("getHTTPStatus2", "x.get-http-status-2"),
        ("get /a/by id", "x.get-a-by-id"),
        ("Tra cứu Đất", "x.tra-cuu-dat"),
        ("snake_case", "x.snake-case"),
    ],
)
def test_a_code_is_the_name_in_words(words: str, code: str) -> None:
    assert code_of("x", words) == code


@pytest.mark.parametrize(("prefix", "words"), [("x", "???"), ("X!", "Find"), ("x" * 99, "Find")])
def test_a_code_that_cannot_be_made_is_refused(prefix: str, words: str) -> None:
    with pytest.raises(Malformed) as refusal:
        code_of(prefix, words)
    assert refusal.value.reason == "import-code-invalid"


def test_two_operations_with_one_code_are_not_both_drafted(tmp_path: Path) -> None:
    paths = {
        f"/{at}": {"get": {"operationId": name, "responses": {"200": {}}}} for at, name in enumerate(("aB", "a_b"))
    }
    (tmp_path / "openapi.json").write_text(json.dumps({"openapi": "3.1.0", "paths": paths}))

    made = drafted(tmp_path / "openapi.json")
    assert [service.code for service in made.services] == ["t.a-b"]
    assert [refusal.problem.reason for refusal in made.refusals] == ["import-code-taken"]


def test_a_chain_of_references_longer_than_the_stack_is_followed(tmp_path: Path) -> None:
    chain: dict[str, Any] = {
        f"S{at}": {"type": "object", "properties": {"next": {"$ref": f"#/components/schemas/S{at + 1}"}}}
        for at in range(1500)
    }
    chain["S1500"] = {"type": "string"}
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/S0"}}}}
    paths = {"/a": {"post": {"operationId": "a", "requestBody": body, "responses": {"204": {}}}}}
    (tmp_path / "openapi.json").write_text(
        json.dumps({"openapi": "3.1.0", "paths": paths, "components": {"schemas": chain}})
    )

    [service] = drafted(tmp_path / "openapi.json").services
    assert len(json.loads(service.files["t.a.schema.json"])["$defs"]) == 1501


@pytest.mark.parametrize(
    ("file", "count"),
    [("population/population.wsdl", 7), ("business_registry/openapi.json", 4)],
)
def test_the_descriptions_of_our_partners_give_services_with_no_hand_edits(
    file: str, count: int, tmp_path: Path
) -> None:
    made = drafted(ROOT / "schemas" / "partners" / file)

    assert not made.refusals
    services = registered(made, tmp_path)
    assert len(services) == count
    assert all(service.content_types == (JSON, XML) for service in services.values())


# Where documents come from

TINY = b'<wsdl:definitions xmlns:wsdl="http://schemas.xmlsoap.org/wsdl/"/>'


@pytest.fixture
def pages() -> dict[str, tuple[str, dict[str, str], bytes]]:
    """Path → status, headers, body."""
    return {}


@pytest.fixture
def host(pages: dict[str, tuple[str, dict[str, str], bytes]]) -> Iterator[Any]:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        status, headers, body = pages.get(environ["PATH_INFO"], ("404 Not Found", {}, b""))
        start_response(status, [("Content-Length", str(len(body))), *headers.items()])
        return [body]

    with serving(application) as recorded:
        yield recorded


def authority(url: str) -> str:
    return url.removeprefix("http://")


def reason_of(call: Callable[[], object]) -> str:
    with pytest.raises(Malformed) as refusal:
        call()
    assert set(refusal.value.facts) <= {"setting", "status", "max_bytes", "max_documents"}
    assert "127." not in refusal.value.detail()
    return refusal.value.reason


def test_documents_are_fetched_from_allowed_hosts_each_once(host: Any, pages: dict[str, Any]) -> None:
    for path in CORPUS.joinpath("wsdl").rglob("*.*"):
        pages[f"/{path.relative_to(CORPUS)}"] = ("200 OK", {}, path.read_bytes())

    for file, code in (("imports-in-imports", "t.find-parcel"), ("includes-itself", "t.find")):
        host.requests.clear()
        made = drafted(f"{host.url}/wsdl/{file}.wsdl", hosts=authority(host.url))
        assert [service.code for service in made.services] == [code]
        asked = [path for _, path, _ in host.requests]
        assert len(asked) == len(set(asked))


def test_a_host_that_nobody_named_is_not_asked(host: Any, pages: dict[str, Any]) -> None:
    pages["/x.wsdl"] = ("200 OK", {}, TINY)

    for hosts in ("", "example.invalid", "127.0.0.1", "127.0.0.1:1"):
        assert reason_of(lambda hosts=hosts: Documents(f"{host.url}/x.wsdl", hosts)) == "import-host-not-allowed"
    assert not host.requests


def test_a_name_that_leads_inside_is_refused_unless_the_address_is_named(host: Any, pages: dict[str, Any]) -> None:
    pages["/x.wsdl"] = ("200 OK", {}, TINY)
    port = host.url.rpartition(":")[2]
    url = f"http://localhost:{port}/x.wsdl"

    with Documents(url, f"localhost:{port}") as documents:
        assert reason_of(lambda: documents.read(documents.first)) == "import-address-private"
    assert not host.requests
    with Documents(url, f"localhost:{port}, 127.0.0.1:{port}, [::1]:{port}") as documents:
        assert documents.read(documents.first) == TINY


def test_a_redirect_to_an_allowed_host_is_not_followed_either(host: Any, pages: dict[str, Any]) -> None:
    pages["/x.wsdl"] = ("302 Found", {"Location": f"{host.url}/y.wsdl"}, b"")
    pages["/y.wsdl"] = ("200 OK", {}, TINY)

    with Documents(f"{host.url}/x.wsdl", authority(host.url)) as documents:
        assert reason_of(lambda: documents.read(documents.first)) == "import-not-fetched"
    assert len(host.requests) == 1


def test_a_fetched_document_may_not_lead_to_other_hosts_or_files(host: Any) -> None:
    with Documents(f"{host.url}/a/x.wsdl", authority(host.url)) as documents:
        for reference in ("http://169.254.169.254/x", "//example.invalid/x", "https://127.0.0.1/x"):
            assert reason_of(lambda to=reference: documents.locate(to, documents.first)) == "import-host-not-allowed"
        for reference in ("file:///etc/passwd", "ftp://127.0.0.1/x", "gopher:x", f"http://u:p@{authority(host.url)}/x"):
            assert reason_of(lambda to=reference: documents.locate(to, documents.first)) == "import-place-refused"
        assert documents.locate("../b.xsd#part", documents.first) == f"{host.url}/b.xsd"


def test_a_document_that_is_too_large_is_refused(host: Any, pages: dict[str, Any], tmp_path: Path) -> None:
    pages["/x.wsdl"] = ("200 OK", {}, b" " * (MAX_DOCUMENT_BYTES + 1))
    (tmp_path / "x.wsdl").write_bytes(b" " * (MAX_DOCUMENT_BYTES + 1))

    for given in (f"{host.url}/x.wsdl", str(tmp_path / "x.wsdl")):
        with Documents(given, authority(host.url)) as documents:
            assert reason_of(lambda: documents.read(documents.first)) == "import-too-large"


def test_documents_without_end_are_refused(host: Any, pages: dict[str, Any]) -> None:
    chain = TINY.decode().replace("/>", '><wsdl:import location="/{}"/></wsdl:definitions>')
    pages |= {f"/{at}": ("200 OK", {}, chain.format(at + 1).encode()) for at in range(MAX_DOCUMENTS + 10)}

    with Documents(f"{host.url}/0", authority(host.url)) as documents:
        assert reason_of(lambda: read_wsdl(documents)) == "import-too-many"
    assert len(host.requests) == MAX_DOCUMENTS


def test_a_host_that_does_not_answer_is_told_without_its_name() -> None:
    url = f"http://127.0.0.1:{closed_port()}/x.wsdl"

    with Documents(url, authority(url).partition("/")[0]) as documents:
        assert reason_of(lambda: documents.read(documents.first)) == "import-not-reachable"


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.xsd").write_text("secret")
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "x.wsdl").write_bytes(TINY)
    (folder / "link.xsd").symlink_to(tmp_path / "secret.xsd")
    documents = Documents(str(folder / "x.wsdl"))

    assert reason_of(lambda: documents.read("link.xsd")) == "import-place-refused"
    assert reason_of(lambda: documents.locate("../secret.xsd", "x.wsdl")) == "import-place-refused"
    assert reason_of(lambda: documents.locate("C:\\secret.xsd", "x.wsdl")) == "import-place-refused"
    assert reason_of(lambda: documents.locate("..\\secret.xsd", "x.wsdl")) == "import-place-refused"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "0.0.0.0",  # noqa: S104 - nothing is bound, it is refused
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "192.0.0.192",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "fec0::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "nonsense",
    ],
)
def test_addresses_of_the_inside_are_known_however_they_are_written(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_of_the_open_network_are_public(address: str) -> None:
    assert is_public(address)


def test_a_host_without_a_port_is_open_on_the_standard_ports_only() -> None:
    hosts = AllowedHosts(" Example.invalid , [2606:4700::1111]:8443 ")

    assert hosts.takes("example.invalid", 80)
    assert hosts.takes("example.invalid", 443)
    assert not hosts.takes("example.invalid", 8080)
    assert hosts.takes("2606:4700::1111", 8443)
    assert not hosts.takes("sub.example.invalid", 443)


def test_the_address_that_was_judged_is_the_one_connected_to(host: Any, pages: dict[str, Any]) -> None:
    """The name exists nowhere: had anything resolved it once more, there would be no answer."""
    pages["/x"] = ("200 OK", {}, b"here")
    port = int(host.url.rpartition(":")[2])
    client = HttpClient(resolve=lambda name, at: ["127.0.0.1"] if (name, at) == ("pinned.invalid", port) else [])

    reply = client.request("GET", f"http://pinned.invalid:{port}/x", headers={}, timeout_seconds=5)
    client.close()
    assert reply.body == b"here"
    assert host.header("host") == [f"pinned.invalid:{port}"]


def test_every_reason_of_the_room_is_worded_without_places() -> None:
    facts = {"setting", "status", "max_bytes", "max_documents", "name"}
    for reason, wording in REASONS.items():
        if reason.startswith("import-"):
            wording.en.format(**dict.fromkeys(facts, "x"))
            wording.vi.format(**dict.fromkeys(facts, "x"))
