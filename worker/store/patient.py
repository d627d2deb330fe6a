"""A PostgreSQL connection that gives up on a server that says nothing."""

from __future__ import annotations

from typing import Any

import psycopg

#: Seconds; longer than any statement may take by the server's own clock.
_FROZEN = 12.0


class Connection(psycopg.Connection[Any]):
    """statement_timeout is kept by the server; one that is frozen, or behind a dead line, keeps nothing."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = _FROZEN) -> Any:
        try:
            return super().wait(gen, interval, timeout)
        except psycopg.OperationalError:
            if not self.closed and self.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                # What comes over this connection later would be the answer to another question.
                self.pgconn.finish()
            raise
