"""Configuration enters here, once, as one frozen object; nothing else in the project reads the environment.

Sources, later ones win: the defaults below, the TOML file named by ``LGSP_CONFIG``, the environment (``LGSP_<NAME>``).
``LGSP_<NAME>_FILE`` names a file that holds the value, for secrets that a store of secrets lays down as files.
A bad value stops the start with the variable's name and what was expected.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from bus.roles import PersonRole


class BadSetting(ValueError):
    """A setting has a value that cannot be used; the text names it and says what is expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of the bus: its type, its meaning, its default. Immutable, safe to share between threads."""

    home: Annotated[Path, "folder of the embedded store, keys and attachments"] = Path("var")
    store_url: Annotated[str, "SQLAlchemy URL of the store; empty: SQLite in the home folder"] = ""
    store_connections: Annotated[int, "most connections of one process to PostgreSQL; a third of them write"] = 15
    store_connect_seconds: Annotated[float, "longest wait for a connection to PostgreSQL, for each of its hosts"] = 5.0
    store_timeout_seconds: Annotated[
        float, "longest that PostgreSQL may take for a statement; half of it for a lock, then it is given up"
    ] = 30.0
    broker_url: Annotated[
        str, "RabbitMQ nodes, comma-separated amqp:// or amqps:// addresses; empty: the store itself is the queue"
    ] = ""
    broker_authority: Annotated[str, "file with the certificates that the broker's are signed by (amqps)"] = ""
    broker_management: Annotated[
        str, "RabbitMQ's management interface, http:// or https://user:password@host:port, for `lgsp broker`"
    ] = ""
    public_url: Annotated[str, "address under which members reach this bus"] = "http://127.0.0.1:8080"
    host: Annotated[str, "address to listen on"] = "127.0.0.1"
    port: Annotated[int, "port to listen on"] = 8080
    surfaces: Annotated[str, "surfaces that this process serves, comma-separated"] = (
        "exchange,soap,partners,registry,docs,operations,console"
    )
    serve_processes: Annotated[int, "web processes of `lgsp serve`"] = 2
    work_host: Annotated[str, "address on which `lgsp work` tells how it is"] = "127.0.0.1"
    work_port: Annotated[int, "its port for /healthz, /readyz and /metrics; 0: none"] = 0
    sandbox_port: Annotated[int, "port of `lgsp sandbox`"] = 8090

    clock_skew_seconds: Annotated[int, "how far a manifest's time may be from ours"] = 300
    soap_fault_status: Annotated[int, "HTTP status of SOAP faults: 500 as the standard says, or 200"] = 500
    max_body_bytes: Annotated[int, "most bytes of a payload"] = 2 * 1024 * 1024
    max_attachment_bytes: Annotated[int, "most bytes of an attachment"] = 512 * 1024 * 1024
    read_timeout_seconds: Annotated[int, "a caller silent for this long in mid-request is cut off"] = 30
    trusted_proxies: Annotated[
        str, "TLS proxies whose word on a caller's client certificate counts: addresses or networks, comma-separated"
    ] = ""
    client_certificate_header: Annotated[str, "the header in which they say it (RFC 9440)"] = "Client-Cert"

    import_hosts: Annotated[
        str, "where `lgsp registry import` may fetch WSDL and OpenAPI documents: `host` or `host:port`, comma-separated"
    ] = ""

    lease_seconds: Annotated[float, "how long a delivery belongs to the one who claimed it"] = 60.0
    deliveries_at_once: Annotated[int, "most deliveries in flight in one `lgsp work`, all receivers together"] = 500
    request_reply_timeout_seconds: Annotated[float, "longest wait for the reply of a request-reply service"] = 30.0
    poll_seconds: Annotated[float, "how often `lgsp work` looks for due deliveries when nothing wakes it"] = 0.5
    breaker_failures: Annotated[int, "failures in a row that open a receiver's circuit breaker"] = 5
    breaker_open_seconds: Annotated[float, "rest of an open breaker before one delivery probes the receiver"] = 15.0
    checkpoint_seconds: Annotated[float, "how often the evidence log is sealed when it has grown"] = 1.0
    timestamp_url: Annotated[
        str,
        "timestamp authorities (RFC 3161), comma-separated http:// or https:// addresses, asked in turn; empty: none",
    ] = ""
    timestamp_authority: Annotated[
        str, "file with the root certificates (PEM) by which their timestamps are believed"
    ] = ""
    timestamp_policy: Annotated[str, "the policy that a timestamp must be given under, as in 1.2.3.4; empty: any"] = ""
    timestamp_seconds: Annotated[float, "how often the latest checkpoint is stamped, if it has no timestamp yet"] = 60.0
    node_beat_seconds: Annotated[
        float, "how often a process tells the others that it lives; after four times that it counts as gone"
    ] = 5.0
    drain_seconds: Annotated[
        float, "pause of `lgsp serve` after SIGTERM: `/readyz` is red and all is answered, so that a proxy looks away"
    ] = 0.0
    strangers_recorded_per_second: Annotated[
        int, "refusals of unidentified callers kept as evidence, a second and process; the rest is only counted"
    ] = 20
    refused_kept_hours: Annotated[
        int, "how long a refused message that lacked nothing but a grant is kept, sealed, to be taken on; 0: not at all"
    ] = 0

    processes: Annotated[
        str, "long flows that run here, comma-separated names of definitions (`lgsp process definitions`); empty: none"
    ] = ""
    process_folder: Annotated[str, "folder of definitions (BPMN) beside those that ship with the bus"] = ""

    keep_bodies_months: Annotated[
        int, "whole months for which bodies of messages and replies are kept, beside the current one; 0: for ever"
    ] = 0
    keep_events_months: Annotated[int, "the same for attempts and what messages said of dossiers; 0: for ever"] = 0

    smtp_url: Annotated[
        str,
        "mail server for alerts: smtp://host:port (STARTTLS where it is offered) or smtps://host:port, with "
        "user:password@ before the host if it asks; empty: no mail",
    ] = ""
    alert_from: Annotated[str, "address that alerts are sent from"] = ""
    alert_hosts: Annotated[
        str, "where webhooks of alerts may go: `host` or `host:port`, comma-separated; empty: nowhere"
    ] = ""

    trace_endpoint: Annotated[
        str, "collector of traces, OTLP over HTTP, as in http://127.0.0.1:4318/v1/traces; empty: no traces"
    ] = ""
    trace_share: Annotated[float, "share of all traces that is kept, 0 to 1"] = 1.0
    log_level: Annotated[str, "debug, info, warning or error"] = "info"
    console_url: Annotated[
        str, "address under which administrators reach the console, as their browsers write it; empty: LGSP_PUBLIC_URL"
    ] = ""
    oidc_issuer: Annotated[
        str, "identity provider whose people sign in to the console (OpenID Connect): its issuer address; empty: none"
    ] = ""
    oidc_client_id: Annotated[str, "what the console is called there"] = ""
    oidc_client_secret: Annotated[str, "the console's secret there"] = ""
    oidc_role_claim: Annotated[
        str, "claim that names somebody's groups, as in `realm_access.roles`; empty: roles are given in the console"
    ] = ""
    oidc_roles: Annotated[
        str, "what a group is here: `group=role,group=role`, roles as `lgsp people add --role` has them"
    ] = ""
    system: Annotated[str, "the bus as a member of its own registry: `<agency>/<name>`"] = "H99/lgsp-bus"
    log_origin: Annotated[str, "name of the evidence log in its checkpoints"] = "lgsp-bus.invalid/evidence"
    #: Where each value came from: ``default``, ``file`` or the variable's name. Printed by ``lgsp doctor``.
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def effective_store_url(self) -> str:
        return self.store_url or f"sqlite:///{self.home / 'lgsp.db'}"

    @property
    def key_folder(self) -> Path:
        return self.home / "keys"

    @property
    def ring_folder(self) -> Path:
        """The bus's signing keys."""
        return self.key_folder / "ring"

    @property
    def log_key_path(self) -> Path:
        """The key that signs checkpoints of the evidence log."""
        return self.key_folder / "evidence-log.pem"

    @property
    def master_key_path(self) -> Path:
        """The keys that seal connector secrets."""
        return self.key_folder / "master-keys.json"

    @property
    def sandbox_credentials_path(self) -> Path:
        """What the connectors log in to the sandbox's twins with; made at its first start."""
        return self.home / "sandbox-credentials.json"

    @property
    def attachment_folder(self) -> Path:
        return self.home / "attachments"

    @property
    def restore_mark_path(self) -> Path:
        """Lies here from the beginning of a restore to its end: a home that has it holds no bus yet."""
        return self.home / "restore-incomplete.json"

    @property
    def wake_folder(self) -> Path:
        return self.home / "wake"

    @property
    def surface_names(self) -> frozenset[str]:
        return frozenset(name.strip() for name in self.surfaces.split(",") if name.strip())

    @property
    def broker_urls(self) -> tuple[str, ...]:
        return tuple(url.strip() for url in self.broker_url.split(",") if url.strip())

    @property
    def timestamp_urls(self) -> tuple[str, ...]:
        return tuple(url.strip() for url in self.timestamp_url.split(",") if url.strip())

    @property
    def oidc_group_roles(self) -> dict[str, frozenset[str]]:
        """Group at the identity provider → roles here. Raises ValueError."""
        found: dict[str, frozenset[str]] = {}
        for part in filter(None, (part.strip() for part in self.oidc_roles.split(","))):
            group, equals, role = part.rpartition("=")
            if not equals or not group.strip() or role.strip() not in set(PersonRole):
                raise ValueError(part)
            found[group.strip()] = found.get(group.strip(), frozenset()) | {role.strip()}
        return found

    @property
    def trusted_proxy_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return tuple(ip_network(part.strip()) for part in self.trusted_proxies.split(",") if part.strip())

    @property
    def process_names(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.processes.split(",") if name.strip())

    @property
    def process_folder_path(self) -> Path | None:
        return Path(self.process_folder) if self.process_folder else None

    def to_environment(self) -> dict[str, str]:
        """The variables that give another process these settings. What came from a file of its own stays there."""
        variables: dict[str, str] = {}
        for name, origin in self.origins.items():
            variable, _, path = origin.partition("=")
            if variable == file_variable_name(name):
                variables[variable] = path
            elif origin != "default":
                variables[variable_name(name)] = str(getattr(self, name))
        return variables


