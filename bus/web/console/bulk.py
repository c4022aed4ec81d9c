"""`/console/bulk`: what could not be delivered, sent again or set aside, many at once."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, urlencode

from flask import request
from markupsafe import Markup
from werkzeug.wrappers import Response as AnyResponse

from bus.bulk import MOST_IN_A_BATCH, Bulk, Deed, Job, Meant, Order, Preview, Touched
from bus.web.console.desk import Console, Desk, Right
from bus.web.console.words import Words
from schemas.identifiers import AgencyCode, DossierCode, ServiceCode, SystemCode
from schemas.moment import VIETNAM, from_micros, to_micros, utc_now
from schemas.problem import NotFound

#: Deliveries of one batch to choose from.
BATCHES: Final = (50, 200, MOST_IN_A_BATCH)
_PAGE: Final = 50

DEED_NAMES: Final = {
    Deed.REPLAY: ("Gửi lại", "Send again"),
    Deed.SET_ASIDE: ("Gác lại", "Set aside"),
    Deed.TAKE_BACK: ("Lấy lại", "Take back"),
}
#: Filter facts in an address, but for the times.
_FACTS: Final = ("system", "service", "reason", "sender", "dossier")


def install(console: Console) -> None:
    bulk = Bulk(console.bus.store, console.bus.ledger)

    @console.page("/bulk", menu=("Xử lý hàng loạt", "Bulk work"))
    def bulk_work(desk: Desk) -> AnyResponse:
        aside = request.args.get("view") == "aside"
        given, trouble = _given(request.args)
        meant = _meant(desk, given)
        source = Deed.TAKE_BACK if aside else Deed.REPLAY
        preview = bulk.preview(source, meant)
        return desk.show(
            "bulk.html",
            aside=aside,
            given=given,
            trouble=trouble,
            filtered=any(given.values()),
            preview=preview,
            reasons=bulk.reasons(source, desk.scope) if any(given.values()) else _reasons_in(preview),
            jobs=bulk.jobs(desk.scope, most=10),
            seen_at=to_micros(utc_now()),
            form=secrets.token_urlsafe(12),
            batches=BATCHES,
            deed_name=_deed_name(desk),
            reason_words=desk.names.reason,
            address=_address,
            query=lambda **facts: _address({**given, **facts}, aside),
        )

    @console.deed("/bulk/order", Right.MEND)
    def order_bulk_work(desk: Desk) -> AnyResponse:
        form = request.form
        # `only_…`: the filter's "reason" is another one than the order's.
        given, trouble = _given({name.removeprefix("only_"): form[name] for name in form if name.startswith("only_")})
        if trouble:  # less of a filter would be more of a deed
            raise NotFound("page-unknown")
        meant = _meant(desk, given, _seen_at(form.get("seen_at", "")))
        deed = Deed(form["deed"]) if form.get("deed") in set(Deed) else None
        if deed is None:
            raise NotFound("page-unknown")
        batch = int(form["batch"]) if form.get("batch", "").isdecimal() else BATCHES[1]
        order = Order(form=form.get("form", "")[:40] or secrets.token_urlsafe(12), deed=deed, meant=meant,
                      reason=desk.reason(), batch=batch)  # fmt: skip
        number = bulk.order(order, desk.event("bulk.ordered", "", order.reason))
        return desk.back(f"/console/bulk/{number}", "Đã nhận việc; tiến độ hiện bên dưới.", "Ordered; see how it goes.")

    @console.page("/bulk/<int:number>")
    def bulk_job(desk: Desk, number: int) -> AnyResponse:
        job = _job(desk, number)
        after = request.args.get("after", -1, int)
        moved = bulk.moved_by(number, after, _PAGE)
        return desk.show(
            "bulk-job.html",
            moved=moved,
            after=moved[-1].delivery_id if len(moved) == _PAGE else None,
            events=console.people.events(target=f"bulk:{number}"),
            **_of_job(desk, job),
        )

    @console.page("/bulk/<int:number>/progress")
    def bulk_progress(desk: Desk, number: int) -> AnyResponse:
        return desk.part("bulk-progress.html", **_of_job(desk, _job(desk, number)))

    @console.deed("/bulk/<int:number>/stop", Right.MEND)
    def stop_bulk_work(desk: Desk, number: int) -> AnyResponse:
        job = _job(desk, number)
        event = desk.event("bulk.stopped", f"bulk:{number}", desk.reason(), job.agency)
        if bulk.stop(number, event):
            return desk.back(f"/console/bulk/{number}", "Đã dừng.", "Stopped.")
        return desk.back(f"/console/bulk/{number}", "Việc này đã kết thúc từ trước.", "It had ended before.")

    @console.page("/bulk/letter", Right.MEND)
    def letter_to_partner(desk: Desk) -> AnyResponse:
        given, _ = _given(request.args)
        preview = bulk.preview(Deed.REPLAY, _meant(desk, given))
        facts = _letter_facts(desk, given, preview.sample)
        return desk.show("bulk-letter.html", preview=preview, given=given, letter=facts, mailto=_mailto,
                         reason_words=desk.names.reason)  # fmt: skip

    def _job(desk: Desk, number: int) -> Job:
        job = bulk.job(number)
        desk.must_see(job.agency)
        return job


def _reasons_in(preview: Preview) -> list[str]:
    return sorted({group.reason for group in preview.groups})


def _of_job(desk: Desk, job: Job) -> dict[str, Any]:
    return {
        "job": job,
        "deed_name": _deed_name(desk),
        "reason_words": desk.names.reason,
        "meant_words": list(_meant_words(desk, job.meant)),
    }


# ── filters ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _given(values: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """The filter as it was written, without what cannot be read; and the name of the field that could not."""
    given = {name: values.get(name, "").strip()[:200] for name in (*_FACTS, "since", "until")}
    trouble = ""
    for name, read in _READ.items():
        try:
            read(given[name]) if given[name] else None
        except Exception:  # a value that is none: said on the page
            given[name], trouble = "", name
    return given, trouble


def _local(text: str) -> datetime:
    """``2026-11-22T08:05`` as a form writes it, in Vietnam's time. Raises ValueError."""
    return datetime.fromisoformat(text).replace(tzinfo=VIETNAM)


