"""Checked identifiers: a value of these types is well formed, or it does not exist.

Each is a ``str`` (so it serialises, hashes and compares as its text) whose constructor checks the form and raises
:class:`schemas.problem.Malformed`. The offending text is never part of the error. All are immutable and safe to share
between threads; a construction costs about half a microsecond, so they may be made freely on the hot path.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Any, ClassVar, Self

from schemas.codes import BIRTH_PROVINCES, LEVEL_1, TEST_BIRTH_PROVINCES
from schemas.problem import Malformed

_new = str.__new__


class Identifier(str):
    """A string with a checked form. Immutable, safe to share between threads."""

    __slots__ = ()
    pattern: ClassVar[re.Pattern[str]]
    max_length: ClassVar[int]
    #: What the identifier is called in an error message, in English and in Vietnamese.
    kind: ClassVar[str]
    kind_vi: ClassVar[str]
    _matches: ClassVar[Callable[[str], re.Match[str] | None]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._matches = staticmethod(cls.pattern.fullmatch)

    def __new__(cls, text: object) -> Self:
        if not isinstance(text, str) or len(text) > cls.max_length or cls._matches(text) is None:
            raise cls.malformed()
        return _new(cls, text)

    @classmethod
    def unchecked(cls, text: str) -> Self:
        """A value without its check: only for text that our own store holds, which was checked when it went in."""
        return _new(cls, text)

    @classmethod
    def malformed(cls) -> Malformed:
        """The refusal of a text that is not of this kind."""
        return Malformed("identifier-invalid", kind=cls.kind, kind_vi=cls.kind_vi)


_AGENCY = r"[A-Z][0-9]{2}(?:\.[A-Z0-9]{1,5}){0,5}"
#: Old spelling, full (``000.00.15.H99``) or as a commune's short form without the fourth group (``28.22.H17``).
_OLD_AGENCY = r"(?:[0-9]{3}\.)?[0-9]{2}\.[0-9]{2}\.[GH][0-9]{2}"


class AgencyCode(Identifier):
    """Electronic identifier of an agency, new spelling (QĐ 20/2020/QĐ-TTg): ``H99.15``, most significant group left.

    The new spelling is the canonical one inside the bus; :meth:`parse` also reads the old one (QCVN 102:2016).
    """

    __slots__ = ()
    pattern = re.compile(_AGENCY)
    max_length = 35
    kind, kind_vi = "agency code", "mã định danh cơ quan"

    @classmethod
    def parse(cls, text: str) -> AgencyCode:
        """The agency that either living spelling names: ``H99.15`` and ``000.00.15.H99`` are the same one."""
        if text[:1].isdigit():
            return OldAgencyCode(text).to_new()
        return cls(text)

    def to_old(self) -> OldAgencyCode:
        """The QCVN 102:2016 spelling, such that ``AgencyCode.parse(code.to_old()) == code`` always.

        Raises Malformed where there is none: more than four groups, letters below level 1, groups of other widths than
        the old two, two and three digits, or a last group of zeros (which the old spelling reads as absent). Such an
        agency may still have an old code by decree; the registry keeps it as an alias.
        """
        level1, *below = self.split(".")
        if level1[0] in "GH" and len(below) <= 3:
            level2, level3, level4 = below + ["00", "00", "000"][len(below) :]
            old = f"{level4}.{level3}.{level2}.{level1}"
            if OldAgencyCode._matches(old) is not None:
                code = OldAgencyCode(old)
                if code.to_new() == self:
                    return code
        raise Malformed("agency-code-no-old-form")

    @property
    def level(self) -> int:
        """1 for a ministry or province, one more for each group below it."""
        return self.count(".") + 1

    @property
    def level_1(self) -> str:
        """The ministry or province at the top: ``H99`` of ``H99.15.01``."""
        return self[:3]

    @property
    def parent(self) -> AgencyCode | None:
        """The agency one group up, None at the top."""
        above = self.rpartition(".")[0]
        return AgencyCode(above) if above else None

    @property
    def is_test(self) -> bool:
        """Does it lie under a code that nobody owns (G99, H99)?"""
        known = LEVEL_1.get(self.level_1)
        return known is not None and known.is_test

    def is_within(self, parent: str) -> bool:
        """Is this agency ``parent`` or somewhere below it? Whole groups count: ``H99.150`` is not within ``H99.15``."""
        return self == parent or self.startswith(f"{parent}.")


class OldAgencyCode(Identifier):
    """Electronic identifier of an agency, old spelling (QCVN 102:2016): most significant group on the right.

    ``000.00.15.H99`` is department 15 of province H99; groups of zeros on the left are absent levels. Three groups
    (``28.22.H99``) are a short form that leaves the fourth out.
    """

    __slots__ = ()
    pattern = re.compile(_OLD_AGENCY)
    max_length = 13
    kind, kind_vi = "agency code (old spelling)", "mã định danh cơ quan (QCVN 102:2016)"

    def to_new(self) -> AgencyCode:
        """The QĐ 20/2020 spelling: groups turned round, absent levels left out (zeros between two others stay)."""
        groups = self.split(".")
        while len(groups) > 1 and not groups[0].strip("0"):
            del groups[0]
        return AgencyCode(".".join(reversed(groups)))


class SystemCode(Identifier):
    """A software system of an agency: ``<agency code>/<name>``, as in ``H99.15/mot-cua``."""

    __slots__ = ()
    pattern = re.compile(_AGENCY + r"/[a-z0-9]+(?:-[a-z0-9]+)*")
    max_length = 80
    kind, kind_vi = "system code", "mã hệ thống"

    @property
    def agency(self) -> AgencyCode:
        return AgencyCode(self.split("/", 1)[0])


class ServiceCode(Identifier):
    """A data service: dotted words in lower case, as in ``dossier.transfer``. Versions are whole numbers beside it."""

    __slots__ = ()
    pattern = re.compile(r"[a-z][a-z0-9]*(?:[.-][a-z0-9]+)*")
    max_length = 100
    kind, kind_vi = "service code", "mã dịch vụ"


class MessageId(Identifier):
    """A UUID in canonical lower-case form; version 7 (RFC 9562) is recommended, it keeps the indexes in time order."""

    __slots__ = ()
    pattern = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
    max_length = 36
    kind, kind_vi = "message id", "mã thông điệp"


class DossierCode(Identifier):
    """A dossier code (mã hồ sơ): ``{agency}-{yyMMdd}-{sequence}``, sequence of 4 to 7 digits, year 20yy.

    The agency may be written in either spelling and stays as written: a dossier code is a name that citizens hold on
    paper, so it is never rewritten. Only real dates pass. The sequence starts again each day, except at ministry
    portals, where its first two digits are the ministry (vietnam.md 3.2).
    """

    __slots__ = ()
    pattern = re.compile(
        rf"(?:{_AGENCY}|{_OLD_AGENCY})-[0-9]{{2}}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])-[0-9]{{4,7}}"
    )
    max_length = 50
    kind, kind_vi = "dossier code", "mã hồ sơ"

    def __new__(cls, text: object) -> Self:
        code = super().__new__(cls, text)
        digits = code.rsplit("-", 2)[1]
        if digits[4:] > "28":  # the pattern has seen to the others
            try:
                _date(digits)
            except ValueError:
                raise cls.malformed() from None
        return code

    @property
    def agency_text(self) -> str:
        """The agency as the code spells it."""
        return self.rsplit("-", 2)[0]

    @property
    def agency(self) -> AgencyCode:
        """The agency in the canonical spelling."""
        return AgencyCode.parse(self.agency_text)

    @property
    def date(self) -> date:
        """The day it was filed, in Asia/Ho_Chi_Minh."""
        return _date(self.rsplit("-", 2)[1])

    @property
    def sequence(self) -> str:
        """The running number, text: leading zeros and width belong to it."""
        return self.rsplit("-", 1)[1]


class ProcedureCode(Identifier):
    """An administrative procedure (mã TTHC) or the online service made of it (mã DVC).

    ``1.001193`` is the national code, ``1.001193.000.00.00.H99`` a province's own variant of it (old spelling of the
    agency), ``1.001193.01`` an online service (DVC).
    """

    __slots__ = ()
    pattern = re.compile(r"[0-9]\.[0-9]{6}(?:\.[0-9]{2}|\.[0-9]{3}\.[0-9]{2}\.[0-9]{2}\.[GH][0-9]{2})?")
    max_length = 22
    kind, kind_vi = "procedure code", "mã thủ tục hành chính"

    @property
    def national(self) -> ProcedureCode:
        """The national procedure that this one is, or is a variant or a service of."""
        return ProcedureCode(self[:8])

    @property
    def agency(self) -> AgencyCode | None:
        """The agency whose variant it is; None for a national code and for a service."""
        return OldAgencyCode(self[9:]).to_new() if len(self) > 11 else None

    @property
    def is_service(self) -> bool:
        """Is it an online service (DVC) rather than a procedure?"""
        return len(self) == 11


class ResultPaperCode(Identifier):
    """A kind of result paper: ``KQ.<ministry>.<6 digits>``, as in ``KQ.G15.000031`` (birth certificate)."""

    __slots__ = ()
    pattern = re.compile(r"KQ\.G[0-9]{2}\.[0-9]{6}")
    max_length = 13
    kind, kind_vi = "result paper code", "mã giấy tờ kết quả"

    @property
    def ministry(self) -> AgencyCode:
        return AgencyCode(self[3:6])


class CitizenNumber(Identifier):
    """A personal identification number (số định danh cá nhân, CCCD): 12 digits ``PPP C YY NNNNNN``, no check digit.

    PPP is the province of birth registration (or a country of birth, 100 and above), C holds century and gender, YY
    the year (NĐ 137/2015 art. 13, TT 07/2016/TT-BCA). A province that was never allocated is refused; 097 to 099 are
    free for test persons. Personal data: never put one into a log or a problem.
    """

    __slots__ = ()
    pattern = re.compile(r"[0-9]{12}")
    max_length = 12
    kind, kind_vi = "citizen number", "số định danh cá nhân"

    def __new__(cls, text: object) -> Self:
        number = super().__new__(cls, text)
        place = number[:3]
        if place < "100" and place not in BIRTH_PROVINCES and place not in TEST_BIRTH_PROVINCES:
            raise cls.malformed()
        return number

    @property
    def is_test(self) -> bool:
        """Does it belong to an invented person?"""
        return self[:3] in TEST_BIRTH_PROVINCES

    @property
    def province(self) -> str:
        """Name of the province of birth registration; empty for a test number and for a birth abroad."""
        return BIRTH_PROVINCES.get(self[:3], "")

    @property
    def birth_year(self) -> int:
        """Four digits: C 0–1 is 1900–1999, 2–3 is 2000–2099, and so on for each pair."""
        return 1900 + int(self[3]) // 2 * 100 + int(self[4:6])

    @property
    def is_female(self) -> bool:
        """Odd C: registered as female at birth; even: as male."""
        return int(self[3]) % 2 == 1

    def agrees_with(self, *, birth_year: int | None = None, is_female: bool | None = None) -> bool:
        """Does what another document says of the person fit the number? What is None is not compared."""
        return birth_year in (None, self.birth_year) and is_female in (None, self.is_female)


class OldCitizenNumber(Identifier):
    """An old identity card number (CMND): 9 digits, still in data."""

    __slots__ = ()
    pattern = re.compile(r"[0-9]{9}")
    max_length = 9
    kind, kind_vi = "identity card number", "số chứng minh nhân dân"


_TAX_WEIGHTS = (31, 29, 23, 19, 17, 13, 7, 5, 3)


class TaxCode(Identifier):
    """A tax code (MST) of an enterprise, 10 digits, or of a dependent unit, ``NNNNNNNNNN-NNN`` with 001 to 999.

    The tenth digit is 10 − (Σ dᵢ·wᵢ mod 11); first nine digits whose sum is divisible by 11 are never issued (tested
    by others on real numbers; a variant that takes 0 for them circulates and is wrong, vietnam.md 3.8). Individuals
    use their :class:`CitizenNumber` (TT 86/2024/TT-BTC).
    """

    __slots__ = ()
    pattern = re.compile(r"[0-9]{10}(?:-(?!000)[0-9]{3})?")
    max_length = 14
    kind, kind_vi = "tax code", "mã số thuế"

    def __new__(cls, text: object) -> Self:
        code = super().__new__(cls, text)
        total = sum(int(digit) * weight for digit, weight in zip(code[:9], _TAX_WEIGHTS, strict=True))
        if 10 - total % 11 != int(code[9]):
            raise cls.malformed()
        return code

    @classmethod
    def parse(cls, text: str) -> TaxCode:
        """Also reads 13 digits without the hyphen, as some systems write a dependent unit."""
        if len(text) == 13 and "-" not in text:
            return cls(f"{text[:10]}-{text[10:]}")
        return cls(text)

    @property
    def enterprise(self) -> TaxCode:
        """The enterprise itself, when this is a dependent unit of it."""
        return TaxCode(self[:10])


def _date(digits: str) -> date:
    """``yyMMdd`` as a day of 20yy. Raises ValueError when there is no such day."""
    return date(2000 + int(digits[:2]), int(digits[2:4]), int(digits[4:]))
