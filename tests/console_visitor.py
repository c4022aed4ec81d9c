"""Somebody who is signed in to the console, without a browser: for what a page holds and a deed does.

::

    lan = Visitor.of(console_house, "lan", PersonRole.REGISTRAR, agency="H99.16")
    assert lan.get("/console/registry").status == 200
    lan.post("/console/registry/grants", service="dossier.note", …)         # with the form key of the session
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

import urllib3

from bus.people import PersonRole
from schemas.moment import utc_now
from tests.console_house import PASSWORD, ConsoleHouse


@dataclass(frozen=True, kw_only=True)
class Page:
    status: int
    text: str
    #: Where it leads, for a redirect.
    to: str
    headers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Visitor:
    url: str
    token: str
    form_key: str
    language: str = "vi"

    @classmethod
    def of(cls, house: ConsoleHouse, name: str, *roles: PersonRole, agency: str | None = None) -> Visitor:
        house.person(name, *roles, agency=agency)
        token, session = house.people.sign_in(name, PASSWORD, "", utc_now())
        return cls(url=house.url, token=token, form_key=session.form_key)

    def in_language(self, language: str) -> Visitor:
        """The same person with the other language chosen."""
        return replace(self, language=language)

    def get(self, path: str) -> Page:
        return self._asked("GET", path)

    def post(self, path: str, **fields: str | Sequence[str]) -> Page:
        body = urlencode({"form_key": self.form_key, **fields}, doseq=True)
        return self._asked("POST", path, body, "application/x-www-form-urlencoded")

    def upload(self, path: str, files: Sequence[tuple[str, str, bytes]], **fields: str) -> Page:
        """``files``: field, name, content."""
        parts: list[tuple[str, str | tuple[str, bytes]]] = [("form_key", self.form_key), *fields.items()]
        parts += [(field, (name, content)) for field, name, content in files]
        body, content_type = urllib3.encode_multipart_formdata(parts)
        return self._asked("POST", path, body, content_type)

    def _asked(self, method: str, path: str, body: str | bytes | None = None, content_type: str = "") -> Page:
        cookies = {"Cookie": f"lgsp-console={self.token}; lgsp-language={self.language}"}
        headers = cookies | ({"Content-Type": content_type} if content_type else {})
        answer = urllib3.request(method, self.url + path, body=body, headers=headers, redirect=False, retries=False)
        return Page(
            status=answer.status,
            text=answer.data.decode("utf-8", "replace"),
            to=answer.headers.get("Location", ""),
            headers=answer.headers,
        )
