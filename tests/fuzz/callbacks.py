"""Strategies for HTTP requests to the receiver, and the response that each must get, worked out without our own code."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from hypothesis import strategies as st

from tests.fuzz import json_documents, mutations, samples
from tests.fuzz.json_documents import weighted
from tests.fuzz.notification_rules import should_be_accepted
from worker.web.receiver import BODY_LIMIT

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TOLERANCE = 300  # seconds
URL = "https://media.example.org/hooks/vod?env=prod"
STUDIO_URL = "https://studio.example.org/hooks/vod"

#: Callback keys and callback URL of each source. "open" and "both" accept unsigned callbacks.
KEYS = {
    "default": ("Fuzz7CallbackKey", "Fuzz7CallbackKeyBefore"),
    "studio": ("Fuzz7StudioKey",),
    "open": (),
    "both": ("Fuzz7BothKey",),
}
URLS = {"default": URL, "studio": STUDIO_URL, "open": "", "both": URL}

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Callback:
    """One request. The sender disconnects before it sends the chunk with the index `leaves_before`, if that is not None."""

    source: str
    headers: Headers
    chunks: list[bytes]
    leaves_before: int | None
    by_router: bool

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)


def sign(url: str, timestamp: str, key: str) -> str:
    return hashlib.md5(f"{url}|{timestamp}|{key}".encode(), usedforsecurity=False).hexdigest()


# Expected responses


def expected_statuses(callback: Callback, *, database_is_down: bool) -> set[int | None]:
    """Return the HTTP statuses that this request may get. None means no response."""
    if callback.source not in KEYS:
        return {404}
    if not has_valid_credentials(callback):
        return {401}
    # Which of two equal headers counts is not specified, nor whether a number in another form is one.
    statuses: set[int | None] = {401} if has_unspecified_credentials(callback) else set()
    if _announced_length(callback) > BODY_LIMIT:
        return statuses | {413}
    if callback.leaves_before is not None:
        return statuses | {None, 413} if len(callback.body) > BODY_LIMIT else statuses | {None}
    if len(callback.body) > BODY_LIMIT:
        return statuses | {413}
    is_notification = should_be_accepted(callback.body)
    if is_notification is not False:
        statuses |= {503 if database_is_down else 200}
    if is_notification is not True:
        statuses |= {400}
    return statuses


def has_unspecified_credentials(callback: Callback) -> bool:
    timestamps, signatures = _credentials_of(callback)
    odd = [timestamp for timestamp in timestamps if not re.fullmatch(rb"\s*-?[0-9]{1,20}\s*", timestamp)]
    return callback.source != "open" and (len(timestamps) > 1 or len(signatures) > 1 or bool(odd))


def has_valid_credentials(callback: Callback) -> bool:
    """Return whether the headers contain a fresh timestamp with its signature, or the source needs none."""
    timestamps, signatures = _credentials_of(callback)
    if callback.source == "open" or (callback.source == "both" and not timestamps and not signatures):
        return True
    return any(_is_valid(callback.source, timestamp, signature) for timestamp in timestamps for signature in signatures)


def _credentials_of(callback: Callback) -> tuple[list[bytes], list[bytes]]:
    timestamps = [value for name, value in callback.headers if name == b"x-vod-timestamp"]
    return timestamps, [value for name, value in callback.headers if name == b"x-vod-signature"]


def _is_valid(source: str, timestamp_value: bytes, signature_value: bytes) -> bool:
    # White space around a value is not part of it.
    timestamp = timestamp_value.decode("latin-1").strip()
    try:
        is_fresh = abs(int(timestamp) - int(NOW.timestamp())) <= TOLERANCE
    except ValueError:
        return False
    signature = signature_value.decode("latin-1").strip().lower()
    return is_fresh and signature in {sign(URLS[source], timestamp, key) for key in KEYS[source]}


def _announced_length(callback: Callback) -> int:
    values = [value for name, value in callback.headers if name == b"content-length"]
    return int(values[-1][:20]) if values and values[-1].isdigit() else 0


# Requests

_octets = weighted(
    (5, json_documents.texts.map(lambda text: text.encode("utf-8", "surrogatepass"))),
    (4, st.binary(max_size=32)),
    (1, st.builds(lambda octet, length: octet * length, st.sampled_from((b"\0", b"a", b"\xff", b"9")), st.just(5000))),
)

_header_names = st.sampled_from(
    (
        *(b"content-type", b"user-agent", b"transfer-encoding", b"x-vod-timestamp ", b"x_vod_signature", b"host", b"expect"),
        *(b"", b"\xff"),
    )
)

_odd_lengths = st.sampled_from(
    (*(b"", b"0", b"-1", b"1e9", b"9" * 30, b"9" * 5000, b"0" * 30 + b"5", b"\xb2", b"1048576", b"1048577", b" 5", b"5,5", b"\0"),)
)

#: Names of configured sources and, rarely, others.
_sources = weighted(
    (30, st.sampled_from(("default", "default", "default", "studio", "open", "both"))),
    (1, st.sampled_from(("", "unknown", "DEFAULT", "default ", "..", "\u00e9", "\0", "\ud800", "x" * 5000))),
)

bodies = mutations.messages(samples.NOTIFICATIONS)

_HEAD, _TAIL = b'{"VideoId":"a","x":"', b'"}'

#: Bodies of about the largest size that is accepted.
large_bodies = st.builds(
    lambda filler, difference: _HEAD + filler * ((BODY_LIMIT - len(_HEAD) - len(_TAIL) + difference) & ~1) + _TAIL,
    st.sampled_from((b"x", b"\\", b"?", b"&")),
    st.sampled_from((-2, 0, 2, 5000, 300_000)),
)


@st.composite
def _credentials(draw: st.DrawFn, source: str) -> Headers:
    """Draw the two headers of the signature as VOD sends them, or as an attacker might."""
    keys, url = KEYS.get(source) or ("",), URLS.get(source, URL)
    timestamp = str(int(NOW.timestamp()) + draw(st.integers(-TOLERANCE, TOLERANCE)))
    signature = sign(url, timestamp, draw(st.sampled_from(keys)))
    right: Headers = [(b"x-vod-timestamp", timestamp.encode()), (b"x-vod-signature", signature.encode())]
    kind = draw(
        weighted(
            (10, st.just("right")),
            (2, st.sampled_from(("other form", "none", "incomplete", "twice", "stale"))),
            (2, st.sampled_from(("wrong", "almost", "damaged signature", "damaged timestamp", "odd timestamp", "odd"))),
        )
    )
    if kind == "right":
        return right
    if kind == "other form":
        return [(b"x-vod-timestamp", f" {timestamp}\t".encode()), (b"x-vod-signature", signature.upper().encode())]
    if kind == "none":
        return []
    if kind == "incomplete":
        return draw(st.sampled_from((right[:1], right[1:])))
    if kind == "twice":
        return [*right, (draw(st.sampled_from(right))[0], draw(_octets))]
    if kind == "stale":
        offset = draw(st.sampled_from((-1, 1))) * draw(st.sampled_from((TOLERANCE + 1, 86_400, 10**9, 10**19)))
        stale = str(int(NOW.timestamp()) + offset)
        return [(b"x-vod-timestamp", stale.encode()), (b"x-vod-signature", sign(url, stale, keys[0]).encode())]
    if kind == "wrong":
        other_keys = [key for name in KEYS if name != source for key in KEYS[name]]
        other_url, other_key = (
            draw(st.sampled_from((url, url + "/", ""))),
            draw(st.sampled_from(("", "test123", "None", *other_keys))),
        )
        return [right[0], (b"x-vod-signature", sign(other_url, timestamp, other_key).encode())]
    if kind == "almost":
        # One digit of the right signature is another one.
        position = draw(st.sampled_from((0, 1, 15, 16, 30, 31)))
        digit = "0" if signature[position] != "0" else "1"
        return [right[0], (b"x-vod-signature", f"{signature[:position]}{digit}{signature[position + 1 :]}".encode())]
    if kind == "damaged signature":
        return [right[0], (b"x-vod-signature", draw(mutations.damaged(st.just(signature.encode())))[:10_000])]
    if kind == "damaged timestamp":
        odd = draw(mutations.damaged(st.just(timestamp.encode())))[:10_000]
        return [(b"x-vod-timestamp", odd), (b"x-vod-signature", sign(url, odd.decode("latin-1"), keys[0]).encode())]
    if kind == "odd timestamp":
        odd = draw(st.sampled_from((b"1e9", b"\xb2", b"-0", b"+5", b"1_0", b"9" * 21, b"9" * 5000, b"9" * 5000)))
        return [(b"x-vod-timestamp", odd), (b"x-vod-signature", sign(url, odd.decode("latin-1"), keys[0]).encode())]
    return [(b"x-vod-timestamp", draw(_octets)), (b"x-vod-signature", draw(_octets))]


@st.composite
def callbacks(draw: st.DrawFn, bodies: st.SearchStrategy[bytes]) -> Callback:
    """Draw a request with one of `bodies`."""
    source = draw(_sources)
    body = draw(bodies)
    headers = draw(_credentials(source))
    lengths = weighted((8, st.just([b"%d" % len(body)])), (1, st.just([])), (1, _odd_lengths.map(lambda length: [length])))
    headers = [*headers, *((b"content-length", length) for length in draw(lengths))]
    headers += draw(st.lists(st.tuples(_header_names, _octets), max_size=2))
    if draw(st.booleans()):
        headers.reverse()
    cuts = sorted(position % (len(body) + 1) for position in draw(st.lists(st.integers(0, 2**16 - 1), max_size=4)))
    leaves = draw(weighted((40, st.just(False)), (1, st.just(True))))
    return Callback(
        source=source,
        headers=headers,
        chunks=[body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)],
        leaves_before=draw(st.integers(0, len(cuts))) if leaves else None,
        by_router=draw(weighted((8, st.just(False)), (1, st.just(True)))),
    )
