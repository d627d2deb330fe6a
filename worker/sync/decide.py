"""Decide what a batch's results change: which assets to write, and which requests to complete, retry or dead-letter.

Nothing here reads the database, the clock or the network. `batch` loads the `StoredFacts` before and applies the `Decisions` after.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime

from worker.core.errors import VodError
from worker.core.ids import reference_key
from worker.core.media import Answer, Media
from worker.store.catalogue.assets import DELETED, FORBIDDEN, OK
from worker.store.inbox.history import Deletion
from worker.store.inbox.sync_requests import Claim, Retry, SyncRequest
from worker.sync.fetch import FetchResult
from worker.sync.retry_policy import RetryPolicy


@dataclass(frozen=True, slots=True)
class RelevantAnswer:
    """The part of one answer that concerns the claimed requests."""

    #: The time of the request to VOD.
    observed_at: datetime
    #: Assets that VOD returned, by media id.
    media: Mapping[str, Media]
    #: Media ids that VOD does not know.
    missing: Set[str]
    #: Media ids that the account may not read.
    forbidden: Set[str]
    #: Keys of requests for reference ids that VOD does not know.
    missing_references: Set[str]


@dataclass(frozen=True, slots=True)
class StoredFacts:
    """What the database contains about the assets in the answers, before anything of the batch is written."""

    #: State of each asset that is missing, that VOD returned without details, or whose deletion was announced.
    states: Mapping[str, str] = field(default_factory=dict)
    #: The last announced deletion of each asset.
    deletions: Mapping[str, Deletion] = field(default_factory=dict)
    #: Assets without analysis in the answer, whose last analysis failed.
    failed_analyses: Set[str] = frozenset()


@dataclass(frozen=True, slots=True)
class AssetWrites:
    """What one answer changes in the catalogue. An answer older than a stored row does not change that row."""

    observed_at: datetime
    saved: tuple[Media, ...] = ()
    #: Time of deletion by media id.
    deleted: Mapping[str, datetime] = field(default_factory=dict)
    missing: Set[str] = frozenset()
    #: To be marked missing only if they have no row: a stored asset is not gone because one answer lacks it.
    missing_if_new: Set[str] = frozenset()
    forbidden: Set[str] = frozenset()


@dataclass(slots=True)
class Decisions:
    """The decision about each claimed request, and the writes that go with it.

    Several answers can concern one request. A dead letter takes precedence over completion, completion over a retry, and a later
    retry over an earlier one.
    """

    assets: list[AssetWrites] = field(default_factory=list)
    completed: set[str] = field(default_factory=set)
    retries: dict[str, Retry] = field(default_factory=dict)
    #: Error by key.
    dead_letters: dict[str, str] = field(default_factory=dict)
    #: Priority of each asset for which GetVideoInfo is to be called, by media id.
    video_info: dict[str, int] = field(default_factory=dict)
    #: VOD answers again after calls that failed for the whole source.
    source_recovered: bool = False
    #: The latest error of a source whose calls still fail.
    source_error: str | None = None

    def complete(self, key: str) -> None:
        if key not in self.dead_letters:
            self.retries.pop(key, None)
            self.completed.add(key)

    def retry(self, retry: Retry) -> None:
        if retry.media_id not in self.completed and retry.media_id not in self.dead_letters:
            self.retries[retry.media_id] = retry

    def dead_letter(self, key: str, error: str) -> None:
        self.retries.pop(key, None)
        self.completed.discard(key)
        self.dead_letters[key] = error

    def retry_or_complete(self, key: str, retry: Retry | None) -> None:
        if retry:
            self.retry(retry)
        else:
            self.complete(key)

    def retry_or_dead_letter(self, key: str, retry: Retry | None, error: str) -> None:
        if retry:
            self.retry(retry)
        else:
            self.dead_letter(key, error)

    @property
    def keys(self) -> set[str]:
        """The requests that have a decision."""
        return self.completed | self.retries.keys() | self.dead_letters.keys()


def request_keys(media: Media) -> set[str]:
    """Return the keys under which an asset can have been requested: its media id, and its reference id if it has one."""
    return {media.media_id} | ({reference_key(media.reference_id)} if media.reference_id else set())


def relevant_answers(answers: Iterable[tuple[Answer, datetime]], keys: Set[str]) -> list[RelevantAnswer]:
    """Return the parts of the answers that concern the requests with these keys, in the order of the calls."""
    return [
        RelevantAnswer(
            observed_at=observed_at,
            media={media.media_id: media for media in answer.media if request_keys(media) & keys},
            missing=answer.missing & keys,
            forbidden=(answer.forbidden - answer.missing) & keys,
            missing_references={reference_key(reference_id) for reference_id in answer.missing_references} & keys,
        )
        for answer, observed_at in answers
    ]


def decide(
    claim: Claim, fetched: FetchResult, facts: StoredFacts, policy: RetryPolicy, *, now: datetime, video_info: bool
) -> Decisions:
    """Return the decisions for a claim; exactly one for each of its requests.

    `video_info`: whether GetVideoInfo is to be called for the assets that VOD returned.
    """
    batch = _Batch({request.media_id: request for request in claim.requests}, facts, dict(facts.states), policy, now)
    for answer in relevant_answers(fetched.answers, batch.requests.keys()):
        batch.decide_answer(answer)
        if video_info:
            batch.add_video_info(answer)
    batch.decide_refused(fetched.refused)
    batch.decide_unanswered(fetched)
    batch.decide_source(fetched)
    return batch.decisions


@dataclass(slots=True)
class _Batch:
    """What the decisions depend on, and the decisions so far."""

    requests: Mapping[str, SyncRequest]
    facts: StoredFacts
    #: The states after the answers that were decided so far: two answers can concern one asset (its media id, its reference id).
    states: dict[str, str]
    policy: RetryPolicy
    now: datetime
    decisions: Decisions = field(default_factory=Decisions)

    def decide_answer(self, answer: RelevantAnswer) -> None:
        for media in answer.media.values():
            self._decide_returned(media)
        deleted = {
            media_id: deletion.at
            for media_id in answer.missing
            if (deletion := self.facts.deletions.get(media_id)) and self._is_cause(deletion, media_id)
        }
        missing = answer.missing - deleted.keys()
        retries = {media_id: retry for media_id in missing if (retry := self._retry_missing(media_id))}
        for media_id in answer.missing | answer.forbidden:
            self.decisions.retry_or_complete(media_id, retries.get(media_id))
        for key in answer.missing_references:
            self.decisions.dead_letter(key, "VOD knows no asset with this reference id")
        writes = AssetWrites(
            observed_at=answer.observed_at,
            saved=tuple(answer.media.values()),
            deleted=deleted,
            missing=missing - retries.keys(),
            missing_if_new=retries.keys(),
            forbidden=answer.forbidden,
        )
        self.decisions.assets.append(writes)
        self._update_states(writes)

    def _decide_returned(self, media: Media) -> None:
        deletion, state = self.facts.deletions.get(media.media_id), self.states.get(media.media_id)
        for key in request_keys(media) & self.requests.keys():
            request = self.requests[key]
            # VOD may return an asset again that was deleted before: a deletion that was confirmed once is not waited for.
            deleted = deletion is not None and deletion.reported_at >= request.requested_at and state != DELETED
            retry = self.policy.retry_incomplete(
                request,
                media,
                now=self.now,
                stored=state == OK,
                deleted=deleted,
                analysis_failed=media.media_id in self.facts.failed_analyses,
            )
            self.decisions.retry_or_complete(key, retry)

    def _is_cause(self, deletion: Deletion, media_id: str) -> bool:
        """Return whether an asset is missing because of this deletion: not if an answer showed the asset since."""
        return deletion.reported_at >= self.requests[media_id].requested_at or self.states.get(media_id) in (None, DELETED)

    def _retry_missing(self, media_id: str) -> Retry | None:
        stored = self.states.get(media_id) == OK
        return self.policy.retry_not_final(self.requests[media_id], "VOD does not know this id (yet)", now=self.now, stored=stored)

    def _update_states(self, writes: AssetWrites) -> None:
        # No later decision depends on whether an asset was marked missing, because its request is decided.
        self.states |= dict.fromkeys(writes.deleted, DELETED) | dict.fromkeys(writes.forbidden, FORBIDDEN)
        # Last: if one answer contains an asset and also lists it as missing, the asset is stored.
        self.states |= {media.media_id: OK for media in writes.saved}

    def add_video_info(self, answer: RelevantAnswer) -> None:
        """Have GetVideoInfo called for each returned asset, with the best priority of its requests."""
        for media_id, media in answer.media.items():
            keys = request_keys(media) & self.requests.keys()
            self.decisions.video_info[media_id] = min(self.requests[key].priority for key in keys)

    def decide_refused(self, refused: Mapping[str, VodError]) -> None:
        for key, refusal in refused.items():
            error = describe(refusal)
            # VOD refuses an asset in this state only for a while.
            is_temporary = refusal.code == "Forbidden.IllegalStatus"
            retry = self.policy.retry_not_final(self.requests[key], error, now=self.now) if is_temporary else None
            self.decisions.retry_or_dead_letter(key, retry, error)

    def decide_unanswered(self, fetched: FetchResult) -> None:
        """Decide the requests that no answer and no refusal concerned."""
        for key in self.requests.keys() - self.decisions.keys:
            if key in fetched.put_back:
                self.decisions.retry(Retry(key, self.now, describe(fetched.put_back[key])))
                continue
            error = describe(fetched.failed[key]) if key in fetched.failed else "VOD's answer does not mention this id"
            retry = self.policy.retry_after_failure(self.requests[key], error, now=self.now)
            self.decisions.retry_or_dead_letter(key, retry, error)

    def decide_source(self, fetched: FetchResult) -> None:
        """Decide whether a source whose calls failed before has recovered.

        A source that was backed off again already has its error stored.
        """
        if not fetched.probing or fetched.put_back:
            return
        if fetched.answers or fetched.refused:
            self.decisions.source_recovered = True
        elif fetched.failed:
            self.decisions.source_error = str(next(iter(fetched.failed.values())))


def describe(error: VodError) -> str:
    """Return the error with the id of the request, for which the vendor's support asks."""
    return f"{error} (request {error.request_id})" if error.request_id else str(error)
