"""Clients that are slow by intent, against a server on a socket; and TLS."""

import contextlib
import datetime
import ipaddress
import re
import socket
import ssl
import time

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from research.serving.web import connections
from research.util.errors import UserError
from tests.serving.web.conftest import listening

CHUNK, CHUNKS = b"x" * 65_536, 400  # 26 MB: more than the kernel's buffers hold
SECONDS = 0.5  # in place of twenty


class Application:
    """Answers /stream with CHUNKS of CHUNK, and all else with "ok"."""

    streamed = False

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/stream":
            for _ in range(CHUNKS):
                await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
            self.streamed = True
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def application():
    return Application()


@pytest.fixture
def port(application, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", SECONDS)
    monkeypatch.setattr(connections, "READ_SECONDS", SECONDS)
    with listening(application) as port:
        yield port


def connect(port):
    made = socket.create_connection(("127.0.0.1", port))
    made.settimeout(30)
    return made


def is_served(port):
    return httpx2.get(f"http://127.0.0.1:{port}/", timeout=30).text == "ok"


def is_closed(raw, drip):
    """Sends a byte every 50 ms -> whether the server closes the connection for it."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            raw.sendall(drip)
            raw.settimeout(0.05)
            if raw.recv(1000) == b"":
                return True
        except TimeoutError:
            pass
        except ConnectionError:
            return True
    return False


@pytest.mark.parametrize(("begin", "drip"), [
    (b"", b""),
    (b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"a"),
    (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n", b"a"),  # answered without its body, which drips on
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"G"),  # the first byte of a second request ends uvicorn's own bound
])  # fmt: skip
def test_a_request_that_never_ends_is_closed(port, begin, drip):
    start = time.monotonic()
    with connect(port) as raw:
        raw.sendall(begin)
        assert is_served(port) and is_closed(raw, drip)
    assert time.monotonic() - start > SECONDS / 2


def test_a_client_that_does_not_read_is_closed(application, port):
    with connect(port) as raw:
        raw.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        end = time.monotonic() + 60
        while not application.streamed:  # it waits in `send` until the connection is closed
            assert is_served(port) and time.monotonic() < end
            time.sleep(0.05)
        size = 0
        with contextlib.suppress(ConnectionResetError):
            while part := raw.recv(1 << 20):
                size += len(part)
        assert 0 < size < CHUNKS * len(CHUNK)


def test_a_client_that_reads_gets_all_however_long_it_takes(port):
    """It reads for several times the bound, and is never behind by more than READ_BYTES in it."""
    with connect(port) as raw:
        raw.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        start, size = time.monotonic(), 0
        while part := raw.recv(1 << 20):
            size += len(part)
            time.sleep(0.05)
    assert size > CHUNKS * len(CHUNK) and time.monotonic() - start > 2 * SECONDS


def test_beyond_the_bound_the_connection_that_waited_longest_gives_way(port, monkeypatch):
    monkeypatch.setattr(connections, "MOST", 5)
    monkeypatch.setattr(connections, "HEAD_SECONDS", 60)
    idle = [connect(port) for _ in range(5)]
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:
        assert client.get("/").text == "ok"
        assert idle[0].recv(1) == b""  # closed
        idle[4].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle[4].recv(1000).startswith(b"HTTP/1.1 200")
    for raw in idle:
        raw.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    folder, key = tmp_path_factory.mktemp("tls"), ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")]), datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(1)
    )
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    pem, form, open_ = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "cert.pem").write_bytes(made.add_extension(address, False).sign(key, hashes.SHA256()).public_bytes(pem))
    (folder / "key.pem").write_bytes(key.private_bytes(pem, form, open_))
    locked = serialization.BestAvailableEncryption(b"passphrase")
    (folder / "locked.pem").write_bytes(key.private_bytes(pem, form, locked))
    (folder / "other.pem").write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(pem, form, open_))
    (folder / "text.pem").write_text("no certificate")
    (folder / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    return folder


def test_tls_by_a_certificate(application, pair):
    trusted = ssl.create_default_context(cafile=pair / "cert.pem")
    with listening(application, tls=connections.tls(pair / "cert.pem", pair / "key.pem")) as port:
        with httpx2.Client(verify=trusted, base_url=f"https://127.0.0.1:{port}", timeout=60) as client:
            assert client.get("/").text == "ok"
            assert len(client.get("/stream").content) == CHUNKS * len(CHUNK) + 2
        with pytest.raises(httpx2.ConnectError, match="self-signed"):
            httpx2.get(f"https://127.0.0.1:{port}/")
        with pytest.raises(httpx2.HTTPError):
            httpx2.get(f"http://127.0.0.1:{port}/")
        old = ssl.create_default_context(cafile=pair / "cert.pem")
        with pytest.warns(DeprecationWarning):
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"https://127.0.0.1:{port}/", verify=old)
        with httpx2.Client(verify=trusted, base_url=f"https://127.0.0.1:{port}", timeout=60) as client:
            assert client.get("/").text == "ok"


@pytest.mark.parametrize(("certificate", "key", "words"), [
    ("cert.pem", None, "--tls-cert and --tls-key: a certificate and its key; give both"),
    ("cert.pem", "none.pem", "none.pem: No such file or directory"),
    ("text.pem", "key.pem", "text.pem: no PEM file"),
    ("broken.pem", "key.pem", "no pair"),
    ("cert.pem", "cert.pem", "no pair"),
    ("cert.pem", "other.pem", "this key is not the certificate's"),
    ("cert.pem", "locked.pem", "it is encrypted"),
])  # fmt: skip
def test_a_fault_in_a_pair_is_one_line(pair, certificate, key, words):
    with pytest.raises(UserError, match=re.escape(words)) as error:
        connections.tls(pair / certificate, key and pair / key)
    assert "\n" not in str(error.value)
