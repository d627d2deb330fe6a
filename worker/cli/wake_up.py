"""Send a wake-up to the workers from a verb."""

from __future__ import annotations

from worker import runtime
from worker.cli.output import print_info
from worker.core.errors import ConfigurationError


def wake_workers() -> None:
    """Send one wake-up. If the broker does not accept it, workers find the requests by their sweep."""
    try:
        runtime.current().require_broker()
    except ConfigurationError as error:
        print_info(f"vodsync: no wake-up was sent, and workers find the requests within seconds: {error}")
        return
    # Imports Celery, which verbs that only read do not need.
    from worker.queue.wakeups import wakeup_sender

    sender = wakeup_sender()
    sender.send()
    sender.close()
