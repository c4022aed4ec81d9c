"""Carries a notice of an alert to somebody: by mail, or to a webhook. The one place that speaks SMTP.

A notice names systems, services and numbers, never a message's content or a person. A mail server's password travels
under TLS only. Nothing is tried again here; :mod:`bus.watching` does, so a receiver may see a notice twice, under the
same ``Message-ID`` or ``Idempotency-Key``.
"""

from __future__ import annotations

import json
import smtplib
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from bus.alerts import KINDS, Incident, Rule, said_of, sentence_of
from bus.incidents import Channel, Notice
from bus.settings import Settings
from connectors.http import HttpClient, HttpSettings, check_status
from connectors.importing.sources import AllowedHosts
from schemas.moment import VIETNAM, to_micros, to_wire
from schemas.problem import Malformed, Problem, ProviderUnavailable

#: For a whole conversation with a mail server, each answer; and for a webhook's answer.
PATIENCE_SECONDS: Final = 15.0
_HEADINGS: Final = {"opened": "Cảnh báo: ", "closed": "Đã hết: ", "test": "Thư thử, không có sự cố: "}
_TEST_WORDS: Final = (
    "Đây là thư thử của trục dữ liệu: không có sự cố nào. Ai nhận được thư này sẽ được báo khi:",
    "This is a test letter of the data bus: nothing is wrong. Whoever gets it will be told when:",
)
#: A person waits for a test.
TEST_SECONDS: Final = 20.0
_PORTS: Final = {"http": 80, "https": 443}
_Trust = Callable[[], ssl.SSLContext]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What came of a test to one address; neither sent nor a problem: there was no time left."""

    channel: Channel
    address: str
    sent: bool
    problem: Problem | None = None


class Notices:
    """Sends notices. For one thread. ``trust`` makes the TLS context for the mail server; ``patience_seconds`` is for
    each answer."""

    def __init__(
        self,
        settings: Settings,
        *,
        trust: _Trust = ssl.create_default_context,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._settings = settings
        self._patience_seconds = patience_seconds
        self._trust = trust
        self._http = HttpClient(HttpSettings(max_reply_bytes=65_536, kept_connections=1))

    def send(self, notice: Notice) -> None:
        """Raises Problem."""
        if notice.channel == "email":
            self._mail(notice)
        else:
            self._call(notice)

    def close(self) -> None:
        self._http.close()

    def _mail(self, notice: Notice) -> None:
        settings = self._settings
        if not settings.smtp_url:
            raise Malformed("alert-mail-missing", setting="LGSP_SMTP_URL")
        letter = letter_of(notice, settings)
        try:
            with self._connected() as server:
                server.send_message(letter)
        except smtplib.SMTPResponseException as error:
            raise ProviderUnavailable("alert-not-sent", said=str(error.smtp_code)) from None
        except (smtplib.SMTPException, OSError) as error:
            raise ProviderUnavailable("alert-not-sent", said=type(error).__name__) from None

    def _connected(self) -> smtplib.SMTP:
        parts = urlsplit(self._settings.smtp_url)
        host, trust, patience = parts.hostname or "", self._trust(), self._patience_seconds
        if parts.scheme == "smtps":
            server: smtplib.SMTP = smtplib.SMTP_SSL(host, parts.port or 465, timeout=patience, context=trust)
        else:
            server = smtplib.SMTP(host, parts.port or 25, timeout=patience)
        try:
            server.ehlo()
            if parts.scheme == "smtp" and (server.has_extn("starttls") or parts.username):
                server.starttls(context=trust)  # refused where it is not offered: no password in clear
                server.ehlo()
            if parts.username:
                server.login(unquote(parts.username), unquote(parts.password or ""))
        except BaseException:
            server.close()
            raise
        return server

    def _call(self, notice: Notice) -> None:
        check_webhook(notice.address, self._settings)
        key = f"alert-{notice.id}"
        headers = {"Content-Type": "application/json", "Idempotency-Key": key, "User-Agent": "lgsp-bus"}
        body = json.dumps(document_of(notice, self._settings), ensure_ascii=False).encode()
        reply = self._http.request(
            "POST", notice.address, headers={**headers, "Content-Length": str(len(body))}, body=body,
            timeout_seconds=self._patience_seconds,
        )  # fmt: skip
        check_status(reply)


def try_out(rule: Rule, settings: Settings, now: datetime) -> list[Tried]:
    """Send a test to each address of a rule, and say what came of it. Within :data:`TEST_SECONDS` and one answer."""
    incident = Incident(
        id=0, rule=rule, subject=rule.target, agency=None, opened_at=now, seen_at=now, closed_at=None, value=0
    )
    addresses: list[tuple[Channel, str]] = [("email", address) for address in rule.emails]
    addresses += [("webhook", rule.webhook)] if rule.webhook else []
    begun, tried = time.monotonic(), []
    sender = Notices(settings, patience_seconds=5.0)
    try:
        for number, (channel, address) in enumerate(addresses):
            if time.monotonic() - begun > TEST_SECONDS:
                tried.append(Tried(channel=channel, address=address, sent=False))
                continue
            # Its number goes into Message-ID and Idempotency-Key: one of its own, so that no receiver takes it for old.
            notice = Notice(
                id=to_micros(now) + number,
                incident=incident,
                event="test",
                channel=channel,
                address=address,
                made_at=now,
            )
            try:
                sender.send(notice)
            except Problem as problem:
                tried.append(Tried(channel=channel, address=address, sent=False, problem=problem))
            else:
                tried.append(Tried(channel=channel, address=address, sent=True))
    finally:
        sender.close()
    return tried


def check_webhook(url: str, settings: Settings) -> None:
    """Raises Malformed(alert-host-not-allowed) for what the settings do not name."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        raise Malformed("alert-host-not-allowed", setting="LGSP_ALERT_HOSTS") from None
    plain = parts.scheme in _PORTS and "@" not in parts.netloc and url.isascii() and url.isprintable()
    if not plain or " " in url or not AllowedHosts(settings.alert_hosts).takes(parts.hostname or "", port):
        raise Malformed("alert-host-not-allowed", setting="LGSP_ALERT_HOSTS")


