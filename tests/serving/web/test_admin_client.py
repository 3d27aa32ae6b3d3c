"""The client of the versions' routes: what it asks, and what it says of a server that refuses."""

import http.server
import json
import threading

import pytest

from research.serving.web.admin_client import AdminClient
from research.util.errors import UserError


@pytest.fixture
def server():
    """A server that keeps what it was asked, and answers with what the test puts into `answers`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.server.asked.append(
                (self.command, self.path, self.headers["Authorization"], body and json.loads(body))
            )
            status, answer = self.server.answers.pop(0)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PUT = answer

        def log_message(self, *_):
            pass

    made = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    made.asked, made.answers = [], []
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def client(server, token=None):
    return AdminClient(f"http://127.0.0.1:{server.server_port}/", "a/b", token)


def test_a_version_is_loaded_and_made_current(server):
    server.answers = [(200, b'{"latest": 1}'), (201, b'{"version": 2}'), (200, b'{"latest": 2}')]
    made = client(server, "secret")
    assert (made.latest(), made.load("new")) == (1, 2)
    made.switch(2)
    path = "/v1/admin/models/a%2Fb"
    assert server.asked == [
        ("GET", path, "Bearer secret", b""),
        ("POST", f"{path}/versions", "Bearer secret", {"folder": "new"}),
        ("PUT", path, "Bearer secret", {"latest": 2}),
    ]


@pytest.mark.parametrize(
    "answer, words",
    [
        ((422, b'{"error": {"message": "a byte has changed\\u001b"}}'), r"answered 422: a byte has changed\x1b"),
        ((404, b"<html>"), "answered 404: without a reason"),
        ((302, b""), "answered 302"),
        ((200, b"no JSON"), "is no server of versions: its answer has no latest"),
        ((200, b"[]"), "is no server of versions"),
    ],
)
def test_a_refusal_is_one_line(server, answer, words):
    server.answers = [answer]
    with pytest.raises(UserError) as caught:
        client(server).latest()
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_no_server_and_no_address_are_said():
    with pytest.raises(UserError, match="--server=localhost:8000: want http://"):
        AdminClient("localhost:8000", "m")
    with pytest.raises(UserError, match="no answer from http://127.0.0.1:9/v1/admin/models/m: .*refused"):
        AdminClient("http://127.0.0.1:9", "m").latest()