def variable_name(setting: str) -> str:
    return f"LGSP_{setting.upper()}"


def file_variable_name(setting: str) -> str:
    """The variable that names the file that holds the setting's value."""
    return f"{variable_name(setting)}_FILE"


def load_settings(
    overrides: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None, *, config: Path | None = None
) -> Settings:
    """Settings from file, environment and ``overrides`` (command-line options), in rising order of force.

    ``config`` is the file to read instead of the one that ``LGSP_CONFIG`` names. Raises BadSetting.
    """
    environ = os.environ if environ is None else environ
    names = {f.name for f in fields(Settings)} - {"origins"}
    hints = get_type_hints(Settings)
    values: dict[str, Any] = {}
    origins = dict.fromkeys(sorted(names), "default")

    file = config or environ.get("LGSP_CONFIG")
    for name, value in _read_file(Path(file)).items() if file else ():
        if name not in names:
            raise BadSetting(f"{file}: there is no setting '{name}'; `lgsp doctor` lists them all")
        values[name] = _convert(f"{name} in {file}", value, hints[name])
        origins[name] = f"file {file}"
    for name in names:
        variable, file_variable = variable_name(name), file_variable_name(name)
        if (text := environ.get(variable)) is not None:
            values[name] = _convert(variable, text, hints[name])
            origins[name] = variable
        if (path := environ.get(file_variable)) is not None:
            if text is not None:
                raise BadSetting(f"{variable} and {file_variable} are both there: which one counts?")
            values[name] = _convert(file_variable, _read_value(file_variable, path), hints[name])
            origins[name] = f"{file_variable}={path}"
    for name, value in (overrides or {}).items():
        if value is not None:
            values[name] = _convert(name, value, hints[name])
            origins[name] = "command line"

    settings = Settings(**values, origins=origins)
    _check(settings)
    return settings


