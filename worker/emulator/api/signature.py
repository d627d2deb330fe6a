"""Verify the signatures V3 and V1 of API calls, written from vod-protocol 4.2 and 4.3."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import datetime
from urllib.parse import parse_qsl, quote

from worker.emulator.api.api_errors import ApiError
from worker.emulator.api.call import ApiCall

ALGORITHM = "ACS3-HMAC-SHA256"
#: How far the clock of a client may differ.
CLOCK_TOLERANCE = 15 * 60  # seconds
#: Nonces that are remembered; after that the oldest are forgotten.
MAX_NONCES = 100_000

_AUTHORIZATION = re.compile(r"ACS3-HMAC-SHA256\s+Credential=([^,]*),\s*SignedHeaders=([^,]*),\s*Signature=(.*)")
_REQUIRED_V3_HEADERS = ("host", "x-acs-action", "x-acs-version", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256")
_REQUIRED_V1_PARAMETERS = (
    "AccessKeyId",
    "Signature",
    "SignatureMethod",
    "SignatureVersion",
    "SignatureNonce",
    "Timestamp",
    "Version",
)


def canonical_request(method: str, query: str, headers: Mapping[str, str], signed: Iterable[str], body: bytes) -> str:
    """Return the text whose hash V3 signs.

    `headers` have lower-case names; `signed` are the names of the signed headers in the order of the Authorization header.
    """
    names = list(signed)
    return "\n".join(
        [
            method,
            "/",
            _canonical_query(parse_qsl(query, keep_blank_values=True)),
            "".join(f"{name}:{headers.get(name, '').strip()}\n" for name in names),
            ";".join(names),
            hashlib.sha256(body).hexdigest(),
        ]
    )


def sign_v3(secret: str, canonical: str) -> str:
    """Return the V3 signature of a canonical request, in hexadecimal."""
    string_to_sign = f"{ALGORITHM}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    return hmac.new(secret.encode(), string_to_sign.encode(), hashlib.sha256).hexdigest()


def sign_v1(secret: str, method: str, parameters: Mapping[str, str]) -> str:
    """Return the V1 signature of the parameters, in Base64; a parameter Signature is ignored."""
    canonical = _canonical_query((name, value) for name, value in parameters.items() if name != "Signature")
    string_to_sign = f"{method}&%2F&{_encode(canonical)}"
    return base64.b64encode(hmac.new(f"{secret}&".encode(), string_to_sign.encode(), hashlib.sha1).digest()).decode()


class SignatureVerifier:
    """Accepts correctly signed calls of one access key, each nonce once."""

    def __init__(self, access_key_id: str, access_key_secret: str, security_token: str = "") -> None:
        """Calls must carry `security_token`; without it they must carry none."""
        self._access_key_id = access_key_id
        self._access_key_secret = access_key_secret
        self._security_token = security_token
        #: Nonce -> when it was used; the oldest is first.
        self._nonces: OrderedDict[str, float] = OrderedDict()

    def verify(self, call: ApiCall, now: float) -> None:
        """Return if the signature is valid at `now` (unix seconds). Raises ApiError with the code of VOD if not."""
        if "authorization" in call.headers:
            self._verify_v3(call, now)
        elif "Signature" in call.parameters:
            self._verify_v1(call, now)
        else:
            raise _incomplete("neither an Authorization header (V3) nor a Signature parameter (V1) was sent")

    def _verify_v3(self, call: ApiCall, now: float) -> None:
        headers = call.headers
        match = _AUTHORIZATION.fullmatch(headers["authorization"].strip())
        if match is None or not all(match.groups()):
            raise _incomplete(f"the Authorization header is not '{ALGORITHM} Credential=,SignedHeaders=,Signature='")
        access_key_id, signed, signature = match.groups()
        names = signed.split(";")
        for name in _REQUIRED_V3_HEADERS:
            if not headers.get(name):
                raise _incomplete(f"the header {name} is missing")
        for name in headers:
            if (name == "host" or name.startswith("x-acs-")) and name not in names:
                raise _incomplete(f"the header {name} is not among the signed ones")
        self._check_key(access_key_id)
        self._check_token(headers.get("x-acs-security-token", ""))
        self._check_date(headers["x-acs-date"], now)
        canonical = canonical_request(call.method, call.query, headers, names, call.body)
        if headers["x-acs-content-sha256"] != hashlib.sha256(call.body).hexdigest():
            raise _mismatch("the hash in x-acs-content-sha256 is not that of the body")
        if not hmac.compare_digest(signature.encode(), sign_v3(self._access_key_secret, canonical).encode()):
            raise _mismatch(f"server string to sign is: {ALGORITHM}\n{hashlib.sha256(canonical.encode()).hexdigest()}")
        self._use_nonce(headers["x-acs-signature-nonce"], now)

    def _verify_v1(self, call: ApiCall, now: float) -> None:
        parameters = call.parameters
        for name in _REQUIRED_V1_PARAMETERS:
            if not parameters.get(name):
                raise _incomplete(f"the parameter {name} is missing")
        if (parameters["SignatureMethod"], parameters["SignatureVersion"]) != ("HMAC-SHA1", "1.0"):
            raise _incomplete("only HMAC-SHA1 in version 1.0 is known")
        self._check_key(parameters["AccessKeyId"])
        self._check_token(parameters.get("SecurityToken", ""))
        self._check_date(parameters["Timestamp"], now)
        expected = sign_v1(self._access_key_secret, call.method, parameters)
        if not hmac.compare_digest(parameters["Signature"].encode(), expected.encode()):
            raise _mismatch("sign METHOD&%2F&query with the secret and an ampersand as key")
        self._use_nonce(parameters["SignatureNonce"], now)

    def _check_key(self, access_key_id: str) -> None:
        if access_key_id != self._access_key_id:
            raise ApiError("InvalidAccessKeyId.NotFound", 404, "Specified access key is not found.")

    def _check_token(self, token: str) -> None:
        if token != self._security_token:
            raise ApiError("InvalidSecurityToken.Malformed", 400, "Specified SecurityToken is not the one of this access key.")

    def _check_date(self, text: str, now: float) -> None:
        try:
            sent_at = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").timestamp()
        except ValueError:
            raise ApiError("InvalidTimeStamp.Format", 400, "Specified time stamp is not like 2025-11-24T16:00:00Z.") from None
        if abs(now - sent_at) > CLOCK_TOLERANCE:
            raise ApiError("InvalidTimeStamp.Expired", 400, "Specified time stamp or date value is expired.")

    def _use_nonce(self, nonce: str, now: float) -> None:
        # A call may be repeated until its date is refused: up to twice the tolerance later.
        nonces = self._nonces
        while nonces and (len(nonces) >= MAX_NONCES or next(iter(nonces.values())) < now - 2 * CLOCK_TOLERANCE):
            nonces.popitem(last=False)
        if nonce in nonces:
            raise ApiError("SignatureNonceUsed", 400, "Specified signature nonce was used already.")
        nonces[nonce] = now


def _canonical_query(pairs: Iterable[tuple[str, str]]) -> str:
    return "&".join(f"{_encode(name)}={_encode(value)}" for name, value in sorted(pairs))


def _encode(text: str) -> str:
    return quote(text, safe="-_.~")


def _incomplete(reason: str) -> ApiError:
    return ApiError("IncompleteSignature", 400, f"The request signature does not conform to Aliyun standards: {reason}.")


def _mismatch(reason: str) -> ApiError:
    return ApiError("SignatureDoesNotMatch", 400, f"Specified signature is not matched with our calculation. {reason}")
