"""How the application meets the network: uvicorn with bounds on slow clients, and TLS."""

import asyncio
import ssl
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from research.util.errors import UserError

HEAD_SECONDS = 20.0  # from an answer, or from connecting, until the headers of the next request have arrived
READ_SECONDS = 20.0  # in which a client that is behind has to read READ_BYTES of its answer
READ_BYTES = 1 << 15
MOST = 512  # connections: half of the files that Linux lets a process open by default


class Connection(H11Protocol):
    """uvicorn's connection, which is closed if its client is too slow to send a request's headers or to read its answer.

    uvicorn bounds the idle time between requests alone, and only until a first byte comes; guard.py has the bounds of a body.
    Where there are more than MOST connections, the one without a request that has waited longest is closed.
    """

    _timer: asyncio.TimerHandle | None = None
    _since = 0.0

    @property
    def _is_waiting(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        """Bounds the time of what the client has to do next."""
        self._unwatch()
        if self.flow.write_paused:
            self._timer = self.loop.call_later(READ_SECONDS, self._check, self.transport.get_write_buffer_size())
        elif self._is_waiting:
            self._since = time.monotonic()  # the loop's own time has ties
            self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _check(self, unsent: int) -> None:
        if self.transport.get_write_buffer_size() > unsent - READ_BYTES:
            self.transport.abort()
        else:
            self._watch()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > MOST:
            connections: Iterable[Any] = self.connections  # all are of this class
            min((each for each in connections if each._is_waiting), key=lambda each: each._since).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch()


def config(app: Any, drain: float = 30.0, tls: ssl.SSLContext | None = None) -> uvicorn.Config:
    """uvicorn's configuration for an application; `drain` is in seconds, as `Limits` has it. Nothing of a request is logged."""
    return uvicorn.Config(
        app, http=Connection, ws="none", access_log=False, log_level="warning", server_header=False,
        timeout_graceful_shutdown=round(drain), ssl_context_factory=None if tls is None else lambda *_: tls,
    )  # fmt: skip


def tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """TLS 1.2 or later by a certificate, with those between it and its authority, and its key: PEM files. None without them.

    Raises UserError if one is missing, cannot be read or is not the other's.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise UserError("--tls-cert and --tls-key: a certificate and its key; give both")
    for option, file in (("cert", certificate), ("key", key)):
        try:
            if b"-----BEGIN" not in file.read_bytes():
                raise UserError(f"--tls-{option}={file}: no PEM file")
        except OSError as error:
            raise UserError(f"--tls-{option}={file}: {error.strerror}") from None

    def encrypted() -> NoReturn:
        raise UserError(f"--tls-key={key}: it is encrypted; give one without a passphrase, readable by its owner alone")

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key, encrypted)
    except ssl.SSLError as error:
        fault = (
            "this key is not the certificate's" if error.reason == "KEY_VALUES_MISMATCH" else f"no pair: {error.reason}"
        )
        raise UserError(f"--tls-cert={certificate}, --tls-key={key}: {fault}") from None
    return context
