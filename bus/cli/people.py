"""`lgsp people`: who may sign in to the console, for the machine's own operator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from bus.roles import PersonRole

if TYPE_CHECKING:
    from bus.cli import Session
    from bus.people import People

_ROLES = [role.value for role in PersonRole]


@click.group()
def people() -> None:
    """Who may sign in to the console (`/console/`), and as what.

    \b
    Examples:
      lgsp people add lan.nguyen --display-name "Nguyễn Thị Lan" --role operator
      lgsp people add so-tu-phap --role observer --agency H99.16
      lgsp people password lan.nguyen          # a new first password, told this once
    """


@people.command("list")
@click.pass_obj
def list_people(session: Session) -> None:
    """Every account."""
    from bus.people import roles_text

    with _opened(session) as store:
        for person in store.all():
            state = "disabled" if person.disabled_at else "one-time code" if person.has_totp else ""
            scope = person.agency or "all"
            click.echo(f"{person.name:<24} {roles_text(person.roles):<40} {scope:<12} {state}")


@people.command()
@click.argument("name")
@click.option("--display-name", default="", help="As it is shown.")
@click.option("--role", "roles", multiple=True, required=True, type=click.Choice(_ROLES), help="May be given again.")
@click.option("--agency", default=None, help="Sees this agency only.")
@click.option(
    "--subject", default=None, help='"ISSUER SUBJECT" of OpenID Connect: signs in there, without a password here.'
)
@click.pass_obj
def add(
    session: Session, name: str, display_name: str, roles: tuple[str, ...], agency: str | None, subject: str | None
) -> None:
    """A new account; prints its first password once."""
    from schemas.identifiers import AgencyCode
    from schemas.moment import utc_now

    with _opened(session) as store:
        password = store.add(
            name,
            display_name=display_name,
            roles=[PersonRole(role) for role in roles],
            now=utc_now(),
            by="command-line",
            agency=AgencyCode(agency) if agency else None,
            subject=subject,
        )
    click.echo(f"{name}: {password or 'signs in with OpenID Connect'}")


@people.command()
@click.argument("name")
@click.pass_obj
def password(session: Session, name: str) -> None:
    """A new first password, printed once; one-time codes must be set up again."""
    _change(
        session, name, "password.reset", lambda store, event: click.echo(f"{name}: {store.new_password(name, event)}")
    )


@people.command()
@click.argument("name")
@click.pass_obj
def disable(session: Session, name: str) -> None:
    """Nobody signs in with it any more; open sessions end."""
    _change(session, name, "person.disabled", lambda store, event: store.disable(name, event))


@people.command()
@click.argument("name")
@click.pass_obj
def enable(session: Session, name: str) -> None:
    """The opposite; also ends a rest after too many failures."""
    _change(session, name, "person.enabled", lambda store, event: store.enable(name, event))


def _change(session: Session, name: str, action: str, do: Callable[..., object]) -> None:
    from bus.people import AuditEvent, trail_name
    from schemas.moment import utc_now

    with _opened(session) as store:
        do(store, AuditEvent(at=utc_now(), person="command-line", action=action, target=trail_name(name)))


@contextmanager
def _opened(session: Session) -> Iterator[People]:
    from bus.people import People
    from bus.store import open_store
    from security.secrets import SecretBox

    store = open_store(session.settings)
    try:
        yield People(store, SecretBox.load(session.settings.master_key_path))
    finally:
        store.close()
