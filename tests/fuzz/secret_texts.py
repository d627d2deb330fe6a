"""Strategies for texts and log fields with signatures and passwords in them."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from hypothesis import strategies as st

from tests.fuzz import json_documents
from tests.fuzz.json_documents import pick, weighted

_SIGNING_PARAMETERS = [
    *("auth_key", "Expires", "OSSAccessKeyId", "Signature", "security-token", "x-oss-signature", "x-oss-security-token"),
    *("x-oss-credential", "x-oss-date", "x-oss-expires", "x-oss-signature-version", "x-oss-additional-headers"),
    *("AUTH_KEY", "signature"),
]

#: How the value of a parameter continues in real URLs: plain, in base64, or percent-encoded.
_VALUE_ENDS = ["", "=", "==", "%3D%3D", "+a/b", "%2Bx%2F", ".x", "-0-0-ff", "~_", ":a", ";b", "/aliyun_v4_request", "*", "@a", "$"]
_OTHER_PARAMETERS = ["a=1", "b=", "x-oss-process=image/resize,w_100", "token=t", "c", "next=http://n.example.org/", "d=%20"]
_BEFORE = ["", "See ", "(", '"', "<a href='", "x,", "\n", "Expires=5 ", "\u00e9", "a=b&c ", "\\", '["', "?", "\ufeff"]
_AFTER = ["", ".", ")", '"', "'>", ",", " and", "\n", "#t=5", "\u3002", "\\", '"]', "!", ";", "&", "&&", "\0", "\ud800", "<"]
_PAGES = [
    *("http://img.example.org/a.jpg", "https://b.oss-cn-shanghai.aliyuncs.com/x/%E4%BD%A0.mp4"),
    *("//h/", "http://[::1]:80/", "/p"),
]

#: Secrets that the redactor knows.
KNOWN_SECRETS = ("Sup3rSecretKey", "Sup3rSecretKeyLonger", "s3cr3t+/=", "p\u00e4ssw\u00f6rt", "with space", "(a.*b)\\d")

#: Values that occur nowhere else in a text.
_unique = st.integers(0, 2**48 - 1).map(lambda number: f"{number:012x}")

_before, _after = pick(_BEFORE), pick(_AFTER)


class SecretText(NamedTuple):
    """A text, and the parts of it that must be removed."""

    text: str
    secrets: tuple[str, ...]


class SecretField(NamedTuple):
    """A field of a log line, the secrets in it, and the signatures in it that are removed if it contains an address."""

    value: Any
    secrets: tuple[str, ...] = ()
    signatures: tuple[str, ...] = ()


# Signed URLs


@st.composite
def _signed_url(draw: st.DrawFn) -> SecretText:
    ampersand = draw(st.sampled_from(("&", "&", "&", "&amp;", "\\u0026", "\\\\u0026", "&&")))
    equals = draw(st.sampled_from(("=", "=", "=", "\\u003d")))
    question = draw(st.sampled_from(("?", "?", "?", "\\u003f", "\\\\u003F", "?&", "?a=1&")))
    secrets = [f"zq{unique}" for unique in draw(st.lists(_unique, max_size=4))]
    parameters = [f"{draw(pick(_SIGNING_PARAMETERS))}{equals}{secret}{draw(pick(_VALUE_ENDS))}" for secret in secrets]
    for other in draw(st.lists(pick(_OTHER_PARAMETERS), max_size=3)):
        parameters.insert(draw(st.integers(0, len(parameters))), other)
    url = f"{draw(_before)}{draw(pick(_PAGES))}{question}{ampersand.join(parameters)}{draw(_after)}"
    return SecretText(url, tuple(secrets))


def _joined(parts: list[SecretText]) -> SecretText:
    return SecretText("".join(part.text for part in parts), tuple(secret for part in parts for secret in part.secrets))


_wrappers = st.sampled_from(
    (
        json.dumps,
        lambda text: json.dumps([text], ensure_ascii=False),
        lambda text: json.dumps({"EventType": "x", text[:20]: [text, 1]}),
    )
)


@st.composite
def _wrapped(draw: st.DrawFn, texts: st.SearchStrategy[SecretText]) -> SecretText:
    text, secrets = draw(texts)
    for wrapper in draw(st.lists(_wrappers, max_size=3)):
        text = wrapper(text)
    return SecretText(text, secrets)


_other_texts = st.lists(json_documents.texts.map(lambda text: text[:200]), min_size=1, max_size=5).map("".join)

#: Texts with signed URLs, bare or as JSON text of up to three levels, and some without.
signed_texts = _wrapped(
    weighted(
        (4, st.lists(_signed_url(), min_size=1, max_size=3).map(_joined)),
        (1, _other_texts.map(lambda text: SecretText(text, ()))),
    )
)

# Fields of a log line


@st.composite
def _with_known_secrets(draw: st.DrawFn) -> SecretField:
    start = draw(json_documents.texts)[:30]
    return SecretField(f"{start}{draw(pick(KNOWN_SECRETS))}{draw(_after)}{draw(pick(KNOWN_SECRETS))}")


@st.composite
def _with_password(draw: st.DrawFn) -> SecretField:
    secret = f"pw{draw(_unique)}"
    password = secret + draw(st.sampled_from(("", "%40", "!", "?", "#", "&", "=", "$x", ":y", "+", ";")))
    scheme = draw(st.sampled_from(("postgresql+psycopg", "amqp", "redis", "mysql", "https")))
    if draw(st.integers(0, 2)):
        user = draw(st.sampled_from(("", "user", "user%40x", "u.v-w")))
        return SecretField(f"{draw(_before)}{scheme}://{user}:{password}@host:5432/db{draw(_after)}", (secret,))
    name = draw(st.sampled_from(("password", "passwd", "sslpassword", "PASSWORD")))
    before, after = draw(st.sampled_from(("", "a=1&"))), draw(st.sampled_from(("", "&b=2")))
    return SecretField(f"{scheme}://host/db?{before}{name}={password}{after}", (secret,))


@st.composite
def _object_with_secrets(draw: st.DrawFn) -> SecretField:
    (text, signatures), known = draw(signed_texts), draw(pick(KNOWN_SECRETS[:4]))
    error = draw(st.sampled_from((None, ValueError, OSError)))
    return SecretField([text, {"key": known}] if error is None else error(f"{text} {known}"), (), signatures)


log_fields = st.one_of(
    signed_texts.map(lambda signed: SecretField(signed.text, (), signed.secrets)),
    _with_known_secrets(),
    _with_password(),
    _object_with_secrets(),
    st.sampled_from([SecretField(value) for value in (0, -1, 1.5, True, None, 2**70)]),
)
