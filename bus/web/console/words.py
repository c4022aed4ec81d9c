"""Moments, durations and numbers as people read them, in Vietnam's time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from schemas.moment import VIETNAM, utc_now


@dataclass(frozen=True)
class Words:
    """Of one language. Used by templates as ``w``."""

    language: Literal["vi", "en"]

    def moment(self, moment: datetime | None) -> str:
        """``22/11/2026 08:05:07``; English: ``2026-11-22 08:05:07``."""
        if moment is None:
            return "–"
        form = "%d/%m/%Y %H:%M:%S" if self.language == "vi" else "%Y-%m-%d %H:%M:%S"
        return f"{moment.astimezone(VIETNAM):{form}}"

    def minute(self, moment: datetime | None) -> str:
        """The same without seconds."""
        return self.moment(moment).rpartition(":")[0] or "–"

    def day(self, moment: datetime | None) -> str:
        if moment is None:
            return "–"
        return f"{moment.astimezone(VIETNAM):{'%d/%m/%Y' if self.language == 'vi' else '%Y-%m-%d'}}"

    def hour(self, moment: datetime) -> str:
        """``8h``; English: ``08:00``."""
        local = moment.astimezone(VIETNAM)
        return f"{local.hour}h" if self.language == "vi" else f"{local:%H:00}"

    def hour_of_day(self, moment: datetime) -> str:
        """``8h ngày 22/11``: what was counted by the hour is known to the hour."""
        local = moment.astimezone(VIETNAM)
        return f"{local.hour}h ngày {local:%d/%m}" if self.language == "vi" else f"{local:%m-%d %H:00}"

    def number(self, number: float | None, digits: int = 0) -> str:
        """``1.234,5``; English: ``1,234.5``."""
        if number is None:
            return "–"
        text = f"{number:,.{digits}f}"
        return text.translate(str.maketrans(",.", ".,")) if self.language == "vi" else text

    def share(self, part: float, whole: float) -> str:
        return "–" if not whole else f"{self.number(part / whole * 100, 1)} %"

    def dong(self, amount: int | None) -> str:
        """``8.000 đồng``."""
        return "–" if amount is None else f"{self.number(amount)} {'đồng' if self.language == 'vi' else 'VND'}"

    def since(self, moment: datetime | None, now: datetime | None = None) -> str:
        """How long ago: ``3 phút``."""
        return "–" if moment is None else self.duration((now or utc_now()) - moment)

    def duration(self, length: timedelta | float | None) -> str:
        """Its largest part and the next: ``2 giờ 5 phút``, ``350 ms``."""
        if length is None:
            return "–"
        seconds = length.total_seconds() if isinstance(length, timedelta) else float(length)
        if seconds < 1:
            return f"{max(0, round(seconds * 1000))} ms"
        units = (86400, "ngày", "d"), (3600, "giờ", "h"), (60, "phút", "min"), (1, "giây", "s")
        parts: list[str] = []
        left = int(seconds)
        for size, vi, en in units:
            count, left = divmod(left, size)
            if count or parts:
                parts.append(f"{count} {vi if self.language == 'vi' else en}" if count else "")
            if len(parts) == 2:
                break
        return " ".join(part for part in parts if part)