def page_of(incident: Incident) -> str:
    """The page of the console that mends it."""
    subject, agency = quote(incident.subject, safe="/"), quote(incident.agency or "", safe="")
    return KINDS[incident.rule.kind].page.format(subject=subject, agency=agency)


def document_of(notice: Notice, settings: Settings) -> dict[str, Any]:
    """What a webhook is told. Of a test: nothing is wrong, and no page mends it."""
    incident = notice.incident
    if notice.event == "test":
        rule = incident.rule
        return {
            "event": "test",
            "kind": rule.kind.value,
            "said": {"vi": _TEST_WORDS[0], "en": _TEST_WORDS[1]},
            "rule": {"vi": sentence_of(rule, "vi"), "en": sentence_of(rule, "en")},
            "page": f"{settings.public_url.rstrip('/')}/console/alerts",
        }
    return {
        "event": notice.event,
        "incident": incident.id,
        "kind": incident.rule.kind.value,
        "subject": incident.subject,
        "value": incident.value,
        "limit": incident.rule.limit,
        "opened_at": to_wire(incident.opened_at),
        "closed_at": to_wire(incident.closed_at) if notice.event == "closed" and incident.closed_at else None,
        "said": {"vi": said_of(incident, "vi"), "en": said_of(incident, "en")},
        "rule": {"vi": sentence_of(incident.rule, "vi"), "en": sentence_of(incident.rule, "en")},
        "page": settings.public_url.rstrip("/") + page_of(incident),
    }


def letter_of(notice: Notice, settings: Settings) -> EmailMessage:
    """The mail, Vietnamese first."""
    incident = notice.incident
    over = notice.event == "closed"
    letter = EmailMessage()
    subject = incident.subject or KINDS[incident.rule.kind].any[0]
    heading = _HEADINGS[notice.event] + KINDS[incident.rule.kind].name[0]
    letter["Subject"] = f"[lgsp-bus] {heading}" + (f" ({subject})" if subject else "")
    letter["From"] = settings.alert_from
    letter["To"] = notice.address
    letter["Date"] = format_datetime(notice.made_at.astimezone(VIETNAM))
    letter["Message-ID"] = f"<alert-{notice.id}@{settings.alert_from.rpartition('@')[2]}>"
    letter["Auto-Submitted"] = "auto-generated"
    link = settings.public_url.rstrip("/")
    if notice.event == "test":
        vi, en = _TEST_WORDS
        parts = [vi, sentence_of(incident.rule, "vi"), "", en, sentence_of(incident.rule, "en")]
    else:
        parts = [_part(incident, "vi", over), f"{link}{page_of(incident)}", "", _part(incident, "en", over)]
    letter.set_content("\n".join([*parts, f"{link}/console/alerts", ""]))
    return letter


def _part(incident: Incident, language: Any, over: bool) -> str:
    place, form = (0, "%d/%m/%Y %H:%M") if language == "vi" else (1, "%Y-%m-%d %H:%M")
    begun = ("Bắt đầu: ", "Since: ")[place] + f"{incident.opened_at.astimezone(VIETNAM):{form}}"
    if over and incident.closed_at is not None:
        ended = ("Đã hết lúc ", "It was over at ")[place] + f"{incident.closed_at.astimezone(VIETNAM):{form}}."
        last = ("Lần cuối: ", "Last seen: ")[place] + said_of(incident, language)
        return "\n".join([ended, last, begun])
    advice = KINDS[incident.rule.kind].advice[place]
    return "\n".join([said_of(incident, language), begun, advice])
