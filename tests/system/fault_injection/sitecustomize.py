"""Python imports this at its start where the folder is in PYTHONPATH: it strikes the process at one exact moment of one commit.

STRIKE_AT is `TABLE[+TABLE]:MOMENT:BLOW`. The transaction is the first whose statements name all these tables, or whatever else
stands in their place (`sweep` is beat's message instead). MOMENT is before, during or after its commit. BLOW is `kill` (SIGKILL),
`stop` (SIGSTOP), or `hold`, which waits until the test has done what it wanted to do at this moment. STRIKE_SIGN is a file that
appears when the blow falls; `hold` waits for it to go away again.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _install(tables: list[str], moment: str, blow: str, sign: Path) -> None:
    touched = threading.local()
    wanted = threading.Lock()

    def strike() -> None:
        sign.touch()
        if blow == "hold":
            while sign.exists():
                time.sleep(0.01)
        else:
            os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[blow])

    def around(act: Callable[[], object]) -> None:
        if moment == "before":
            strike()
            act()
        elif moment == "during":
            # The driver lets go of the interpreter while it waits for the commit: there this thread wakes up.
            awake = threading.Event()
            thread = threading.Thread(target=lambda: (awake.wait(), strike()), daemon=True)
            thread.start()
            awake.set()
            act()
            thread.join()
        else:
            act()
            strike()

    def once(act: Callable[[], object], *, matches: bool) -> None:
        if matches and not sign.exists() and wanted.acquire(blocking=False):
            around(act)
        else:
            act()

    if tables == ["sweep"]:
        from celery.beat import Scheduler

        publish = Scheduler.apply_async

        def apply_async(self: Any, *arguments: Any, **options: Any) -> None:
            once(lambda: publish(self, *arguments, **options), matches=True)

        Scheduler.apply_async = apply_async
        return

    from sqlalchemy import Engine, event
    from sqlalchemy.engine.default import DefaultDialect

    @event.listens_for(Engine, "begin")
    def forget(_connection: Any) -> None:
        touched.statements = ""

    @event.listens_for(Engine, "before_cursor_execute")
    def remember(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        touched.statements = getattr(touched, "statements", "") + statement

    commit = DefaultDialect.do_commit

    def do_commit(self: Any, connection: Any) -> None:
        statements = getattr(touched, "statements", "")
        once(lambda: commit(self, connection), matches=all(table in statements for table in tables))

    DefaultDialect.do_commit = do_commit  # type: ignore[method-assign]


if "STRIKE_AT" in os.environ:
    _tables, _moment, _blow = os.environ["STRIKE_AT"].split(":")
    _install(_tables.split("+"), _moment, _blow, Path(os.environ["STRIKE_SIGN"]))
