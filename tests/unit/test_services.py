"""What a worker runs beside its pool."""

from __future__ import annotations

import importlib
import pkgutil
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from worker import runtime, settings
from worker.background import BackgroundLoop


@pytest.fixture(autouse=True)
def current(monkeypatch: pytest.MonkeyPatch) -> runtime.Runtime:
    current = runtime.Runtime(settings.load(environ={}))
    monkeypatch.setattr(runtime, "_current", current)
    return current


def test_a_worker_has_every_service_that_there_is() -> None:
    from celery.utils.imports import symbol_by_name

    from worker.queue import services as package
    from worker.queue.celery_app import SERVICES, app
    from worker.queue.services.base import Service

    modules = [importlib.import_module(f"{package.__name__}.{module.name}") for module in pkgutil.iter_modules(package.__path__)]
    defined = {value for module in modules for value in vars(module).values() if isinstance(value, type(Service))}
    services = {symbol_by_name(name) for name in SERVICES}

    assert set(SERVICES) <= app.steps["worker"]
    assert services == defined - {Service}
    assert all(service.requires == ("celery.worker.components:Pool",) for service in services)


def test_a_service_starts_its_threads_and_stops_all_of_them_within_its_grace_period(current: runtime.Runtime) -> None:
    from worker.queue.services.base import Service

    release = threading.Event()
    finished: list[str] = []

    class Slow(Service):
        grace_period = 0.1

        def loops(self, concurrency: int) -> Iterator[BackgroundLoop]:
            for number in range(concurrency):
                yield BackgroundLoop(f"slow {number}", self._step, failure="failed", finish=lambda: finished.append("slow"))

        def _step(self) -> float:
            release.wait(10)
            return 3600.0

    parent: Any = SimpleNamespace(concurrency=2)
    service = Slow(parent)
    service.start(parent)
    names = {thread.name for thread in threading.enumerate()}
    service.stop(parent)
    stopped_with_threads_running = current.stopping.is_set() and not finished
    release.set()
    Slow.grace_period = 10.0
    service.terminate(parent)

    assert {"slow 0", "slow 1"} <= names
    assert stopped_with_threads_running
    assert finished == ["slow", "slow"]
