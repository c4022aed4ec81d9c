"""``lgsp broker``: users at RabbitMQ for members that consume their mailbox themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.table import Table

from bus.broker.accounts import Accounts
from bus.broker.names import mailbox_name
from bus.cli import REFUSED, fail
from bus.cli.opened import opened_bus
from bus.cli.terminal import console, print_json, session_of
from bus.settings import Settings
from registry.model import DeliveryMode, EventDelivery
from schemas.identifiers import SystemCode

_json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")


@click.group()
def broker() -> None:
    """Members' own users at RabbitMQ: each reads its own queues, and nothing else.

    Needs LGSP_BROKER_MANAGEMENT, the address of RabbitMQ's management interface with an administrator's login.
    """


@broker.command()
@click.argument("system")
@_json_option
@click.pass_context
def grant(context: click.Context, system: str, as_json: bool) -> None:
    """Give a registered system a user, or a new password, and its queues: the mailbox of one of mode amqp, the queue of
    one that subscribes to events by queue.

    The password is shown once and kept nowhere: hand it over on a safe way, or grant again.
    """
    code = SystemCode(system)
    with opened_bus(session_of(context)) as bus:
        directory = bus.directory.current()
    registered = directory.system(code)
    mailbox = registered is not None and registered.mode is DeliveryMode.AMQP
    events = registered is not None and any(
        each.system == code and each.delivery is EventDelivery.QUEUE for each in directory.subscriptions.values()
    )
    if not mailbox and not events:
        fail(f"{code} is not registered with mode: amqp, nor subscribed by queue. Register it first.", REFUSED)
    with _accounts(session_of(context).settings) as accounts:
        account = accounts.grant(code, mailbox=mailbox, events=events)
    if as_json:
        print_json(
            {
                "user": account.system,
                "password": account.password,
                "vhost": account.vhost,
                "queue": account.queues[0],
                "queues": list(account.queues),
            }
        )
        return
    click.echo(f"user      {account.system}")
    click.echo(f"password  {account.password}")
    click.echo(f"vhost     {account.vhost}")
    for queue in account.queues:
        click.echo(f"queue     {queue}")
    click.echo("The password is shown this once.", err=True)


@broker.command()
@click.argument("system")
@click.pass_context
def revoke(context: click.Context, system: str) -> None:
    """Remove a member's user and end its connections. Its mailbox stays."""
    code = SystemCode(system)
    with _accounts(session_of(context).settings) as accounts:
        removed = accounts.revoke(code)
    click.echo(f"{code} has no user now; {mailbox_name(code)} stays." if removed else f"{code} had no user.")


@broker.command("list")
@_json_option
@click.pass_context
def list_users(context: click.Context, as_json: bool) -> None:
    """Members' users, and whether somebody gave one more than its mailbox."""
    with _accounts(session_of(context).settings) as accounts:
        found = accounts.users()
    if as_json:
        print_json([{"user": each.system, "reads": each.reads, "wider": each.wider} for each in found])
        return
    table = Table("user", "may read", "")
    for each in found:
        table.add_row(each.system, each.reads, "not as granted" if each.wider else "")
    console().print(table)


@contextmanager
def _accounts(settings: Settings) -> Iterator[Accounts]:
    if not settings.broker_management or not settings.broker_urls:
        fail("Set LGSP_BROKER_URL and LGSP_BROKER_MANAGEMENT, the address of RabbitMQ's management interface.", REFUSED)
    try:
        accounts = Accounts(
            settings.broker_management, settings.broker_urls[0], authority_file=settings.broker_authority
        )
    except ValueError as error:
        fail(f"{error}.", REFUSED)
    try:
        yield accounts
    finally:
        accounts.close()
