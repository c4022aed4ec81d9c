"""Checked identifiers: a value of these types is well formed, or it does not exist.

Each is a ``str`` (so it serialises, hashes and compares as its text) whose constructor checks the form and raises
:class:`schemas.problem.Malformed`. The offending text is never part of the error.
"""

from __future__ import annotations

import re
from typing import ClassVar, Self

from schemas.problem import Malformed


class Identifier(str):
    """A string with a checked form. Immutable, safe to share between threads."""

    __slots__ = ()
    pattern: ClassVar[re.Pattern[str]]
    max_length: ClassVar[int]
    #: What the identifier is called in an error message.
    kind: ClassVar[str]

    def __new__(cls, text: str) -> Self:
        if len(text) > cls.max_length or not cls.pattern.fullmatch(text):
            raise Malformed("identifier-invalid", kind=cls.kind)
        return super().__new__(cls, text)


class AgencyCode(Identifier):
    """Electronic identifier of an agency, new spelling (QĐ 20/2020/QĐ-TTg): ``H99.15``, most significant group left.

    The new spelling is the canonical one inside the bus; :meth:`parse` also reads the old one (QCVN 102:2016).
    """

    __slots__ = ()
    pattern = re.compile(r"[A-Z][0-9]{2}(?:\.[A-Z0-9]{1,5}){0,5}")
    max_length = 35
    kind = "agency code"


class SystemCode(Identifier):
    """A software system of an agency: ``<agency code>/<name>``, as in ``H99.15/mot-cua``."""

    __slots__ = ()
    pattern = re.compile(r"[A-Z][0-9]{2}(?:\.[A-Z0-9]{1,5}){0,5}/[a-z0-9]+(?:-[a-z0-9]+)*")
    max_length = 80
    kind = "system code"

    @property
    def agency(self) -> AgencyCode:
        return AgencyCode(self.split("/", 1)[0])


class ServiceCode(Identifier):
    """A data service: dotted words in lower case, as in ``dossier.transfer``. Versions are whole numbers beside it."""

    __slots__ = ()
    pattern = re.compile(r"[a-z][a-z0-9]*(?:[.-][a-z0-9]+)*")
    max_length = 100
    kind = "service code"


class MessageId(Identifier):
    """A UUID in canonical lower-case form; version 7 (RFC 9562) is recommended, it keeps the indexes in time order."""

    __slots__ = ()
    pattern = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
    max_length = 36
    kind = "message id"


class DossierCode(Identifier):
    """A dossier code (mã hồ sơ): ``{agency}-{yyMMdd}-{sequence}``, sequence of 4 to 7 digits."""

    __slots__ = ()
    pattern = re.compile(r"[0-9A-Z.]{2,35}-[0-9]{6}-[0-9]{4,7}")
    max_length = 50
    kind = "dossier code"
