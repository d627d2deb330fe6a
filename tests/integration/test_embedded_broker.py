"""The embedded broker between processes that all start at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

STARTS = 8

# Declares the queue, sends one message and takes one, as a worker does when it starts.
SCRIPT = """
import sys
from kombu import Connection
from worker.queue.brokers import broker_options, sync_queue
from pathlib import Path

options = broker_options(None, Path(sys.argv[1]))
with Connection(options["broker_url"], transport_options=options["broker_transport_options"]) as connection:
    queue = sync_queue(None)(connection.default_channel)
    queue.declare()
    connection.Producer(connection.default_channel).publish({}, exchange="vodsync", routing_key="vodsync.sync", declare=[queue])
    print("taken" if queue.get(no_ack=True) else "nothing")
"""


def test_processes_that_start_together_do_not_meet_half_written_files(tmp_path: Path) -> None:
    for attempt in range(4):
        folder = tmp_path / str(attempt)
        started = [
            subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(STARTS)
        ]

        ended = [process.communicate(timeout=60) for process in started]

        assert [error for _, error in ended if error] == []
        assert {out.strip() for out, _ in ended} <= {"taken", "nothing"}
        assert not list(folder.rglob("*.partial"))
