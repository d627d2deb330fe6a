"""Send a wake-up to the workers from a verb."""

from __future__ import annotations


def wake_workers() -> None:
    """Send one wake-up. If the broker does not accept it, workers find the requests by their sweep."""
    # Imports Celery, which verbs that only read do not need.
    from worker.queue.wakeups import wakeup_sender

    sender = wakeup_sender()
    sender.send()
    sender.close()
