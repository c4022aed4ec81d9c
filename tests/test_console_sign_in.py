"""Signing in to the console, in a browser: passwords, one-time codes, rests, sessions, languages."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import pyotp
import pytest
import urllib3
from playwright.sync_api import Page

from bus.people import PersonRole
from schemas.moment import utc_now
from tests.console_house import PASSWORD, ConsoleHouse, assert_accessible, assert_fits
from tests.console_visitor import Visitor


def test_somebody_signs_in_and_out(console_house: ConsoleHouse, page: Page) -> None:
    page.goto(f"{console_house.url}/console/")
    assert "/console/sign-in" in page.url
    assert_accessible(page)
    assert_fits(page)
    console_house.sign_in(page)
    assert "Tổng quan" in page.title()
    page.click("text=English")
    assert "Overview" in page.title()
    assert page.get_attribute("html", "lang") == "en"
    page.click("text=Sign out")
    page.goto(f"{console_house.url}/console/")
    assert "/console/sign-in" in page.url


def test_a_first_password_must_be_changed_before_anything_else(console_house: ConsoleHouse, page: Page) -> None:
    first = console_house.people.add(
        "moi", display_name="Người mới", roles=[PersonRole.OBSERVER], now=utc_now(), by="test"
    )
    page.goto(f"{console_house.url}/console/sign-in")
    page.fill("#name", "moi")
    page.fill("#password", first)
    page.click("main button")
    assert "/console/account" in page.url
    assert_accessible(page)
    page.fill("#old", first)
    page.fill("#new", PASSWORD)
    page.fill("#again", PASSWORD)
    page.click("main button")
    assert "/console/sign-in" in page.url
    page.fill("#name", "moi")
    page.fill("#password", PASSWORD)
    page.click("main button")
    page.wait_for_url(re.compile(r".*/console/$"))


def test_a_one_time_code_is_asked_for_and_counts_once(console_house: ConsoleHouse, page: Page) -> None:
    console_house.sign_in(page, "lan")
    page.goto(f"{console_house.url}/console/account/second")
    assert_accessible(page)
    assert_fits(page)
    seed = page.inner_text("p.code")
    page.fill("#code", pyotp.TOTP(seed).now())
    page.click("main button")
    assert "/console/sign-in" in page.url
    with_code = pyotp.TOTP(seed).at(utc_now(), counter_offset=1)
    for code, inside in (("", False), ("000000", False), (with_code, True), (with_code, False)):
        page.goto(f"{console_house.url}/console/sign-in")
        page.context.clear_cookies()
        page.fill("#name", "lan")
        page.fill("#password", PASSWORD)
        page.fill("#code", code)
        page.click("main button")
        assert ("/console/sign-in" not in page.url) is inside, code


@pytest.mark.parametrize("seed", ["", "1" * 32, "a" * 32, "Ă" * 32, "A" * 31, "A" * 33])
def test_a_seed_that_was_not_made_here_is_not_kept(console_house: ConsoleHouse, seed: str) -> None:
    answer = Visitor.of(console_house, "lan").post("/console/account/second", seed=seed, code="123456")
    assert answer.status == 400
    found = console_house.people.find("lan")
    assert found is not None
    assert not found.has_totp


def test_whoever_guesses_has_to_wait_longer_and_longer(console_house: ConsoleHouse) -> None:
    console_house.person("lan")
    answers = [_post(console_house, "/console/sign-in", name="lan", password="x") for _ in range(6)]
    assert [answer.status for answer in answers] == [401] * 6
    right = _post(console_house, "/console/sign-in", name="lan", password=PASSWORD)
    assert (right.status, "tạm khoá" in right.data.decode()) == (401, True)
    assert "sign-in.locked" in [event.action for event in console_house.people.events()]


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "/console//evil.example",
        "javascript:alert(1)",
        "/docs",
    ],
)
def test_after_signing_in_nobody_is_sent_elsewhere(console_house: ConsoleHouse, address: str) -> None:
    console_house.person("lan")
    answer = _post(console_house, "/console/sign-in", name="lan", password=PASSWORD, next=address)
    assert (answer.status, answer.headers["Location"]) == (303, "/console/")


def test_a_form_of_another_site_changes_nothing(console_house: ConsoleHouse, page: Page) -> None:
    console_house.sign_in(page)
    (cookie,) = [each for each in page.context.cookies() if each["name"] == "lgsp-console"]
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Lax"
    headers = {"Cookie": f"lgsp-console={cookie['value']}"}
    for fields, more in (
        ({}, {}),
        ({"form_key": "wrong"}, {}),
        ({"form_key": _form_key(page)}, {"Origin": "https://evil.example"}),
    ):
        assert _post(console_house, "/console/sign-out", headers={**headers, **more}, **fields).status == 403
    page.reload()
    assert "/console/sign-in" not in page.url


def test_pages_say_what_a_browser_may_do_with_them(console_house: ConsoleHouse) -> None:
    answer = urllib3.request("GET", f"{console_house.url}/console/sign-in", retries=False)
    policy = answer.headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("name", ["../desk.py", "..%2fdesk.py", "desk.py", "bootstrap.bundle.js", ""])
def test_only_what_pages_need_is_served(console_house: ConsoleHouse, name: str) -> None:
    assert urllib3.request("GET", f"{console_house.url}/console/assets/{name}", retries=False).status == 404


def _form_key(page: Page) -> str:
    return page.get_attribute("input[name=form_key]", "value") or ""


def _post(
    console_house: ConsoleHouse, path: str, headers: dict[str, str] | None = None, **fields: str
) -> urllib3.BaseHTTPResponse:
    headers = {**(headers or {}), "Content-Type": "application/x-www-form-urlencoded"}
    body = urlencode(fields)
    return urllib3.request("POST", console_house.url + path, body=body, headers=headers, redirect=False, retries=False)
