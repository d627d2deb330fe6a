"""Celery app and what it runs. `celery -A worker.queue worker` starts a worker; what is due is in the database."""

from worker.queue import tasks  # registers the tasks
from worker.queue.celery_app import app

__all__ = ["app", "tasks"]
