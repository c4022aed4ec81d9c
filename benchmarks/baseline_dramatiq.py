"""The baseline that the bus must beat: Flask + gunicorn → dramatiq + RabbitMQ → requests, as it is built by hand.

HTTP in → basic authentication → JSON Schema (compiled once) → durable queue with publisher confirms → worker → HTTP
out → a line in an audit file. No signatures, no receipts, no access rights, no evidence: it does less than the bus.
Nothing is made slow on purpose; numbers of processes and threads are the packages' defaults for two cores.
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.baseline_flask import Server, server_command
from benchmarks.processes import ROOT, Running, child_environment, free_port, program, start_server
from benchmarks.rabbitmq import RabbitNode, start_rabbitmq


@dataclass(slots=True, kw_only=True)
class Pipeline:
    """The whole pipeline, running. Requests by ``benchmarks.dossiers.basic_requests`` go to ``port``."""

    rabbit: RabbitNode
    web: Running
    worker: Running
    audit_file: Path
    directory: tempfile.TemporaryDirectory[str]

    @property
    def url(self) -> str:
        return self.web.url + "/dossiers"

    @property
    def port(self) -> int:
        return self.web.port

    @property
    def pids(self) -> list[int]:
        return [*self.web.pids, *self.worker.pids, *self.rabbit.pids]

    def stop(self) -> None:
        for part in (self.web, self.worker, self.rabbit):
            part.stop()
        self.directory.cleanup()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_pipeline(
    receiver_url: str,
    *,
    server: Server = "gthread",
    web_workers: int = 2,
    web_threads: int = 8,
    worker_processes: int = 2,
    worker_threads: int = 8,
) -> Pipeline:
    """Start RabbitMQ, the web server and the workers; delivered dossiers are posted to ``receiver_url``.

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
        command = server_command(server, "benchmarks.dramatiq_app:app", port, web_workers, web_threads)
        web = start_server("pipeline web", command, port=port, environment=environment)
        started.append(web)
        worker = _start_worker(environment, processes=worker_processes, threads=worker_threads)
        started.append(worker)
    except BaseException:
        for part in reversed(started):
            part.stop()
        directory.cleanup()
        raise
    return Pipeline(rabbit=rabbit, web=web, worker=worker, audit_file=audit_file, directory=directory)


def _start_worker(environment: dict[str, str], *, processes: int, threads: int) -> Running:
    """dramatiq workers listen nowhere; what is queued before they are up waits for them."""
    command = [program("dramatiq"), "benchmarks.dramatiq_app", "--processes", str(processes), "--threads", str(threads)]
    process = subprocess.Popen(
        [*command, "--worker-shutdown-timeout", "5000"],
        cwd=ROOT,
        env=child_environment(environment),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # a line at each start and stop, nothing else
    )
    return Running(name="pipeline worker", process=process, port=0)