def setting_meanings() -> dict[str, str]:
    """What each setting is for, by name, in the order of the class."""
    hints = get_type_hints(Settings, include_extras=True)
    return {f.name: hints[f.name].__metadata__[0] for f in fields(Settings) if f.name != "origins"}


def shown_settings(settings: Settings) -> Iterator[tuple[str, str]]:
    """Name and value of each setting as they may be shown: addresses without passwords, no secrets."""
    for name in setting_meanings():
        value = str(getattr(settings, name))
        if name.endswith(("_secret", "_password")):
            value = "***" if value else ""
        yield name, without_password(value) if "//" in value else value


def without_password(url: str) -> str:
    """The address of a store or broker as it may be shown."""
    url = re.sub(r"(//[^/@:]*):[^/@]*@", r"\1:***@", url)
    return re.sub(r"(?i)((?:password|passfile|sslpassword)=)[^&]*", r"\1***", url)


def child_environment(settings: Settings) -> dict[str, str]:
    """The environment for a process of ours started by this one: what we got, and what the command line changed."""
    said = settings.to_environment()
    # A value and a file for the same setting would contradict each other.
    decided = {form(name) for name in settings.origins for form in (variable_name, file_variable_name)}
    return {name: value for name, value in os.environ.items() if name not in decided} | said


