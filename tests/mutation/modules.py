"""Which tests have to notice a change of which module."""

from __future__ import annotations

_CORE = ("tests/unit/core",)


def _sqlite(*names: str) -> tuple[str, ...]:
    """Integration tests on SQLite alone, which need no server."""
    return (*(f"tests/integration/{name}.py" for name in names), "-k", "sqlite")


#: Arguments for pytest by module.
TESTS: dict[str, tuple[str, ...]] = {
    "worker/core/backoff.py": ("tests/unit/test_backoff.py",),
    "worker/core/events.py": ("tests/unit/core/test_events.py",),
    "worker/core/field_parsers.py": _CORE,
    "worker/core/ids.py": _CORE,
    "worker/core/lenient_json.py": _CORE,
    "worker/core/listing.py": (*_CORE, "tests/unit/test_paging.py", "tests/unit/test_paging_two_seconds.py"),
    "worker/core/normalise.py": _CORE,
    "worker/core/reprocess.py": ("tests/unit/core/test_reprocess.py",),
    "worker/core/signature.py": ("tests/unit/core/test_signature.py",),
    "worker/core/urls.py": _CORE,
    "worker/outage.py": ("tests/unit/test_outage.py",),
    "worker/store/inbox/due_rows.py": _sqlite("test_inbox", "test_inbox_machine"),
    "worker/store/inbox/history.py": _sqlite("test_deletions", "test_deletes_column", "test_unfinished_answers", "test_retention"),
    "worker/store/inbox/notification_log.py": _sqlite("test_replay"),
    "worker/store/inbox/notifications.py": _sqlite("test_inbox", "test_spool"),
    "worker/store/inbox/outcomes.py": _sqlite("test_progress"),
    "worker/store/inbox/sync_requests.py": _sqlite("test_inbox", "test_inbox_machine"),
    "worker/store/inbox/video_info_queue.py": _sqlite("test_video_info"),
    "worker/store/rate_limit.py": _sqlite("test_rate_limit", "test_rate_limit_memory", "test_rate_limit_window"),
    "worker/sync/decide.py": ("tests/unit/test_batch_decisions.py",),
    "worker/sync/jobs/paging.py": ("tests/unit/test_paging.py",),
    "worker/sync/retry_policy.py": ("tests/unit/test_batch_decisions.py", "tests/unit/test_follow_up.py"),
    "worker/web/group_commit.py": ("tests/unit/test_group_commit.py", "tests/unit/test_group_commit_limits.py"),
}
