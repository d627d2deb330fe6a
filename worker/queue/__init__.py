"""Celery executes; the database says what there is to do. `celery -A worker.queue worker` starts a worker."""

from worker.queue import announcer as _announcer  # noqa: F401
from worker.queue import collector as _collector  # noqa: F401
from worker.queue import reprocess as _reprocess  # noqa: F401
from worker.queue import runner as _runner  # noqa: F401
from worker.queue import sweeper as _sweeper  # noqa: F401
from worker.queue.celery_app import app

__all__ = ["app"]