def user_language(environ: Mapping[str, str] | None = None) -> Literal["vi", "en"]:
    """The language of the person at the terminal, as POSIX tells it (LC_ALL before LC_MESSAGES before LANG)."""
    environ = os.environ if environ is None else environ
    spoken = next((value for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (value := environ.get(name))), "")
    return "vi" if spoken.lower().startswith("vi") else "en"


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadSetting(f"the settings file {path} cannot be read: {error}") from error


def _read_value(variable: str, path: str) -> str:
    """A file with one value; a line's end after it does not count."""
    try:
        value = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"{variable}: the file cannot be read ({type(error).__name__})") from error
    return value.rstrip("\r\n")


def _convert(name: str, value: Any, wanted: type) -> Any:
    try:
        converted = wanted(value)
    except (TypeError, ValueError, OverflowError):
        raise BadSetting(f"{name}: expected {wanted.__name__}") from None
    # TOML has types of its own: `port = 80.5`, `port = true` and a list for a text are mistakes, not conversions.
    mistaken = isinstance(value, bool | list | dict) or (wanted is int and isinstance(value, float))
    if mistaken or (isinstance(converted, float) and not math.isfinite(converted)):
        raise BadSetting(f"{name}: expected {wanted.__name__}")
    return converted


def _check(settings: Settings) -> None:
    positive = (
        "port", "serve_processes", "clock_skew_seconds", "max_body_bytes", "max_attachment_bytes", "lease_seconds",
        "deliveries_at_once", "request_reply_timeout_seconds", "poll_seconds", "checkpoint_seconds",
        "breaker_failures", "read_timeout_seconds", "sandbox_port", "node_beat_seconds", "store_connect_seconds",
        "store_timeout_seconds", "timestamp_seconds",
    )  # fmt: skip
    for name in positive:
        if getattr(settings, name) <= 0:
            raise BadSetting(f"{variable_name(name)}: must be more than 0")
    for name in (
        "breaker_open_seconds", "strangers_recorded_per_second", "drain_seconds", "keep_bodies_months",
        "keep_events_months", "refused_kept_hours", "work_port",
    ):  # fmt: skip
        if getattr(settings, name) < 0:
            raise BadSetting(f"{variable_name(name)}: must not be negative")
    if settings.store_connections < 3:
        raise BadSetting("LGSP_STORE_CONNECTIONS: must be at least 3")
    if settings.soap_fault_status not in (200, 500):
        raise BadSetting("LGSP_SOAP_FAULT_STATUS: must be 500 or 200")
    if max(settings.port, settings.sandbox_port, settings.work_port) > 65535:
        raise BadSetting("LGSP_PORT, LGSP_SANDBOX_PORT and LGSP_WORK_PORT: must be at most 65535")
    if not 0 <= settings.trace_share <= 1:
        raise BadSetting("LGSP_TRACE_SHARE: must be 0 to 1")
    if settings.trace_endpoint and not settings.trace_endpoint.startswith(("http://", "https://")):
        raise BadSetting("LGSP_TRACE_ENDPOINT: expected an http:// or https:// address")
    _check_timestamps(settings)
    _check_mail(settings)
    _check_openid(settings)
    try:
        settings.trusted_proxy_networks  # noqa: B018  # reading it is the check
    except ValueError:
        raise BadSetting("LGSP_TRUSTED_PROXIES: expected addresses or networks, as in 10.1.2.3,10.1.4.0/24") from None
    header = settings.client_certificate_header
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*", header) or _is_read_already(header):
        raise BadSetting("LGSP_CLIENT_CERTIFICATE_HEADER: expected a header that the bus does not read otherwise")
    if settings.log_level.lower() not in {"debug", "info", "warning", "error"}:
        raise BadSetting("LGSP_LOG_LEVEL: expected debug, info, warning or error")
    unknown = settings.surface_names - {"exchange", "soap", "partners", "registry", "docs", "operations", "console"}
    if unknown:
        raise BadSetting(f"LGSP_SURFACES: there is no surface '{sorted(unknown)[0]}'")


