"""Strategies for HTTP requests to the receiver, and the response that each must get, worked out without our own code."""

from __future__ import annotations

import hashlib
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
    """One request. `leaves` means that the sender disconnects before the end of the body."""

    source: str
    headers: Headers
    chunks: list[bytes]
    is_signed_by_vod: bool
    leaves: bool
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
    if not callback.is_signed_by_vod and not has_valid_credentials(callback):
        return {401}
    statuses: set[int | None] = set() if callback.is_signed_by_vod else {401}
    if callback.leaves:
        statuses |= {None}
    if len(callback.body) > BODY_LIMIT or _announced_length(callback) > BODY_LIMIT:
        return statuses | {413}
    is_notification = should_be_accepted(callback.body)
    if is_notification is not False:
        statuses |= {503 if database_is_down else 200}
    if is_notification is not True:
        statuses |= {400}
    return statuses


def has_valid_credentials(callback: Callback) -> bool:
    """Return whether the headers contain a fresh timestamp with its signature, or the source needs none."""
    timestamps = [value for name, value in callback.headers if name == b"x-vod-timestamp"]
    signatures = [value for name, value in callback.headers if name == b"x-vod-signature"]
    if callback.source == "open" or (callback.source == "both" and not timestamps and not signatures):
        return True
    return any(_is_valid(callback.source, timestamp, signature) for timestamp in timestamps for signature in signatures)


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
def _credentials(draw: st.DrawFn, source: str) -> tuple[Headers, bool]:
    """Draw the two headers of the signature, and whether VOD would send them."""
    keys, url = KEYS.get(source) or ("",), URLS.get(source, URL)
    timestamp = str(int(NOW.timestamp()) + draw(st.integers(-TOLERANCE, TOLERANCE)))
    signature = sign(url, timestamp, draw(st.sampled_from(keys)))
    is_signed = bool(KEYS.get(source)) or source == "open"
    right: Headers = [(b"x-vod-timestamp", timestamp.encode()), (b"x-vod-signature", signature.encode())]
    kind = draw(
        weighted(
            (12, st.just("right")),
            (1, st.sampled_from(("other form", "incomplete", "twice", "stale"))),
            (1, st.sampled_from(("wrong", "damaged signature", "damaged timestamp", "odd"))),
        )
    )
    if kind == "right":
        return right, is_signed
    if kind == "other form":
        return [(b"x-vod-timestamp", f" {timestamp}\t".encode()), (b"x-vod-signature", signature.upper().encode())], is_signed
    if kind == "incomplete":
        return draw(st.sampled_from(([], right[:1], right[1:]))), source == "open"
    if kind == "twice":
        # Which of two equal headers counts is not specified.
        return [*right, (draw(st.sampled_from(right))[0], draw(_octets))], False
    if kind == "stale":
        offset = draw(st.sampled_from((-1, 1))) * draw(st.sampled_from((TOLERANCE + 1, 86_400, 10**9, 10**19)))
        stale = str(int(NOW.timestamp()) + offset)
        return [(b"x-vod-timestamp", stale.encode()), (b"x-vod-signature", sign(url, stale, keys[0]).encode())], False
    if kind == "wrong":
        other_url, other_key = draw(st.sampled_from((url, url + "/", ""))), draw(st.sampled_from(("", "test123", "None")))
        return [right[0], (b"x-vod-signature", sign(other_url, timestamp, other_key).encode())], False
    if kind == "damaged signature":
        return [right[0], (b"x-vod-signature", draw(mutations.damaged(st.just(signature.encode())))[:10_000])], False
    if kind == "damaged timestamp":
        odd = draw(mutations.damaged(st.just(timestamp.encode())) | st.sampled_from((b"1e9", b"\xb2", b"-0", b"+5", b"1_0")))[
            :10_000
        ]
        return [(b"x-vod-timestamp", odd), (b"x-vod-signature", sign(url, odd.decode("latin-1"), keys[0]).encode())], False
    return [(b"x-vod-timestamp", draw(_octets)), (b"x-vod-signature", draw(_octets))], False


@st.composite
def callbacks(draw: st.DrawFn, bodies: st.SearchStrategy[bytes]) -> Callback:
    """Draw a request with one of `bodies`."""
    source = draw(_sources)
    body = draw(bodies)
    headers, is_signed_by_vod = draw(_credentials(source))
    lengths = weighted((8, st.just([b"%d" % len(body)])), (1, st.just([])), (1, _odd_lengths.map(lambda length: [length])))
    headers = [*headers, *((b"content-length", length) for length in draw(lengths))]
    headers += draw(st.lists(st.tuples(_header_names, _octets), max_size=2))
    if draw(st.booleans()):
        headers.reverse()
    cuts = sorted(position % (len(body) + 1) for position in draw(st.lists(st.integers(0, 2**16 - 1), max_size=4)))
    return Callback(
        source=source,
        headers=headers,
        chunks=[body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)],
        is_signed_by_vod=is_signed_by_vod,
        leaves=draw(weighted((40, st.just(False)), (1, st.just(True)))),
        by_router=draw(weighted((8, st.just(False)), (1, st.just(True)))),
    )
