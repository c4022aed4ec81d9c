"""Signing in and out, passwords, one-time codes, the language."""

from __future__ import annotations

from typing import Any

import qrcode
from flask import make_response, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from bus.people import SignInFailed
from bus.web.console.desk import (
    Console,
    Desk,
    _common,
    choose_language,
    give_session,
    harden,
    language_of_request,
    safe_address,
    take_session,
)
from schemas.moment import utc_now