def _check_timestamps(settings: Settings) -> None:
    if not all(url.startswith(("http://", "https://")) for url in settings.timestamp_urls):
        raise BadSetting("LGSP_TIMESTAMP_URL: expected http:// or https:// addresses")
    if settings.timestamp_urls and not settings.timestamp_authority:
        raise BadSetting("LGSP_TIMESTAMP_AUTHORITY: expected the file with the authority's root certificates")
    if settings.timestamp_policy and not re.fullmatch(r"[0-2](\.(0|[1-9][0-9]*)){2,}", settings.timestamp_policy):
        raise BadSetting("LGSP_TIMESTAMP_POLICY: expected an object identifier, as in 1.2.3.4")


def _check_mail(settings: Settings) -> None:
    if settings.smtp_url and not re.fullmatch(r"smtps?://(\S+@)?[^\s/@]+/?", settings.smtp_url):
        raise BadSetting("LGSP_SMTP_URL: expected smtp://host:port or smtps://host:port")
    if settings.smtp_url and not re.fullmatch(r"[^\s@<>,;\"]+@[A-Za-z0-9.-]+", settings.alert_from):
        raise BadSetting("LGSP_ALERT_FROM: expected the address that alerts are sent from")


def _check_openid(settings: Settings) -> None:
    for name in ("oidc_issuer", "console_url"):
        if getattr(settings, name) and not re.fullmatch(r"https?://[^\s?#]+", getattr(settings, name)):
            raise BadSetting(f"{variable_name(name)}: expected an http:// or https:// address")
    if settings.oidc_issuer and not (settings.oidc_client_id and settings.oidc_client_secret):
        raise BadSetting("LGSP_OIDC_ISSUER: needs LGSP_OIDC_CLIENT_ID and LGSP_OIDC_CLIENT_SECRET beside it")
    try:
        groups = settings.oidc_group_roles
    except ValueError:
        raise BadSetting(f"LGSP_OIDC_ROLES: expected group=role,…; roles are {', '.join(PersonRole)}") from None
    if settings.oidc_role_claim and not groups:
        raise BadSetting("LGSP_OIDC_ROLE_CLAIM: needs LGSP_OIDC_ROLES beside it")


def _is_read_already(header: str) -> bool:
    """Would a proxy's word on certificates stand in a header that callers write?"""
    taken = {"authorization", "host", "traceparent", "tracestate", "soapaction", "accept", "accept-language", "range"}
    return header.lower() in taken or header.lower().startswith(("lgsp-", "content-", "transfer-"))
