"""The examples in the README that send messages to `vodsync.reprocess` work unchanged."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.system.fault_harness import FaultHarness
from tests.system.reprocess_queue import README, README_BROKER, README_ID, REPROCESS, Library, Queues, start_consumer, wait_for


@pytest.mark.parametrize("first", ["worker", "publisher"])
def test_publisher_example_in_readme_works_unchanged(harness: FaultHarness, queues: Queues, library: Library, first: str) -> None:
    if first == "worker":
        start_consumer(harness)
    else:
        queues.forget()
    [media_id] = library(1)
    examples = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    [code] = [example for example in examples if REPROCESS in example]
    assert len([line for line in code.splitlines() if line]) == 3
    assert README_BROKER in code

    connection = f'kombu.Connection("filesystem://", transport_options={queues.filesystem_options})'
    if queues.url:
        connection = f'kombu.Connection("{queues.url}")'
    code = code.replace(f'kombu.Connection("{README_BROKER}")', connection).replace(README_ID, media_id)
    # In a process of its own, because kombu declares a queue only once per process.
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    if first == "publisher":
        start_consumer(harness)

    wait_for(harness, [media_id])


@pytest.mark.parametrize("shared_harness", ["sqlite-embedded", "mariadb-redis"], indirect=True)
def test_shell_example_in_readme_works_unchanged(harness: FaultHarness, queues: Queues, library: Library) -> None:
    start_consumer(harness)
    [media_id] = library(1)
    command = {"redis": "redis-cli", "embedded": "echo"}[queues.kind]
    [line] = re.findall(rf"^{command} .*vodsync.reprocess.*$", README.read_text(), re.MULTILINE)
    if queues.url:
        line = line.replace("redis-cli", f"redis-cli -u {queues.url}")

    subprocess.run(line.replace(README_ID, media_id), shell=True, check=True, cwd=harness.installation.folder, timeout=60)

    wait_for(harness, [media_id])
