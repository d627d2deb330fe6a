"""Inject one fault into this process at one exact moment of one commit. Python imports this module if PYTHONPATH has its folder.

FAULT is `TEXT[+TEXT]:MOMENT:ACTION`. The transaction is the first whose statements contain all these texts, usually names of
tables (`sweep` is beat's message instead). MOMENT is before, during or after its commit. ACTION is `kill` (SIGKILL), `stop`
(SIGSTOP), or `hold`, which waits until the test deletes the marker. FAULT_MARKER is a file that is created at that moment.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _install(texts: list[str], moment: str, action: str, marker: Path) -> None:
    transaction = threading.local()
    first_match = threading.Lock()

    def inject() -> None:
        marker.touch()
        if action == "hold":
            while marker.exists():
                time.sleep(0.01)
        else:
            os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[action])

    def inject_around(step: Callable[[], object]) -> None:
        if moment == "before":
            inject()
            step()
        elif moment == "during":
            # The driver releases the GIL while it waits for the commit: then this thread runs.
            begun = threading.Event()

            def inject_when_begun() -> None:
                begun.wait()
                inject()

            thread = threading.Thread(target=inject_when_begun, daemon=True)
            thread.start()
            begun.set()
            step()
            thread.join()
        else:
            step()
            inject()

    def run(step: Callable[[], object], *, matches: bool) -> None:
        if matches and not marker.exists() and first_match.acquire(blocking=False):
            inject_around(step)
        else:
            step()

    if texts == ["sweep"]:
        from celery.beat import Scheduler

        publish = Scheduler.apply_async

        def apply_async(self: Any, *arguments: Any, **options: Any) -> None:
            run(lambda: publish(self, *arguments, **options), matches=True)

        Scheduler.apply_async = apply_async
        return

    from sqlalchemy import Engine, event
    from sqlalchemy.engine.default import DefaultDialect

    @event.listens_for(Engine, "begin")
    def clear_statements(_connection: Any) -> None:
        transaction.statements = ""

    @event.listens_for(Engine, "before_cursor_execute")
    def record_statement(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        transaction.statements = getattr(transaction, "statements", "") + statement

    commit: Callable[[Any, Any], None] = DefaultDialect.do_commit

    def do_commit(self: Any, connection: Any) -> None:
        statements = getattr(transaction, "statements", "")
        run(lambda: commit(self, connection), matches=all(text in statements for text in texts))

    # Replacing the method is the only hook directly around the driver's commit.
    DefaultDialect.do_commit = do_commit  # type: ignore[method-assign]


if "FAULT" in os.environ:
    _texts, _moment, _action = os.environ["FAULT"].split(":")
    _install(_texts.split("+"), _moment, _action, Path(os.environ["FAULT_MARKER"]))
