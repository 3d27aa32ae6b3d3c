"""Alerts: a line in the log, and a POST to the one address that the operator gave."""

import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from research.util.errors import UserError

SECONDS = 5.0  # for an answer
TRIES = 3
PAUSE = 1.0  # seconds before the second try; twice as long before the third
log = logging.getLogger("almanac.monitor")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An alert goes to the address that was given and to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


def check(address: str) -> None:
    """Raises UserError unless it is an http or https address."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"--webhook={address}: want http://HOST/... or https://HOST/...")


def moment(seconds: float) -> str:
    """Seconds since 1970 -> UTC, to the second.

    >>> moment(0)
    '1970-01-01 00:00:00'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def send(address: str, alert: Mapping[str, Any]) -> bool:
    """POSTs an alert as JSON, at most TRIES times -> whether it was taken (2xx). An answer of 4xx is final."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    body = json.dumps(alert).encode()
    for number in range(TRIES):
        if number:
            time.sleep(PAUSE * number)
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        try:
            with opener.open(request, timeout=SECONDS):
                return True
        except urllib.error.HTTPError as error:
            reason = str(error.code)
            if error.code < 500:
                break
        except OSError as error:
            reason = type(error).__name__
    log.error("the alert was not delivered: %s", reason)
    return False
