"""A client of the routes of a server's versions: a bundle is loaded and made current."""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from research.util.errors import UserError
from research.util.escape import visible

SECONDS = 600.0  # for an answer: a bundle's programs are compiled before there is one
LARGEST = 1 << 20  # bytes of an answer that are read


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token goes to the address that was given and to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


class AdminClient:
    """`/v1/admin/models/NAME` of a server at `url`, asked with a token if there is one. Raises UserError for other addresses."""

    def __init__(self, url: str, model: str, token: str | None = None):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"--server={url}: want http://HOST:PORT or https://HOST:PORT")
        self._address = f"{url.rstrip('/')}/v1/admin/models/{quote(model, safe='')}"
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)

    def latest(self) -> int:
        """The number of the version that answers."""
        return self._ask("latest", "GET", "")

    def load(self, folder: str) -> int:
        """Loads a bundle by its path below the server's folder of bundles -> its number, once it can answer."""
        return self._ask("version", "POST", "/versions", {"folder": folder})

    def switch(self, number: int) -> None:
        """Makes a loaded version the one that answers."""
        self._ask("latest", "PUT", "", {"latest": number})

    def _ask(self, key: str, method: str, path: str, body: Mapping[str, Any] | None = None) -> int:
        """`key` of the server's answer. Raises UserError with its reason if it refuses or cannot be reached."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._address + path, data, self._headers, method=method)
        try:
            with self._opener.open(request, timeout=SECONDS) as answer:
                return int(json.loads(answer.read(LARGEST))[key])
        except urllib.error.HTTPError as error:
            raise UserError(f"the server answered {error.code}: {_reason(error.read(LARGEST))}") from None
        except (OSError, http.client.HTTPException) as error:
            raise UserError(f"no answer from {self._address}: {visible(getattr(error, 'reason', error))}") from None
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{self._address} is no server of versions: its answer has no {key}") from None


def _reason(body: bytes) -> str:
    try:
        return visible(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "without a reason"
