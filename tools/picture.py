#!/usr/bin/env python3
"""Draw the flow of a message: docs/flow.svg (English) and docs/flow.vi.svg (Vietnamese) from one layout.

    python tools/picture.py            write both
    python tools/picture.py --check    exit 1 when a file is not what this script draws

Plain SVG: no script, no font and no image from elsewhere; it reads on paper, on a light page and on a dark one.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path
from typing import Dict, List, Tuple

DOCS = Path(__file__).resolve().parent.parent / "docs"

WORDS: Dict[str, Dict[str, str]] = {
    "flow.svg": {
        "title": "How a message travels: from the national portal through the bus to its receivers",
        "sender": "National portal",
        "sender_note": "signs its manifest",
        "bus": "lgsp-bus",
        "way_in": "the way in: refuse, or record and answer with a receipt",
        "way_out": "the way out: deliver, try again, or list as dead",
        "1": "Receive", "2": "Identify", "3": "Authorise", "4": "Validate", "5": "Record",
        "6": "Dispatch", "7": "Deliver", "8": "Settle",
        "message": "message",
        "receipt": "receipt",
        "ledger": "ledger and outbox",
        "evidence": "evidence log: every acceptance, delivery and refusal, provable offline",
        "one": "One-stop system", "one_note": "called by the bus",
        "two": "Ministry database", "two_note": "called, answers at once",
        "three": "Ward office", "three_note": "fetches from its inbox",
    },
    "flow.vi.svg": {
        "title": "Đường đi của một thông điệp: từ Cổng quốc gia qua trục tới các bên nhận",
        "sender": "Cổng DVC quốc gia",
        "sender_note": "ký số bản kê khai",
        "bus": "lgsp-bus",
        "way_in": "chiều vào: từ chối, hoặc ghi nhận và trả biên nhận",
        "way_out": "chiều ra: chuyển, thử lại, hoặc đưa vào danh sách lỗi",
        "1": "Tiếp nhận", "2": "Định danh", "3": "Cấp quyền", "4": "Kiểm tra", "5": "Ghi nhận",
        "6": "Điều phối", "7": "Chuyển", "8": "Kết thúc",
        "message": "thông điệp",
        "receipt": "biên nhận",
        "ledger": "sổ cái, hộp gửi đi",
        "evidence": "nhật ký chứng cứ: mọi lần nhận, chuyển, từ chối; kiểm chứng ngoại tuyến",
        "one": "Một cửa của tỉnh", "one_note": "trục gọi tới",
        "two": "CSDL của bộ", "two_note": "trục gọi, trả lời ngay",
        "three": "UBND phường", "three_note": "tự lấy từ hộp nhận",
    },
}  # fmt: skip

INK, LINE, PAPER = "#1f2933", "#52606d", "#ffffff"
BLUE, GREEN, SAND = "#dbeafe", "#dcfce7", "#fef3c7"


def draw(words: Dict[str, str]) -> str:
    """The picture, 980 by 420 units."""
    parts: List[str] = [_box(0.5, 0.5, 979, 419, PAPER, stroke="#cbd2d9", radius=10)]
    # sender
    parts += [
        _box(12, 88, 162, 74, BLUE),
        _text(93, 120, words["sender"], bold=True),
        _note(93, 142, words["sender_note"]),
    ]
    # bus
    parts += [
        _box(246, 24, 510, 372, "#f5f7fa", stroke=LINE, radius=10),
        _text(501, 50, words["bus"], bold=True, size=17),
    ]
    parts.append(_note(501, 78, words["way_in"]))
    for index in range(5):
        parts += _step(262 + index * 97, 92, str(index + 1), words)
    parts += [_box(408, 198, 186, 34, SAND), _text(501, 220, words["ledger"], size=13)]
    parts.append(_note(501, 262, words["way_out"]))
    for place, number in ((2, "6"), (3, "7"), (4, "8")):
        parts += _step(262 + (place - 1) * 97, 274, number, words)
    parts += [_box(262, 358, 478, 28, GREEN), _text(501, 377, words["evidence"], size=12)]
    # receivers
    for top, name in ((92, "one"), (192, "two"), (292, "three")):
        parts += [_box(812, top, 158, 66, BLUE), _text(891, top + 28, words[name], bold=True)]
        parts.append(_note(891, top + 49, words[f"{name}_note"]))
    # ways
    parts += [_arrow([(174, 112), (244, 112)]), _note(207, 104, words["message"])]
    parts += [_arrow([(246, 142), (176, 142)], dashed=True), _note(209, 158, words["receipt"])]
    parts += [_arrow([(694, 160), (694, 215), (596, 215)]), _arrow([(406, 215), (310, 215), (310, 300), (357, 300)])]
    parts += [_arrow([(501, 342), (501, 348), (785, 348), (785, 125), (810, 125)]), _arrow([(785, 225), (810, 225)])]
    parts.append(_arrow([(812, 325), (787, 325)], dashed=True))
    parts += [_arrow([(715, 160), (715, 356)], dashed=True), _arrow([(620, 342), (620, 356)], dashed=True)]
    body = "\n".join(f"  {part}" for part in parts)
    title = escape(words["title"])
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 980 420" width="980" height="420" role="img" '
        f"aria-labelledby=\"title\" font-family=\"system-ui, 'Segoe UI', Roboto, 'Noto Sans', sans-serif\">\n"
        f'  <title id="title">{title}</title>\n'
        '  <defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto-start-reverse"><path d="M0 0 10 5 0 10z" fill="{LINE}"/></marker></defs>\n'
        f"{body}\n</svg>\n"
    )


def _step(left: int, top: int, number: str, words: Dict[str, str]) -> List[str]:
    return [
        _box(left, top, 88, 66, PAPER, stroke=LINE),
        f'<circle cx="{left + 44}" cy="{top + 22}" r="13" fill="{LINE}"/>',
        f'<text x="{left + 44}" y="{top + 27}" text-anchor="middle" font-size="14" fill="{PAPER}">{number}</text>',
        _text(left + 44, top + 54, words[number], size=14),
    ]


def _box(left: float, top: float, width: int, height: int, fill: str, *, stroke: str = LINE, radius: int = 6) -> str:
    return (
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="{radius}" fill="{fill}" stroke="{stroke}"/>'
    )


def _text(x: int, y: int, words: str, *, size: int = 14, bold: bool = False, fill: str = INK) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x}" y="{y}" text-anchor="middle" font-size="{size}"{weight} fill="{fill}">{escape(words)}</text>'


def _note(x: int, y: int, words: str) -> str:
    return _text(x, y, words, size=12, fill=LINE)


def _arrow(points: List[Tuple[int, int]], *, dashed: bool = False) -> str:
    way = " ".join(f"{x},{y}" for x, y in points)
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<polyline points="{way}" fill="none" stroke="{LINE}" stroke-width="1.6"{dashes} marker-end="url(#tip)"/>'


def main(arguments: List[str]) -> int:
    wrong = 0
    for name, words in WORDS.items():
        path, drawn = DOCS / name, draw(words)
        if "--check" in arguments:
            wrong |= not path.exists() or path.read_text(encoding="utf-8") != drawn
        else:
            path.write_text(drawn, encoding="utf-8")
            print(path)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