_READ: Final[dict[str, Any]] = {
    "system": SystemCode,
    "service": ServiceCode,
    "sender": AgencyCode.parse,
    "dossier": DossierCode,
    "since": _local,
    "until": _local,
}


def _meant(desk: Desk, given: Mapping[str, str], seen_at: datetime | None = None) -> Meant:
    """``seen_at``: what died after it was not on the page that ordered this."""
    until = _local(given["until"]) if given["until"] else None
    if seen_at is not None:
        until = min(until, seen_at) if until else seen_at
    return Meant(
        system=SystemCode(given["system"]) if given["system"] else None,
        service=ServiceCode(given["service"]) if given["service"] else None,
        reason=given["reason"] or None,
        sender=AgencyCode.parse(given["sender"]) if given["sender"] else None,
        dossier=DossierCode(given["dossier"]) if given["dossier"] else None,
        since=_local(given["since"]) if given["since"] else None,
        until=until,
        agency=desk.scope,
    )


def _seen_at(text: str) -> datetime:
    """When the page was made that ordered this; now where a form does not say it."""
    now = utc_now()
    return min(from_micros(int(text)), now) if text.isdecimal() and len(text) < 18 else now


def _address(facts: Mapping[str, Any], aside: bool = False, page: str = "/console/bulk") -> str:
    """The address of this filter."""
    query = {name: value for name, value in facts.items() if value}
    if aside:
        query["view"] = "aside"
    return page + ("?" + urlencode(query) if query else "")


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _deed_name(desk: Desk) -> Any:
    return lambda deed: desk.t(*DEED_NAMES[Deed(deed)])


def _meant_words(desk: Desk, meant: Meant) -> Iterator[tuple[str, str]]:
    t, moment = desk.t, Words(desk.language).moment
    for name, value in (
        (t("Hệ thống nhận", "Receiving system"), meant.system),
        (t("Dịch vụ", "Service"), meant.service),
        (t("Nguyên nhân", "Cause"), meant.reason and desk.names.reason(meant.reason)),
        (t("Bên gửi", "Sender"), meant.sender),
        (t("Hồ sơ", "Dossier"), meant.dossier),
        (t("Thất bại từ", "Failed since"), meant.since and moment(meant.since)),
        (t("Thất bại trước", "Failed before"), meant.until and moment(meant.until)),
        (t("Chỉ của cơ quan", "Only of agency"), meant.agency),
    ):
        if value:
            yield name, str(value)


# ── the letter ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _letter_facts(desk: Desk, given: Mapping[str, str], sample: Sequence[Touched]) -> dict[str, Any]:
    """What a letter names: parties, and trace ids by which the partner finds the same calls. Nothing of a content and
    no dossier: letters travel outside."""
    system = given["system"] or (sample[0].system if sample else "")
    member = desk.directory.system(SystemCode.unchecked(system)) if system else None
    agency = desk.directory.agency(member.agency) if member else None
    return {
        "system": system,
        "system_name": member.name if member else "",
        "agency_name": agency.name if agency else "",
        "traces": list(dict.fromkeys(each.trace_id for each in sample))[:10],
        "bus": desk.bus.settings.system,
    }


def _mailto(title: Markup, body: Markup) -> str:
    """RFC 6068: lines end with CRLF. Mail programs take about two thousand characters."""
    subject, lines = title.unescape(), "\r\n".join(body.unescape().strip().splitlines())
    while len(quote(lines, safe="")) > 1800:
        lines = lines[: len(lines) * 9 // 10]
    return f"mailto:?subject={quote(subject, safe='')}&body={quote(lines, safe='')}"
