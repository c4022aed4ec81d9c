"""`/console/alerts`: what is wrong now, the rules that say so, who is told, and what was wrong before."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from bus.alerts import KINDS, Incident, Kind, Rule, said_of, sentence_of
from bus.assembly import Bus
from bus.incidents import AlertStore
from bus.nodes import Role
from bus.notices import check_webhook, page_of, try_out
from bus.people import note
from bus.watching import WATCH_SECONDS
from bus.web.console.desk import Console, Desk, Right
from schemas.identifiers import AgencyCode, ServiceCode, SystemCode
from schemas.moment import utc_now
from schemas.problem import Malformed, NotFound, NotPermitted, Problem, TooMany

#: Hours that a rule may be muted for, to choose from: until lunch, a day, a weekend, a week.
MUTE_HOURS: Final = (4, 24, 72, 168)
#: A test is a letter to people, and a call to somebody's server.
TEST_EVERY: Final = timedelta(minutes=1)
_PAGE: Final = 50
_MOST_EMAILS: Final = 10
_EMAIL: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")


def install(console: Console) -> None:
    store, settings = AlertStore(console.bus.store), console.bus.settings

    @console.page("/alerts", menu=("Cảnh báo", "Alerts"))
    def alerts(desk: Desk) -> AnyResponse:
        return desk.show("alerts.html", **open_now(desk, store), **_rules(desk, store))

    @console.page("/alerts/open")
    def open_alerts(desk: Desk) -> AnyResponse:
        return desk.part("alerts-open.html", **open_now(desk, store))

    @console.page("/alerts/history")
    def alert_history(desk: Desk) -> AnyResponse:
        found = store.history(desk.scope, request.args.get("before", None, int), _PAGE)
        before = found[-1].id if len(found) == _PAGE else None
        notices = store.notices_of([incident.id for incident in found]) if desk.scope is None else {}
        return desk.show("alerts-history.html", found=found, before=before, notices=notices, **_words(desk))

    @console.page("/alerts/rules/new", Right.MEND)
    def new_alert_rule(desk: Desk) -> AnyResponse:
        _must_be_of_the_province(desk)
        kind = _kind(request.args.get("kind", ""))
        least = 20 if kind is Kind.ERROR_RATE else 0
        return _form(desk, Rule(kind=kind, limit=KINDS[kind].default, least=least))

    @console.page("/alerts/rules/<int:number>", Right.MEND)
    def alert_rule(desk: Desk, number: int) -> AnyResponse:
        _must_be_of_the_province(desk)
        return _form(desk, store.rule(number))

    @console.deed("/alerts/rules", Right.MEND)
    def save_alert_rule(desk: Desk) -> AnyResponse:
        _must_be_of_the_province(desk)
        number = int(request.form.get("id", "0")) if request.form.get("id", "0").isdecimal() else 0
        kind = store.rule(number).kind if number else _kind(request.form.get("kind", ""))
        rule, troubles = _read_rule(desk, kind, number)
        if troubles:
            return _form(desk, rule, troubles)
        event = desk.event(
            "alert-rule.changed" if number else "alert-rule.made",
            "",
            sentence=sentence_of(rule, "vi"),
            enabled=rule.enabled,
            emails=len(rule.emails),
            webhook=bool(rule.webhook),
        )
        store.save(rule, event)
        return desk.back("/console/alerts", "Đã lưu quy tắc.", "The rule is saved.")

    @console.deed("/alerts/rules/<int:number>/test", Right.MEND)
    def try_alert_rule(desk: Desk, number: int) -> AnyResponse:
        """A test to everybody whom the rule tells; noted before it goes out, once a minute for each person."""
        _must_be_of_the_province(desk)
        rule, now = store.rule(number), utc_now()
        if not (rule.emails or rule.webhook):
            raise Malformed("alert-test-nobody")
        event = desk.event(
            "alert-rule.tested", f"alert-rule:{number}", emails=len(rule.emails), webhook=bool(rule.webhook)
        )

        def begin(connection: Any) -> bool:
            note(connection, event)
            return True

        duty = f"alert-test:{desk.person.name}"
        if not desk.bus.nodes.in_turn(duty, desk.bus.cluster.id, now, TEST_EVERY, begin):
            raise TooMany("alert-test-too-soon", retry_after_seconds=int(TEST_EVERY.total_seconds()))
        return desk.show("alerts-test.html", rule=rule, tried=try_out(rule, settings, now), **_words(desk))

    @console.deed("/alerts/rules/<int:number>/mute", Right.MEND)
    def mute_alert_rule(desk: Desk, number: int) -> AnyResponse:
        _must_be_of_the_province(desk)
        hours = int(request.form.get("hours", "0")) if request.form.get("hours", "").isdecimal() else 0
        if hours not in MUTE_HOURS:
            raise NotFound("page-unknown")
        until = utc_now() + timedelta(hours=hours)
        store.mute(number, until, desk.event("alert-rule.muted", "", desk.reason(), hours=hours))
        return desk.back("/console/alerts", "Đã tắt báo; tự bật lại khi hết hạn.", "Muted; it ends by itself.")

    @console.deed("/alerts/rules/<int:number>/unmute", Right.MEND)
    def unmute_alert_rule(desk: Desk, number: int) -> AnyResponse:
        _must_be_of_the_province(desk)
        store.mute(number, None, desk.event("alert-rule.unmuted", ""))
        return desk.back("/console/alerts", "Đã bật báo lại.", "It tells again.")

    def _form(desk: Desk, rule: Rule, troubles: Sequence[str] = ()) -> AnyResponse:
        targets = {
            "system": sorted(desk.directory.systems),
            "service": sorted({code for code, _ in desk.directory.services}),
            "agency": sorted(desk.directory.agencies),
        }.get(KINDS[rule.kind].targets, [])
        return desk.show(
            "alerts-rule.html",
            400 if troubles else 200,
            rule=rule,
            troubles=troubles,
            targets=targets,
            parts=_sentence_parts(desk, rule.kind),
            mail_ready=bool(settings.smtp_url),
            webhook_hosts=settings.alert_hosts,
            hours=MUTE_HOURS,
            kind_any=KINDS[rule.kind].any,
            **_words(desk),
        )

    def _read_rule(desk: Desk, kind: Kind, number: int) -> tuple[Rule, list[str]]:
        """The rule of the form, and the names of the fields that are not right."""
        form, facts, troubles = request.form, KINDS[kind], []
        limit = int(form["limit"]) if form.get("limit", "").isdecimal() and len(form["limit"]) < 6 else -1
        if facts.highest and not facts.lowest <= limit <= facts.highest:
            troubles.append("limit")
        least = int(form["least"]) if form.get("least", "").isdecimal() and len(form["least"]) < 6 else 0
        target = form.get("target", "").strip() if facts.targets else ""
        if target and not _is_known(desk, facts.targets, target):
            troubles.append("target")
        emails = (
            tuple(dict.fromkeys(re.split(r"[\s,;]+", form.get("emails", "").strip()))) if form.get("emails") else ()
        )
        emails = tuple(email for email in emails if email)
        if len(emails) > _MOST_EMAILS or not all(_EMAIL.fullmatch(email) for email in emails):
            troubles.append("emails")
        webhook = form.get("webhook", "").strip()[:500]
        try:
            check_webhook(webhook, settings) if webhook else None
        except Malformed:
            troubles.append("webhook")
        rule = Rule(id=number, kind=kind, limit=max(0, limit) if facts.highest else 0, target=target, least=least,
                    emails=emails, webhook=webhook, enabled=form.get("enabled") == "1")  # fmt: skip
        return rule, troubles


def open_now(desk: Desk, store: AlertStore) -> dict[str, Any]:
    """Also whether anybody watches: where nobody does, an empty list means nothing."""
    return {"open": store.open_incidents(desk.scope), "watched": _is_watched(desk.bus, store), **_words(desk)}


def _is_watched(bus: Bus, store: AlertStore) -> bool:
    """Has a delivery process looked lately, or begun so lately that it has not looked yet?"""
    counts_until, since = store.watched_at(), utc_now() - timedelta(seconds=2 * WATCH_SECONDS)
    if counts_until is not None and counts_until > since:
        return True
    return any(node.role is Role.WORK and node.started_at > since for node in bus.nodes.look().nodes)


def _rules(desk: Desk, store: AlertStore) -> dict[str, Any]:
    """The province's affair: nothing for an agency's own people."""
    rules = store.rules() if desk.scope is None else []
    return {"rules": rules, "kinds": KINDS, "may_change": desk.scope is None and desk.may(Right.MEND),
            "mail_ready": bool(desk.bus.settings.smtp_url)}  # fmt: skip


def _words(desk: Desk) -> dict[str, Any]:
    language = desk.language

    def subject_name(incident: Incident) -> str:
        system = desk.directory.system(incident.subject)
        return system.name if system else ""

    return {
        "sentence": lambda rule: sentence_of(rule, language),
        "words_of": lambda incident: said_of(incident, language),
        "advice": lambda incident: desk.t(*KINDS[incident.rule.kind].advice),
        "kind_name": lambda kind: desk.t(*KINDS[kind].name),
        "page_of": page_of,
        "subject_name": subject_name,
        "reason_words": desk.names.reason,
    }


def _sentence_parts(desk: Desk, kind: Kind) -> list[str]:
    """The sentence cut at its places: words and names of fields in turn, for a form that reads like the sentence."""
    return re.split(r"\{(target|limit|least)\}", desk.t(*KINDS[kind].sentence))


def _kind(name: str) -> Kind:
    """Raises NotFound(page-unknown)."""
    try:
        return Kind(name)
    except ValueError:
        raise NotFound("page-unknown") from None


def _is_known(desk: Desk, targets: str, target: str) -> bool:
    directory = desk.directory
    try:
        match targets:
            case "system":
                return directory.system(SystemCode(target)) is not None
            case "service":
                return directory.service_exists(ServiceCode(target))
            case _:
                return AgencyCode(target) in directory.agencies
    except Problem:
        return False


def _must_be_of_the_province(desk: Desk) -> None:
    """Rules are about everybody. Raises NotPermitted(other-agency)."""
    if desk.scope is not None:
        raise NotPermitted("other-agency")
