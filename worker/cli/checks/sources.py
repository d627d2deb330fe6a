"""Check what belongs to one source: callbacks, credentials and clock, queue, and the callback settings at VOD."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from worker import runtime
from worker.cli.checks import Finding, Verdict
from worker.cli.output import count_of
from worker.core.errors import VodCredentialsError, VodError, VodsyncError, VodThrottledError, VodUnavailableError
from worker.runtime import Runtime
from worker.settings import Source
from worker.store.database_clock import MAX_CLOCK_SKEW

#: Error codes of a valid key that lacks a permission start with one of these.
PERMISSION_CODES = ("Forbidden", "NoPermission")

#: MessageCallback in the answer of GetMessageCallback. Any: JSON.
_CallbackSettings = dict[str, Any]


def check_callbacks(name: str, source: Source) -> Finding | str:
    """Check that the receiver can verify callbacks of this source."""
    if source.smq_queue and not source.callback_url and not source.callback_keys and source.callback_unsigned == "reject":
        return "not used; notifications come through the queue"
    source.require_callback(name)
    if source.callback_unsigned == "accept":
        return Finding(Verdict.UNSURE, "unsigned callbacks are accepted from any sender (VODSYNC_CALLBACK_UNSIGNED=accept)")
    return f"will be verified against {source.callback_url} with {count_of(len(source.callback_keys), 'key')}"


def check_vod(installation: Runtime, name: str, source: Source) -> Finding | str:
    """Make one signed call for an id that cannot exist. The answer also shows how far this machine's clock is off."""
    from worker.vod.client import Client

    installation.require_credentials(name)
    client = Client(source)
    try:
        client.batch_get_media_infos(["vodsyncdoctor"])
    except VodThrottledError as error:
        raise VodsyncError(f"{error}; other programs of this account may call too often. Workers wait and retry") from error
    except VodUnavailableError as error:
        if error.code:
            raise VodsyncError(f"{error} (request {error.request_id}); workers retry until it is available") from error
        raise VodsyncError(f"{error}; check VODSYNC_REGION, VODSYNC_ENDPOINT and the network") from error
    except VodError as error:
        # Only this error proves that VOD accepted the signature.
        if error.code != "InvalidVideo.NotFound":
            raise VodsyncError(f"{error} (request {error.request_id})") from error
    if client.server_time is None:
        return "answers a signed call"
    skew = runtime.machine_time() - client.server_time
    if abs(skew) > MAX_CLOCK_SKEW:
        seconds = f"{skew.total_seconds():+.0f} s"
        return Finding(Verdict.BAD, f"answers, but this machine's clock is {seconds} off; synchronise it by NTP")
    return f"answers a signed call; clock within {max(1, round(abs(skew.total_seconds())))} s"


def check_queue(installation: Runtime, name: str, source: Source) -> Finding | str:
    """Peek into the queue: no message is received."""
    from worker.vod.smq import MAX_MESSAGES, Queue

    source.has_queue(name)
    installation.require_credentials(name)
    queue = Queue(source)
    try:
        count = queue.check()
    except VodUnavailableError as error:
        raise VodsyncError(f"{error}; check VODSYNC_SMQ_ENDPOINT and the network") from error
    except VodCredentialsError as error:
        if error.code != "AccessDenied":
            raise
        # Peeking is a permission of its own. Reading the queue does not need it.
        return Finding(Verdict.UNSURE, f"{error}; grant mns:PeekMessage to check the queue from here")
    finally:
        queue.close()
    if not count:
        return f"{queue.name} answers a signed call and is empty"
    return f"{queue.name} answers a signed call; {count}{' or more' if count == MAX_MESSAGES else ''} messages wait to be received"


def check_callback_settings(source: Source) -> Finding | str:
    """Compare the callback settings at VOD with ours."""
    from worker.vod.client import Client

    try:
        at_vod: _CallbackSettings = Client(source).get_message_callback().get("MessageCallback") or {}
    except VodCredentialsError as error:
        grant = "; grant vod:GetMessageCallback to the RAM user to compare them" if error.code.startswith(PERMISSION_CODES) else ""
        return Finding(Verdict.UNSURE, f"cannot be read ({error.code}){grant}")
    except VodError as error:
        return Finding(Verdict.UNSURE, f"cannot be read ({error.code or error})")
    differences = list(_differences(at_vod, source))
    if differences:
        return Finding(Verdict.BAD, "; ".join(differences))
    return "agree with ours"


def _differences(at_vod: _CallbackSettings, source: Source) -> Iterator[str]:
    kind = at_vod.get("CallbackType") or "HTTP"
    if kind == "HTTP":
        yield from _http_differences(at_vod, source)
    elif kind == "MNS" and source.smq_queue:
        yield from _queue_differences(at_vod, source)
    else:
        yield f"VOD sends notifications by {kind}, and we expect HTTP"
    events = {part.strip() for part in str(at_vod.get("EventTypeList") or "").split(",")}
    if not events & {"ALL", "VideoAnalysisComplete"}:
        yield "VOD does not send VideoAnalysisComplete; select that event type at VOD"


def _http_differences(at_vod: _CallbackSettings, source: Source) -> Iterator[str]:
    url = at_vod.get("CallbackURL")
    if source.callback_url and url != source.callback_url:
        yield f"VOD calls {url}, VODSYNC_CALLBACK_URL is {source.callback_url}"
    elif source.smq_queue and not source.callback_url:
        yield f"VOD calls {url} and does not write to the queue {source.smq_queue}"
    if source.callback_keys and at_vod.get("AuthSwitch") != "on":
        yield "authentication is off at VOD, and the receiver accepts only signed callbacks; switch it on"
    # It is not documented whether VOD returns the key, or masks it.
    key = str(at_vod.get("AuthKey") or "")
    our_keys = [secret.get_secret_value() for secret in source.callback_keys]
    if our_keys and key.isalnum() and key not in our_keys:
        yield "the authentication key at VOD is not in VODSYNC_CALLBACK_KEYS, so every callback is refused"


def _queue_differences(at_vod: _CallbackSettings, source: Source) -> Iterator[str]:
    if at_vod.get("MnsQueueName") != source.smq_queue:
        yield f"VOD writes to the queue {at_vod.get('MnsQueueName')}, VODSYNC_SMQ_QUEUE is {source.smq_queue}"
    # VOD has the public address. The address inside a VPC has -internal in it.
    theirs, ours = (
        str(url or "").partition("://")[2].replace("-internal", "") for url in (at_vod.get("MnsEndpoint"), source.smq_endpoint)
    )
    if theirs and theirs.rstrip("/") != ours:
        yield f"VOD writes to {at_vod.get('MnsEndpoint')}, VODSYNC_SMQ_ENDPOINT is {source.smq_endpoint}"
