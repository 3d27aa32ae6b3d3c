"""A webhook against a server of this machine: what is sent, how often, and where not."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from research.serving.monitor import alerts
from research.util.errors import UserError


@pytest.fixture
def hook(monkeypatch):
    """A server that answers as `statuses` says, and keeps what it got."""
    monkeypatch.setattr(alerts, "PAUSE", 0.01)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            server.got.append((self.path, json.loads(body)))
            self.send_response(server.statuses.pop(0))
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.got, server.statuses = [], []
    server.address = f"http://127.0.0.1:{server.server_port}/alerts"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("statuses", "calls", "taken"),
    [([200], 1, True), ([500, 503, 204], 3, True), ([500] * 3, 3, False), ([404], 1, False), ([302], 1, False)],
    ids=["taken", "taken at last", "tried thrice", "refused", "sent elsewhere"],
)
def test_it_is_posted_until_it_is_taken_and_thrice_at_most(hook, statuses, calls, taken):
    hook.statuses = list(statuses)
    assert alerts.send(hook.address, {"model": "m", "signals": {"class": 50}}) is taken
    assert hook.got == [("/alerts", {"model": "m", "signals": {"class": 50}})] * calls


def test_nobody_there_is_logged_and_no_error(monkeypatch, caplog):
    monkeypatch.setattr(alerts, "PAUSE", 0.0)
    assert alerts.send("http://127.0.0.1:9/", {}) is False
    assert "not delivered" in caplog.text


@pytest.mark.parametrize("address", ["", "ftp://host/x", "file:///etc/passwd", "host:80", "http://"])
def test_what_is_no_web_address_is_refused(address):
    with pytest.raises(UserError, match="--webhook="):
        alerts.check(address)
    alerts.check("https://example.org/hook")
