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

#: What may be inside the value of a parameter, in real URLs and inside JSON: plain, in base64, percent-encoded, or escaped.
_VALUE_INFIXES = [
    *("", "=", "%3D", "+", "/", "%2B", "%2F", ".", "-0-0-", "~", "_", ":", ";", "/aliyun_v4_request/", "*", "@", "$", "!", "a/b+c"),
    *("\\u003d", "\\u002b", "\\u002f", "\\u0025", "\\/"),
]
_VALUE_ENDS = ["", "", "=", "==", "%3D%3D"]
_OTHER_PARAMETERS = ["a=1", "b=", "x-oss-process=image/resize,w_100", "token=t", "c", "next=http://n.example.org/", "d=%20"]
_BEFORE = ["", "See ", "(", '"', "<a href='", "x,", "\n", "Expires=5 ", "\u00e9", "a=b&c ", "\\", '["', "?", "\ufeff"]
_AFTER = [
    "",
    ".",
    ")",
    '"',
    "'>",
    ",",
    " and",
    "\n",
    "#t=5",
    "\u3002",
    "\\",
    '"]',
    "!",
    ";",
    "&",
    "&&",
    "\0",
    "\ud800",
    "<",
    "&)",
    "& and",
]
#: After these the value of a parameter has certainly ended.
_CLEAR_ENDS = (")", "'>", " and", "#t=5", "\n", "<", "&)", "& and")
_PAGES = [
    *("http://img.example.org/a.jpg", "https://b.oss-cn-shanghai.aliyuncs.com/x/%E4%BD%A0.mp4"),
    *("//h/", "http://[::1]:80/", "/p"),
]

#: Secrets that the redactor knows. The second one begins with the first, and must be removed whole.
KNOWN_SECRETS = ("Sup3rSecretKey", "Sup3rSecretKeyLonger", "s3cr3t+/=", "p\u00e4ssw\u00f6rt", "with space", "(a.*b)\\d")

#: Values that occur nowhere else in a text.
_unique = st.integers(0, 2**48 - 1).map(lambda number: f"{number:012x}")

_before, _after = pick(_BEFORE), pick(_AFTER)


class SecretText(NamedTuple):
    """A text, the parts of it that must be removed, and the text without its signatures if that is known exactly."""

    text: str
    secrets: tuple[str, ...]
    stripped: str | None = None


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
    values = [f"{secret}{draw(pick(_VALUE_INFIXES))}{secret[::-1]}{draw(pick(_VALUE_ENDS))}" for secret in secrets]
    parameters = [f"{draw(pick(_SIGNING_PARAMETERS))}{equals}{value}" for value in values]
    others = draw(st.lists(pick(_OTHER_PARAMETERS), max_size=3))
    for other in others:
        parameters.insert(draw(st.integers(0, len(parameters))), other)
    before, page, after = draw(_before), draw(pick(_PAGES)), draw(_after)
    url = f"{before}{page}{question}{ampersand.join(parameters)}{after}"
    stripped = None
    is_simple = question.endswith(("?", "f", "F")) or (question == "?&" and not {*parameters[:1]} & {*others})
    if secrets and is_simple and ampersand != "&&" and after in _CLEAR_ENDS:
        kept = [parameter for parameter in parameters if parameter in others]
        # A separator after the last signing parameter is removed with it.
        end = after if parameters[-1] in others else after.removeprefix("&")
        stripped = f"{before}{page}{question.rstrip('&') if kept else ''}{ampersand.join(kept)}{end}"
    return SecretText(url, tuple(part for secret in secrets for part in (secret, secret[::-1])), stripped)


def _joined(parts: list[SecretText]) -> SecretText:
    # Two URLs without anything between them have no clear end.
    stripped = parts[0].stripped if len(parts) == 1 else None
    return SecretText("".join(part.text for part in parts), tuple(secret for part in parts for secret in part.secrets), stripped)


_wrappers = st.sampled_from(
    (
        json.dumps,
        lambda text: json.dumps([text], ensure_ascii=False),
        lambda text: json.dumps({"EventType": "x", "a b": [text, 1]}),
    )
)


@st.composite
def _wrapped(draw: st.DrawFn, texts: st.SearchStrategy[SecretText]) -> SecretText:
    text, secrets, stripped = draw(texts)
    for wrapper in draw(st.lists(_wrappers, max_size=3)):
        text, stripped = wrapper(text), None if stripped is None else wrapper(stripped)
    return SecretText(text, secrets, stripped)


_other_texts = st.lists(json_documents.texts.map(lambda text: text[:200]), min_size=1, max_size=5).map("".join)

#: Texts with signed URLs, bare or as JSON text of up to three levels, and some without.
signed_texts = _wrapped(
    weighted(
        (4, st.lists(_signed_url(), min_size=1, max_size=3).map(_joined)),
        (1, _other_texts.map(lambda text: SecretText(text, ()))),
    )
)

# Fields of a log line

#: In a log an @ ends a password, so that a signature with an @ in it would be cut there. VOD's signatures have none.
_signed_log_texts = signed_texts.filter(lambda signed: "@" not in signed.text)


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
    name = draw(st.sampled_from(("password", "passwd", "sslpassword", "ssl_key_password", "PASSWORD")))
    before, after = draw(st.sampled_from(("", "a=1&"))), draw(st.sampled_from(("", "&b=2")))
    return SecretField(f"{scheme}://host/db?{before}{name}={password}{after}", (secret,))


@st.composite
def _object_with_secrets(draw: st.DrawFn) -> SecretField:
    (text, signatures, _), known = draw(_signed_log_texts), draw(pick(KNOWN_SECRETS[:4]))
    error = draw(st.sampled_from((None, ValueError, OSError)))
    return SecretField([text, {"key": known}] if error is None else error(f"{text} {known}"), (), signatures)


log_fields = st.one_of(
    _signed_log_texts.map(lambda signed: SecretField(signed.text, (), signed.secrets)),
    _with_known_secrets(),
    _with_password(),
    _object_with_secrets(),
    st.sampled_from([SecretField(value) for value in (0, -1, 1.5, True, None, 2**70)]),
)
