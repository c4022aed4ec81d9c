"""The console in a real browser: Debian's Chromium driven by Playwright, against the real application on loopback.

::

    def test_something(console_house, page):         # fixtures of tests/conftest.py
        console_house.person("lan", PersonRole.OPERATOR)     # an account with a known password
        console_house.sign_in(page, "lan")
        page.goto(f"{console_house.url}/console/")
        assert_accessible(page)
        assert_fits(page)                            # at a desk's width and at a telephone's

Pictures of what failed, and those that a test takes with `picture`, go to the folder that LGSP_PICTURES names, else to
pytest's temporary folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from bus.people import AuditEvent, People, PersonRole
from bus.tables import people as people_table
from schemas.identifiers import AgencyCode
from schemas.moment import utc_now
from security.tokens import hash_secret
from tests.bus_world import World

CHROMIUM = "/usr/bin/chromium"
PASSWORD = "con-bò-ăn-cỏ-ngoài-đồng"
_HASH = hash_secret(PASSWORD)
DESK, TELEPHONE = {"width": 1366, "height": 768}, {"width": 390, "height": 844}


@dataclass(frozen=True, kw_only=True)
class ConsoleHouse:
    """A bus with its console on loopback, and accounts."""

    world: World
    url: str
    pictures: Path
    people: People
    made: set[str] = field(default_factory=set)

    def person(self, name: str, *roles: PersonRole, agency: str | None = None) -> None:
        """An account whose password is known and need not be changed."""
        self.people.add(
            name,
            display_name=name.title(),
            roles=roles or tuple(PersonRole),
            now=utc_now(),
            by="test",
            agency=AgencyCode(agency) if agency else None,
        )
        event = AuditEvent(at=utc_now(), person="test", action="password.chosen", target=f"person:{name}")
        self.people.change(name, event, password_hash=_HASH, must_change=0)
        self.made.add(name)

    def sign_in(self, page: Page, name: str = "lan") -> Page:
        """Through the form, as a person does; the account is made when it is not there."""
        if name not in self.made:
            self.person(name)
        page.goto(f"{self.url}/console/sign-in")
        page.fill("#name", name)
        page.fill("#password", PASSWORD)
        page.click("main button")
        page.wait_for_url(re.compile(r".*/console/$"))
        return page

    def picture(self, page: Page, name: str) -> Path:
        path = self.pictures / f"{name}.png"
        page.screenshot(path=path, full_page=True)
        return path


@contextmanager
def open_console(world: World, pictures: Path) -> Iterator[ConsoleHouse]:
    with world.serving() as url:
        yield ConsoleHouse(world=world, url=url, pictures=pictures, people=People(world.bus.store, world.bus.secrets))


@contextmanager
def open_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(browser: Browser, size: Any = None) -> Iterator[Page]:
    """A window of its own, in which no script may fail and nothing may be loaded from elsewhere."""
    context: BrowserContext = browser.new_context(viewport=size or DESK, locale="vi-VN", timezone_id="Asia/Ho_Chi_Minh")
    page = context.new_page()
    trouble: list[str] = []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("console", lambda said: trouble.append(said.text) if _is_trouble(said) else None)
    page.on(
        "request",
        lambda asked: (
            trouble.append(asked.url)
            if "127.0.0.1" not in asked.url and ":" in asked.url and not asked.url.startswith("data:")
            else None
        ),
    )
    try:
        yield page
        assert not trouble, trouble
    finally:
        context.close()


def _is_trouble(said: Any) -> bool:
    # A page of ours that answers 4xx on purpose is no trouble of the page.
    return said.type == "error" and "Failed to load resource" not in said.text


def assert_accessible(page: Page, but: Collection[str] = ()) -> None:
    """No rule of WCAG 2.1 A and AA that axe-core can look at is broken, but for those named."""
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
    found = Axe().run(page, options={"runOnly": {"type": "tag", "values": tags}}).response["violations"]
    told = [(each["id"], [node["html"][:160] for node in each["nodes"]][:3]) for each in found if each["id"] not in but]
    assert not told, told


def assert_fits(page: Page) -> None:
    """Nothing is wider than the window, at a desk's width and at a telephone's."""
    before = page.viewport_size
    for size in (DESK, TELEPHONE):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        page.wait_for_timeout(50)
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0, (page.url, size)
    if before:
        page.set_viewport_size(before)


def picture_folder(temporary: Path) -> Path:
    folder = Path(os.environ.get("LGSP_PICTURES") or temporary)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def rows_of_people(world: World) -> list[Any]:
    with world.bus.store.reading() as connection:
        return list(connection.execute(people_table.select()))
