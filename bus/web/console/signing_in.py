"""Signing in and out, passwords, one-time codes, the language."""

from __future__ import annotations

import base64
import re
from typing import Final

import segno
from flask import make_response, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from bus.people import LEAST_PASSWORD_LENGTH, SignInFailed, trail_name
from bus.web.console.desk import (
    Console,
    Desk,
    choose_language,
    common,
    give_session,
    harden,
    language_of_request,
    safe_address,
    take_session,
)
from schemas.moment import utc_now
from schemas.problem import Malformed, NotPermitted
from security.one_time import new_seed, provisioning_uri

#: As :func:`security.one_time.new_seed` makes them.
_SEED: Final = re.compile(r"[A-Z2-7]{32}")


def install(console: Console) -> None:
    routes, people = console.routes, console.people
    openid = bool(console.bus.settings.oidc_issuer)

    @routes.get("/sign-in", endpoint="sign_in")
    def sign_in() -> AnyResponse:
        return sign_in_form(openid=openid)

    @routes.post("/sign-in", endpoint="take_sign_in")
    def take_sign_in() -> AnyResponse:
        form = request.form
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise NotPermitted("form-foreign")
        try:
            token, _ = people.sign_in(
                form.get("name", "").strip().lower(), form.get("password", ""), form.get("code", ""), utc_now()
            )
        except SignInFailed as failed:
            return sign_in_form(failed, 401, openid=openid)
        return give_session(redirect(safe_address(form.get("next", "/console/")), 303), token)

    @routes.get("/language/<language>", endpoint="language")
    def language(language: str) -> AnyResponse:
        return choose_language(redirect(safe_address(request.args.get("next", "/console/")), 303), language)

    @console.deed("/sign-out", right=None)
    def sign_out(desk: Desk) -> AnyResponse:
        people.sign_out(desk.session)
        return take_session(redirect("/console/sign-in", 303))

    @console.page("/account", right=None)
    def own_account(desk: Desk) -> AnyResponse:
        return desk.show("account.html", least=LEAST_PASSWORD_LENGTH)

    @console.deed("/account/password", right=None)
    def choose_password(desk: Desk) -> AnyResponse:
        form, name = request.form, desk.person.name
        if form.get("new", "") != form.get("again", ""):
            return desk.show("account.html", 400, least=LEAST_PASSWORD_LENGTH, trouble="again")
        event = desk.event("password.chosen", trail_name(name))
        try:
            people.choose_password(name, form.get("old", ""), form.get("new", ""), event)
        except SignInFailed:
            return desk.show("account.html", 400, least=LEAST_PASSWORD_LENGTH, trouble="old")
        except Malformed:
            return desk.show("account.html", 400, least=LEAST_PASSWORD_LENGTH, trouble="weak")
        said = "Đã đổi mật khẩu. Hãy đăng nhập bằng mật khẩu mới.", "The password is changed. Sign in with the new one."
        return take_session(desk.back("/console/sign-in", *said))  # all sessions have ended, this one too

    @console.page("/account/second", right=None)
    def second_thing(desk: Desk) -> AnyResponse:
        return desk.show("second.html", **_enrolment(desk, new_seed()))

    @console.deed("/account/second", right=None)
    def keep_second_thing(desk: Desk) -> AnyResponse:
        typed = request.form.get("seed", "")
        seed = typed.encode("ascii") if _SEED.fullmatch(typed) else None
        event = desk.event("second-thing.kept", desk.actor)
        if seed is None or not people.keep_totp(desk.person.name, seed, request.form.get("code", ""), event):
            return desk.show("second.html", 400, trouble=True, **_enrolment(desk, seed or new_seed()))
        said = "Đã bật mã một lần. Hãy đăng nhập lại.", "One-time codes are on. Sign in again."
        return take_session(desk.back("/console/sign-in", *said))


def sign_in_form(
    failed: SignInFailed | None = None, status: int = 200, *, openid: bool = False, elsewhere: bool = False
) -> AnyResponse:
    """``openid``: there is an identity provider; ``elsewhere``: it was there that the sign-in failed."""
    page = render_template(
        "console/sign-in.html",
        desk=None,
        failed=failed,
        openid=openid,
        elsewhere=elsewhere,
        next=safe_address(request.values.get("next", "/console/")),
        **common(language_of_request()),
    )
    return harden(make_response(page, status))


def _enrolment(desk: Desk, seed: bytes) -> dict[str, str]:
    uri = provisioning_uri(seed, desk.person.name, "lgsp-bus")
    picture = segno.make(uri, error="m").svg_inline(scale=5).encode()
    return {"seed": seed.decode("ascii"), "picture": "data:image/svg+xml;base64," + base64.b64encode(picture).decode()}
