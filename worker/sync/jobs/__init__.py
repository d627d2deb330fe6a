"""Jobs: long runs over a library or the notification log, done by workers in short steps that survive any interruption.

    run               claim a job and run its steps
    step              what a kind of job is, what a step returns, JSON of parameters and checkpoints
    registry          the list of all kinds: backfill, reconcile (with reconcile_phases), renormalise, replay
    listing, paging   read the library page by page
    pending_fetches   count the requested media that are not fetched yet
    suspect_calls     fetch the assets that a full listing did not show
    schedule          start reconciliations at their intervals

To add a kind:

1. Write a module in this package with `KIND` (the text of vod_job.kind), a frozen struct `Parameters`, a frozen struct for the
   checkpoint of each phase (`tag_field="phase"`), their union `Checkpoint`, and a class with the method `step` of `step.Kind`.
   A step calls VOD or reads outside of a transaction. It returns a `Step`; its `write` stores the results and returns the next
   checkpoint.
2. Add it to `registry.kinds_of`.
3. Add a verb under worker/cli that starts it with the JSON of its parameters, and the verb's line to `VERBS` in
   worker/cli/application.py. If a new counter counts requested media, add it to `_REQUEST_COUNTERS` in `run`, or workers are not
   woken. Add the progress of the kind to `_done_and_total` in worker/cli/job_runs.py.
4. Test each phase on the three databases, and that each checkpoint survives `to_json` and `from_json`.

The JSON of parameters and checkpoints is stored, and during an upgrade the old and the new release both read it. So keys and tags
of a release keep their names and meanings, a new field has a default, and keys that the previous release needs are still written.
"""
