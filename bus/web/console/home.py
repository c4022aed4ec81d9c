"""The first screen."""

from __future__ import annotations

from flask import Response

from bus.web.console.desk import Console, Desk


def install(console: Console) -> None:
    @console.page("/", menu=("Tổng quan", "Overview"))
    def home(desk: Desk) -> Response:
        return desk.show("home.html")
