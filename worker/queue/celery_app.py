"""Create the Celery application: broker, queue, limits, schedule and the services of a worker."""

from __future__ import annotations

import gc
import threading
import warnings
from functools import cached_property
from typing import Any

from celery import Celery, signals
from celery.platforms import SecurityWarning

from worker import runtime
from worker.core.errors import ConfigurationError, VodsyncError
from worker.process_signals import ignore_user_signals, stop_on_hangup
from worker.queue.brokers import broker_options, sync_queue

#: What each worker runs beside the pool. Celery imports these classes when a worker starts, so that the receiver and the command
#: line, which only send wake-ups, need not. They all start after the pool, in no fixed order.
SERVICES = (
    "worker.queue.services.heartbeat:HeartbeatSender",
    "worker.queue.services.sweeper:Sweeper",
    "worker.queue.services.job_runner:JobRunner",
    "worker.queue.services.change_relay:ChangeRelay",
    "worker.queue.services.smq_poller:SmqPoller",
    "worker.queue.services.reprocess_consumer:ReprocessConsumer",
)

# Celery warns about workers that run as root because of pickle messages. We accept only JSON.
warnings.filterwarnings("ignore", category=SecurityWarning)


class _Application(Celery):  # type: ignore[misc]  # Celery has no types
    @cached_property
    def Worker(self) -> Any:
        """The class of a worker's process, which `vodsync work` and `celery worker` run. The receiver does not need it."""
        return self.subclass_with_self("worker.queue.worker_process:Worker")


def _create() -> Celery:
    settings = runtime.current_or_exit().settings
    url = settings.broker_url.get_secret_value() if settings.broker_url else None
    try:
        options = broker_options(url, settings.queue_folder)
    except ConfigurationError as error:
        raise runtime.refusal(error) from None
    queue = sync_queue(url)
    created = _Application("vodsync")
    created.conf.update(
        options,
        broker_connection_timeout=2,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A refused command ends the connection, not the worker.
        broker_channel_error_retry=True,
        broker_pool_acquire_timeout=5,
        task_queues=[queue],
        task_default_queue=queue.name,
        task_default_exchange=queue.exchange.name,
        task_default_exchange_type="topic",
        task_default_routing_key=queue.routing_key,
        task_create_missing_queue_type="quorum",
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_publish_retry=False,
        worker_prefetch_multiplier=1,
        worker_pool="threads",
        worker_concurrency=4,
        worker_soft_shutdown_timeout=30.0,
        worker_consumer="worker.queue.consumer:Consumer",
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        enable_utc=True,
        timezone="UTC",
        beat_scheduler="worker.queue.beat:Scheduler",
        beat_schedule={"sweep": {"task": "vodsync.sweep", "schedule": 10.0, "options": {"expires": 10}}},
    )
    created.steps["worker"].update(SERVICES)
    return created


app = _create()


@signals.setup_logging.connect  # type: ignore[untyped-decorator]  # Celery has no types
def _keep_logging(**_: Any) -> None:
    """Celery configures no logging if this signal has a receiver. `runtime.start` has configured it."""


@signals.worker_init.connect  # type: ignore[untyped-decorator]  # Celery has no types
def _check_start(**_: Any) -> None:
    """Refuse to start a worker with invalid credentials or a stale schema."""
    # Celery logs other exceptions of a signal receiver and continues. Only SystemExit ends the process.
    try:
        _ = runtime.current().source_contexts
        runtime.current().require_schema(waiting=True)
    except VodsyncError as error:
        raise runtime.refusal(error) from None


@signals.beat_init.connect  # type: ignore[untyped-decorator]  # Celery has no types
def _set_signals_of_beat(**_: Any) -> None:
    # Not for the beat of `vodsync work --beat`, which is a thread of the worker.
    if threading.current_thread() is threading.main_thread():
        ignore_user_signals()
        stop_on_hangup()


@signals.worker_ready.connect  # type: ignore[untyped-decorator]  # Celery has no types
def _freeze_garbage_collector(**_: Any) -> None:
    # Objects that exist now stay until the end. Otherwise each full collection stops all threads for about 100 ms, and calls to VOD
    # start late.
    gc.collect()
    gc.freeze()
