"""Celery executes; the database says what there is to do. `celery -A worker.queue worker` starts a worker."""

from worker.queue.celery_app import app
from worker.queue.services import change_relay as _announcer  # noqa: F401
from worker.queue.services import job_runner as _runner  # noqa: F401
from worker.queue.services import reprocess_consumer as _reprocess  # noqa: F401
from worker.queue.services import smq_poller as _collector  # noqa: F401
from worker.queue.services import sweeper as _sweeper  # noqa: F401

__all__ = ["app"]
