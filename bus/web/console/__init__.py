"""`/console/`: what administrators see and mend. The bus makes the pages itself; they load nothing from elsewhere.

::

    desk.py         who asks, what they may, their language; each page and deed names the right it needs
    names.py        how agencies, services, states and reasons are called
    broken_rules.py broken rules of schemas as sentences
    words.py        moments, durations, numbers as people read them
    kept.py         what all open pages of a process share
    signing_in.py   sign in and out, passwords, one-time codes
    <room>.py       one file for each part of the console: ``install(console)`` declares its pages
    templates/, static/

A page reads, a deed changes; a deed has a form key, a reason where it touches messages, and an event in the audit
trail.
"""

from __future__ import annotations

from flask import Blueprint

from bus.assembly import Bus
from bus.web.console import (
    access_pages,
    alerts,
    assets,
    audit_pages,
    bulk,
    dossiers,
    flow_map,
    home,
    key_pages,
    messages,
    openid,
    people_pages,
    refusals,
    registering,
    registry_pages,
    search,
    signing_in,
    statistics,
    subscription_pages,
)
from bus.web.console.desk import Console

#: The parts of the console, in the order of the menu.
PARTS = (
    assets.install,
    signing_in.install,
    openid.install,
    search.install,
    home.install,
    messages.install,
    refusals.install,
    dossiers.install,
    flow_map.install,
    bulk.install,
    alerts.install,
    statistics.install,
    registry_pages.install,
    registering.install,
    subscription_pages.install,
    access_pages.install,
    key_pages.install,
    people_pages.install,
    audit_pages.install,
)


def console_surface(bus: Bus) -> Blueprint:
    """The routes of the console."""
    console = Console(bus)
    for install in PARTS:
        install(console)
    return console.routes
