"""Jobs: long runs over a library or the notification log, done by workers in short steps that survive any interruption.

`run` claims a job and runs its steps. `step` defines what a kind is and what a step returns. `registry` lists the kinds:
`backfill`, `reconcile` (its phases: `reconcile_phases`), `renormalise`, `replay`. `listing` and `paging` read the library page by page, `pending_fetches` counts
what is not fetched yet, `suspect_calls` fetches what a full listing did not show, and `schedule` starts reconciliations.

To add a kind:

1. Write a module here with `KIND` (the text of vod_job.kind), a frozen struct `Parameters`, a frozen struct for the checkpoint of
   each phase (`tag_field="phase"`), their union `Checkpoint`, and a class with the method `step` of `step.Kind`. A step calls VOD
   or reads outside of a transaction. It returns a `Step` whose `write` stores the results and returns the next checkpoint.
2. Add it to `registry.kinds_of`.
3. Add a verb under worker/cli that starts it: `cli.jobs.start(source, KIND, to_json(Parameters(...)), ...)`.
4. Test each phase on the three databases, and that a checkpoint survives `to_json` and `from_json`.

The JSON of parameters and checkpoints is stored, and both releases read it while one replaces the other. So a key or a tag that was
released keeps its name and meaning, a new field has a default, and a key that the previous release needs is still written.
"""
