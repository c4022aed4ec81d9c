"""The hand-made pipeline as an ordinary developer writes it: a Flask view, a dramatiq actor, one module.

Configured at import, as dramatiq expects; imported only by the processes that ``baseline_dramatiq`` starts, which hand
over the addresses in the environment.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
import threading
from pathlib import Path

import dramatiq
import requests
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from flask import Flask, request
from flask.typing import ResponseReturnValue
from jsonschema import Draft202012Validator, FormatChecker

from benchmarks.dossiers import PASSWORD, USER

SCHEMA = Path(__file__).resolve().parent.parent / "schemas" / "documents" / "dossier.schema.json"

dramatiq.set_broker(RabbitmqBroker(url=os.environ["BENCH_AMQP_URL"], confirm_delivery=True))

validator = Draft202012Validator(json.loads(SCHEMA.read_bytes()), format_checker=FormatChecker())
sessions = threading.local()
audit = logging.getLogger("audit")
audit.setLevel(logging.INFO)
audit.propagate = False
audit.addHandler(logging.FileHandler(os.environ["BENCH_AUDIT_FILE"], encoding="utf-8"))
audit.handlers[0].setFormatter(logging.Formatter("%(asctime)s %(process)d %(message)s"))

app = Flask(__name__)


@app.post("/dossiers")
def take_dossier() -> ResponseReturnValue:
    login = request.authorization
    if (
        login is None
        or login.username != USER
        or not hmac.compare_digest((login.password or "").encode(), PASSWORD.encode())
    ):
        return {"error": "unauthorized"}, 401, {"WWW-Authenticate": "Basic"}
    text = request.get_data(as_text=True)
    try:
        document = json.loads(text)
    except ValueError:
        return {"error": "not JSON"}, 400
    errors = [f"{error.json_path}: {error.validator}" for error in validator.iter_errors(document)]
    if errors:
        return {"errors": errors}, 422
    message_id = request.headers["X-Message-Id"]
    forward.send(message_id, text)
    return {"message_id": message_id, "state": "queued"}, 202


@dramatiq.actor(queue_name="dossiers", max_retries=20)
def forward(message_id: str, text: str) -> None:
    if not hasattr(sessions, "session"):
        sessions.session = requests.Session()
    answer = sessions.session.post(
        os.environ["BENCH_RECEIVER_URL"],
        data=text.encode("utf-8"),
        headers={"Content-Type": "application/json", "Idempotency-Key": message_id},
        timeout=20,
    )
    answer.raise_for_status()
    audit.info("delivered %s %d", message_id, answer.status_code)
