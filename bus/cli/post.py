"""``lgsp post``: what becomes of parcels, read from the post's feed and told to those who wait for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from bus.cli import REFUSED, fail
from bus.cli.member import Membership, client_of, membership_of, membership_options, write_whole
from bus.cli.terminal import print_json, printable, session_of
from connectors.base import message_id_of
from connectors.client import AgencyClient
from connectors.partner_json import code_text
from connectors.post import FIRST_ID, PAGE_SIZE, TRACKING, TrackingPage, post_statuses, tracking_pages
from schemas.codec import read_json, write_json
from schemas.identifiers import AgencyCode, DossierCode
from schemas.problem import IdempotencyConflict, Malformed, SchemaViolation

EVENT = "post.event"


@click.group()
def post() -> None:
    """The public post: read its feed."""


@post.command()
@membership_options
@click.option("--from", "provider", required=True, metavar="AGENCY", help="The post, which owns post.tracking.")
@click.option("--to", "receiver", required=True, metavar="AGENCY", help="Who takes post.event; may be your own agency.")
@click.option(
    "--place",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("post-place.json"),
    show_default=True,
    help="File that remembers how far the feed was read; kept after the events are.",
)
@click.option("--page-size", default=PAGE_SIZE, show_default=True, type=click.IntRange(1, PAGE_SIZE))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def tracking(
    context: click.Context, /, provider: str, receiver: str, place: Path, page_size: int, as_json: bool, **who: Any
) -> None:
    """Read what is new in the post's feed, and send each event as a message post.event of its dossier.

    Flows that wait for a parcel go on by it. What a state means is the table schemas/partners/post/statuses.json; one
    that it lacks is sent as neither delivered nor ended. Run it as often as news are wanted: an event is one message
    however often it is read, and a run that breaks off is made up for by the next one. Exit code 1 when a state is not
    in the table, or an event could not be told (it is passed over: one bad line must not hold up all others).

    \b
    Example:
      lgsp post tracking --from G99.31 --to H99.15
    """
    membership = membership_of(who)
    asked, takes = AgencyCode.parse(provider), AgencyCode.parse(receiver)
    last_id, told = _read_place(place), _Told()
    with client_of(membership, session_of(context)) as client:
        for page in _pages(client, asked, membership.purpose, last_id, page_size):
            for event in page.events:
                _tell(client, membership, takes, event, told)
            last_id = page.last_id
            write_whole(place, write_json({"lastId": last_id}) + b"\n")
    if as_json:
        print_json(
            {"sent": told.sent, "last_id": last_id, "unknown_states": sorted(told.strange), "not_told": told.not_told}
        )
    else:
        click.echo(f"{told.sent} event{'' if told.sent == 1 else 's'} sent to {takes}, read up to {last_id}")
        for name, found in (("states unknown", sorted(told.strange)), ("events not told", told.not_told)):
            if found:
                click.echo(f"{name}: {', '.join(map(printable, found))}", err=True)
    if told.strange or told.not_told:
        fail("Complete schemas/partners/post/statuses.json with the states, or look at the events.")


@dataclass(slots=True)
class _Told:
    sent: int = 0
    #: States that the table lacks.
    strange: set[str] = field(default_factory=set)
    #: Ids of events that do not fit the service.
    not_told: list[str] = field(default_factory=list)


def event_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """The payload of ``post.event`` for one event of the feed."""
    code = code_text(event.get("statusCode"))
    status = post_statuses()["delivery"].get(code)
    return {
        "OrderNumber": str(event.get("orderNumber", "")),
        "statusCode": code,
        "statusMessage": str(event.get("statusMessage") or (status.name if status else ""))[:500],
        "delivered": status is not None and status.is_delivered,
        "ended": status is not None and status.is_end,
    }


def _pages(
    client: AgencyClient, provider: AgencyCode, purpose: str, last_id: str, page_size: int
) -> Iterator[TrackingPage]:
    def ask(payload: Mapping[str, Any]) -> bytes:
        return client.call(TRACKING, provider, payload, purpose=purpose).body

    return tracking_pages(ask, last_id=last_id, page_size=page_size)


def _tell(client: AgencyClient, membership: Membership, to: AgencyCode, event: Mapping[str, Any], told: _Told) -> None:
    payload, number = event_of(event), event["_id"]["$oid"]
    if payload["statusCode"] not in post_statuses()["delivery"]:
        told.strange.add(payload["statusCode"])
    try:
        dossier = DossierCode(payload["OrderNumber"])
    except Malformed:  # an order that is about no dossier of ours
        dossier = None
    try:
        client.send(
            EVENT,
            [to],
            payload,
            dossier=dossier,
            purpose=membership.purpose,
            # A feed that is set up anew may count from one again: the number alone would not name the event.
            message_id=message_id_of(
                membership.system, EVENT, to, number, payload["OrderNumber"], payload["statusCode"]
            ),
        )
        told.sent += 1
    except IdempotencyConflict:  # sent before, when the table was another
        return
    except SchemaViolation:
        told.not_told.append(number)


def _read_place(path: Path) -> str:
    if not path.exists():
        return FIRST_ID
    try:
        return str(read_json(path.read_bytes())["lastId"])
    except (Malformed, KeyError, TypeError):
        fail(f"{path} does not say how far the feed was read. Move it away to read from the beginning.", REFUSED)
