"""Signing in by way of an identity provider, which answers over HTTP with real signed tokens."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import urllib3
from joserfc.jwk import OctKey, RSAKey
from playwright.sync_api import Page

from bus.openid import Attempt
from bus.openid import IdentityProvider as TheProvider
from bus.people import AuditEvent, People, PersonRole
from bus.settings import BadSetting, load_settings
from bus.web.app import create_app
from schemas.moment import utc_now
from schemas.problem import NotIdentified
from tests.bus_world import World, bus_world
from tests.console_house import assert_accessible, assert_fits
from tests.identity_provider import CLIENT, SECRET, IdentityProvider, identity_provider
from tests.loopback import closed_port, serving


@dataclass(frozen=True, kw_only=True)
class Site:
    """A bus with an identity provider."""

    url: str
    provider: IdentityProvider
    people: People
    world: World

    def add(self, name: str = "lan", subject: str = "u-1") -> None:
        self.people.add(
            name, display_name="Lan", roles=[PersonRole.OPERATOR], now=utc_now(), by="test",
            subject=f"{self.provider.url} {subject}",
        )  # fmt: skip


@pytest.fixture
def settings() -> dict[str, str]:
    return {}


@pytest.fixture
def site(tmp_path: Path, settings: dict[str, str]) -> Iterator[Site]:
    port = closed_port()
    with identity_provider() as provider:
        known = {"oidc_issuer": provider.url, "oidc_client_id": CLIENT, "oidc_client_secret": SECRET}
        url = f"http://127.0.0.1:{port}"
        with (
            bus_world(tmp_path, console_url=url, **known, **settings) as world,
            serving(create_app(world.bus), port),
        ):
            yield Site(
                url=url, provider=provider, people=People(world.bus.store, world.bus.secrets), world=world
            )  # fmt: skip


class Browser:
    """As much of a browser as redirects and cookies need; each step can be taken by somebody hostile."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.cookies: dict[str, str] = {}

    def get(self, url: str) -> urllib3.BaseHTTPResponse:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {"Cookie": cookies} if cookies and url.startswith(self.site.url) else {}
        answer = urllib3.request("GET", url, headers=headers, redirect=False, retries=False)
        for line in answer.headers.getlist("Set-Cookie"):
            name, _, value = line.split(";")[0].partition("=")
            self.cookies[name] = value
        return answer

    def begin(self, following: str = "/console/registry") -> str:
        """Up to where the provider sends the browser back."""
        begun = self.get(f"{self.site.url}/console/sign-in/openid/begin?{urlencode({'next': following})}")
        assert begun.status == 303, begun.data
        return self.get(begun.headers["Location"]).headers["Location"]


def test_somebody_signs_in_with_the_provinces_account(site: Site, page: Page) -> None:
    site.add()
    page.goto(f"{site.url}/console/")
    assert_accessible(page)
    assert_fits(page)
    page.click("text=Đăng nhập bằng tài khoản của tỉnh")
    page.wait_for_url(re.compile(r".*/console/$"))
    page.goto(f"{site.url}/console/account")
    assert "Lan" in page.inner_text("main")
    assert page.locator("#old").count() == 0, "there is no password to change"
    (event,) = site.people.events(action="sign-in")
    assert event.person == "lan"


def test_a_sign_in_leads_where_it_was_begun_and_nowhere_else(site: Site) -> None:
    site.add()
    for following, place in (("/console/registry", "/console/registry"), ("https://evil.example/", "/console/")):
        browser = Browser(site)
        answer = browser.get(browser.begin(following))
        assert (answer.status, answer.headers["Location"]) == (303, place)


def test_a_stranger_is_told_so_and_noted_for_the_security_officer(site: Site) -> None:
    browser = Browser(site)
    answer = browser.get(browser.begin())
    assert answer.status == 401
    assert "lgsp-console" not in browser.cookies
    (event,) = site.people.events(action="sign-in.stranger")
    assert event.facts["subject"] == f"{site.provider.url} u-1"


def test_a_disabled_account_stays_out(site: Site) -> None:
    site.add()
    event = AuditEvent(at=utc_now(), person="test", action="person.disabled", target="person:lan")
    site.people.disable("lan", event)
    browser = Browser(site)
    assert browser.get(browser.begin()).status == 401


def _refused(site: Site, browser: Browser, address: str) -> None:
    answer = browser.get(address)
    assert answer.status == 401
    assert not browser.cookies.get("lgsp-console")
    assert site.people.events(action="sign-in") == []
    assert answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://evil.example"},
        {"iss": None},
        {"aud": "another-client"},
        {"aud": None},
        {"aud": [CLIENT, "another-client"]},
        {"azp": "another-client"},
        {"nonce": "another"},
        {"nonce": None},
        {"exp": int(time.time()) - 120},
        {"exp": None},
        {"iat": int(time.time()) + 3600},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
    ],
    ids=lambda changed: next(f"{name}-{type(value).__name__}" for name, value in changed.items()),
)
def test_a_token_that_is_not_for_this_very_sign_in_opens_nothing(site: Site, changed: dict[str, Any]) -> None:
    site.add()
    site.provider.changed = changed
    browser = Browser(site)
    _refused(site, browser, browser.begin())


