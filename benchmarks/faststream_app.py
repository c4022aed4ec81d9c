"""The hand-made pipeline of an asyncio developer: an ASGI edge, FastStream on RabbitMQ, httpx; one module.

Configured at import; imported only by the processes that ``baseline_faststream`` starts, which hand over the addresses
in the environment.
"""

from __future__ import annotations

import base64
import hmac
import json
import logging
import os
from pathlib import Path
from typing import Any

import httpx
from faststream import FastStream
from faststream.asgi import AsgiFastStream, AsgiResponse
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitMessage, RabbitQueue
from jsonschema import Draft202012Validator, FormatChecker

from benchmarks.dossiers import PASSWORD, USER

SCHEMA = Path(__file__).resolve().parent.parent / "schemas" / "documents" / "dossier.schema.json"
QUEUE = RabbitQueue("dossiers", queue_type=QueueType.QUORUM, durable=True)
LOGIN = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode("ascii")

validator = Draft202012Validator(json.loads(SCHEMA.read_bytes()), format_checker=FormatChecker())
audit = logging.getLogger("audit")
audit.setLevel(logging.INFO)
audit.propagate = False
audit.addHandler(logging.FileHandler(os.environ["BENCH_AUDIT_FILE"], encoding="utf-8"))
audit.handlers[0].setFormatter(logging.Formatter("%(asctime)s %(process)d %(message)s"))

sending = RabbitBroker(os.environ["BENCH_AMQP_URL"], logger=None)
# As many at once as httpx keeps connections for; without a limit it takes the whole queue and runs out of them.
receiving = RabbitBroker(os.environ["BENCH_AMQP_URL"], logger=None, default_channel=Channel(prefetch_count=50))
receiver = httpx.AsyncClient(timeout=20)


async def take_dossier(scope: Any, receive: Any, send: Any) -> None:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    body = b""
    while True:
        event = await receive()
        body += event.get("body", b"")
        if not event.get("more_body"):
            break
    answer = await answer_to(headers, body)
    await answer(scope, receive, send)


async def answer_to(headers: dict[str, str], body: bytes) -> AsgiResponse:
    if not hmac.compare_digest(headers.get("authorization", ""), LOGIN):
        return AsgiResponse(b'{"error": "unauthorized"}', status_code=401)
    try:
        document = json.loads(body)
    except ValueError:
        return AsgiResponse(b'{"error": "not JSON"}', status_code=400)
    errors = [f"{error.json_path}: {error.validator}" for error in validator.iter_errors(document)]
    if errors:
        return AsgiResponse(json.dumps({"errors": errors}).encode(), status_code=422)
    # Confirmed by the broker before it returns, and kept through a restart of it.
    await sending.publish(body, queue=QUEUE, persist=True, message_id=headers["x-message-id"])
    return AsgiResponse(
        json.dumps({"message_id": headers["x-message-id"], "state": "queued"}).encode(), status_code=202
    )


web = AsgiFastStream(sending, asgi_routes=[("/dossiers", take_dossier)])


@web.after_startup
async def declare() -> None:
    await sending.declare_queue(QUEUE)


@receiving.subscriber(QUEUE)
async def forward(message: RabbitMessage) -> None:
    answer = await receiver.post(
        os.environ["BENCH_RECEIVER_URL"],
        content=message.body,
        headers={"Content-Type": "application/json", "Idempotency-Key": message.message_id},
    )
    answer.raise_for_status()
    audit.info("delivered %s %d", message.message_id, answer.status_code)


worker = FastStream(receiving)
