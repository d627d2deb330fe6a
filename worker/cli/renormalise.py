"""`vodsync renormalise`: derive typed columns from stored answers."""

from __future__ import annotations

from worker.cli import job_runs
from worker.cli.context import open_installation
from worker.cli.options import DryRun, JobAsJson, SourceName, WaitForJob
from worker.settings import DEFAULT_SOURCE
from worker.sync.jobs.renormalise import KIND, preview


def renormalise(
    source: SourceName = DEFAULT_SOURCE,
    wait: WaitForJob = False,
    dry_run: DryRun = False,
    as_json: JobAsJson = False,
) -> None:
    """Derive all typed columns again from VOD's stored answers, without calling VOD.

    Run it after an upgrade that reads more fields. A worker does it, and writes only rows that differ.
    """
    if dry_run:
        job_runs.preview(preview(open_installation(source).store, source), "read", as_json=as_json)
    else:
        job_runs.start(source, KIND, {}, wait=wait, as_json=as_json)