@pytest.mark.parametrize(
    "algorithm, key",
    [
        ("RS256", RSAKey.generate_key(2048, {"kid": "k1"}, auto_kid=False)),
        ("HS256", OctKey.import_key(SECRET.encode())),
    ],
    ids=["somebody else's key", "the client's secret"],
)
def test_a_token_under_another_key_opens_nothing(site: Site, algorithm: str, key: RSAKey | OctKey) -> None:
    site.add()
    site.provider.forged, site.provider.algorithm = key, algorithm
    browser = Browser(site)
    _refused(site, browser, browser.begin())


def test_only_the_browser_that_began_can_end_it(site: Site) -> None:
    site.add()
    began, other = Browser(site), Browser(site)
    address = began.begin()
    _refused(site, Browser(site), address)
    other.begin()
    _refused(site, other, address)
    state = parse_qs(urlsplit(address).query)["state"][0]
    careless = Browser(site)
    own = careless.begin()  # all is right but the state
    _refused(site, careless, own.replace(parse_qs(urlsplit(own).query)["state"][0], state))
    _refused(site, began, f"{site.url}/console/sign-in/openid?{urlencode({'state': state, 'code': 'guessed'})}")


@pytest.mark.parametrize("query", ["", "code=x", "state=x", "error=access_denied&state=x"])
def test_an_answer_without_a_question_is_no_sign_in(site: Site, query: str) -> None:
    _refused(site, Browser(site), f"{site.url}/console/sign-in/openid?{query}")
    forged = Browser(site)
    forged.cookies["lgsp-openid"] = "AAAA"
    _refused(site, forged, f"{site.url}/console/sign-in/openid?{query}")


def test_a_code_counts_once(site: Site) -> None:
    site.add()
    browser = Browser(site)
    address = browser.begin()
    kept = dict(browser.cookies)
    assert browser.get(address).status == 303
    browser.cookies = kept
    assert browser.get(address).status == 401


def test_new_keys_of_the_provider_are_fetched_but_not_for_every_forged_token(tmp_path: Path) -> None:
    with identity_provider() as provider:
        environ = {
            "LGSP_HOME": str(tmp_path), "LGSP_OIDC_ISSUER": provider.url, "LGSP_OIDC_CLIENT_ID": CLIENT,
            "LGSP_OIDC_CLIENT_SECRET": SECRET,
        }  # fmt: skip
        client, now = TheProvider(load_settings(environ=environ)), utc_now()

        def sign_in(moment: datetime) -> str:
            attempt = Attempt.new()
            back = urllib3.request("GET", client.address(attempt, moment), redirect=False, retries=False)
            code = parse_qs(urlsplit(back.headers["Location"]).query)["code"][0]
            return client.redeem(code, attempt, moment).subject

        assert sign_in(now) == f"{provider.url} u-1"
        provider.key = RSAKey.generate_key(2048, {"kid": "k1"}, auto_kid=False)
        with pytest.raises(NotIdentified):
            sign_in(now + timedelta(seconds=20))
        assert sign_in(now + timedelta(seconds=40)) == f"{provider.url} u-1"


def test_a_provider_that_is_down_leaves_the_other_door_open(site: Site) -> None:
    site.provider.down = True
    answer = Browser(site).get(f"{site.url}/console/sign-in/openid/begin")
    assert answer.status == 503
    assert b'name="password"' in answer.data


class TestRolesOfTheProvider:
    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {
            "oidc_role_claim": "realm_access.roles",
            "oidc_roles": "van-hanh=operator, kiem-tra=auditor, kiem-tra=observer",
        }

    def test_groups_there_are_roles_here(self, site: Site) -> None:
        site.add()
        for groups, roles in (
            (["kiem-tra", "khac"], {PersonRole.AUDITOR, PersonRole.OBSERVER}),
            (["van-hanh"], {PersonRole.OPERATOR}),
        ):
            site.provider.changed = {"realm_access": {"roles": groups}}
            browser = Browser(site)
            assert browser.get(browser.begin()).status == 303
            person = site.people.find("lan")
            assert person is not None
            assert person.roles == roles
        for claim in ({"roles": []}, {"roles": "khac"}, {"roles": 7}, "x", None):
            site.provider.changed = {"realm_access": claim}
            browser = Browser(site)
            assert browser.get(browser.begin()).status == 401, claim


@pytest.mark.parametrize(
    "wrong",
    [
        {"LGSP_OIDC_ISSUER": "id.example"},
        {"LGSP_OIDC_ISSUER": "https://id.example"},
        {"LGSP_OIDC_ROLES": "a=king"},
        {"LGSP_OIDC_ROLES": "operator"},
        {"LGSP_OIDC_ROLE_CLAIM": "groups"},
        {"LGSP_CONSOLE_URL": "console.example"},
    ],
    ids=str,
)
def test_settings_that_cannot_work_stop_the_start(wrong: dict[str, str]) -> None:
    with pytest.raises(BadSetting) as refused:
        load_settings(environ=wrong)
    assert next(iter(wrong)) in str(refused.value)
