"""`lgsp work`: the delivery process. Run as `python -m bus.work`.

Under gevent for the same reason as `lgsp serve`: hundreds of slow receivers may be waited for at once.
"""

# ruff: noqa: I001  # bus.greenlets first: it patches the standard library
from __future__ import annotations

from bus.greenlets import in_real_thread, settle_in

import os
import signal
from contextlib import AbstractContextManager, nullcontext

from bus.assembly import Bus, open_bus
from bus.logs import configure_logs
from bus.settings import load_settings
from bus.spans import configure_spans
from bus.store import refuse_unfit_store
from bus.worker import Worker


def main() -> None:
    """Deliver until SIGTERM or SIGINT; what is in flight then ends first."""
    settings = load_settings()
    configure_logs(settings.log_level)
    configure_spans(settings, f"work-{os.getpid()}")
    refuse_unfit_store(settings)
    bus = open_bus(settings, apart=in_real_thread, role="work")
    worker = Worker(bus)
    settle_in()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop())
    try:
        with _watched(bus, worker):
            worker.run()
    finally:
        bus.close()


def _watched(bus: Bus, worker: Worker) -> AbstractContextManager[None]:
    """Flask is for those who ask for it: a worker without a port starts quicker and smaller."""
    if not bus.settings.work_port:
        return nullcontext()
    from bus.web.watch import watched

    return watched(bus, worker)


if __name__ == "__main__":
    main()
