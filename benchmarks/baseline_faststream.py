"""The second pipeline that people build by hand: an ASGI edge on uvicorn → FastStream + RabbitMQ → httpx.

The same work as ``baseline_dramatiq`` does: basic authentication, JSON Schema (compiled once), a durable quorum queue
with publisher confirms, a worker, HTTP out, a line in an audit file. No signatures, receipts, rights or evidence.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.baseline_dramatiq import Pipeline
from benchmarks.processes import ROOT, Running, child_environment, free_port, program, start_server
from benchmarks.rabbitmq import RabbitNode, start_rabbitmq


def start_faststream(receiver_url: str, *, processes: int = 2) -> Pipeline:
    """Start RabbitMQ, edge and workers; requests by ``benchmarks.dossiers.basic_requests`` go to ``port``.

    Raises RabbitMissing when there is no RabbitMQ and it cannot be installed.
    """
    directory = tempfile.TemporaryDirectory(prefix="lgsp-pipeline-")
    audit_file = Path(directory.name) / "audit.log"
    started: list[Running | RabbitNode] = []
    try:
        rabbit = start_rabbitmq(Path(directory.name) / "rabbitmq")
        started.append(rabbit)
        environment = {
            "BENCH_AMQP_URL": rabbit.url,
            "BENCH_AUDIT_FILE": str(audit_file),
            "BENCH_RECEIVER_URL": receiver_url,
        }
        port = free_port()
        command = [
            *(sys.executable, "-m", "uvicorn", "benchmarks.faststream_app:web", "--host", "127.0.0.1"),
            *("--port", str(port), "--workers", str(processes), "--log-level", "error", "--no-access-log"),
        ]
        web = start_server("pipeline web", command, port=port, environment=environment)
        started.append(web)
        worker = _start_worker(environment, processes)
        started.append(worker)
    except BaseException:
        for part in reversed(started):
            part.stop()
        directory.cleanup()
        raise
    return Pipeline(rabbit=rabbit, web=web, worker=worker, audit_file=audit_file, directory=directory)


def _start_worker(environment: dict[str, str], processes: int) -> Running:
    arguments = ["run", "benchmarks.faststream_app:worker", "--workers", str(processes)]
    process = subprocess.Popen(
        [program("faststream"), *arguments],
        cwd=ROOT,
        env=child_environment(environment),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return Running(name="pipeline worker", process=process, port=0)
