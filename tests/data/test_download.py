"""Upstream files: found, checked, downloaded, or missed at once in one line."""

import gzip
import hashlib
import http.server
import threading
import urllib.request

import pytest

from research.data import download
from research.util.errors import UserError

CONTENT = b"the very bytes" * 99
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def file(url="http://127.0.0.1:9/no.bin", name="a.bin"):
    return download.File(name, url, SHA256, len(CONTENT))


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """An empty mirror and an empty cache."""
    (tmp_path / "mirror").mkdir()
    monkeypatch.setenv("ALMANAC_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("ALMANAC_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("ALMANAC_OFFLINE", raising=False)
    return tmp_path / "mirror", tmp_path / "data" / "downloads" / "set"


@pytest.fixture
def server():
    """Serves `answers`, one a request; keeps the paths asked for."""
    answers, asked = [], []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = answers.pop(0)
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}/a.bin", answers, asked
        httpd.shutdown()


def test_a_gzipped_copy_is_judged_by_what_it_holds(folders):
    path = folders[0] / "a.bin.gz"
    path.write_bytes(gzip.compress(CONTENT))
    assert download.fetch("set", [file()]) == {"a.bin": path}
    assert download.read(path) == CONTENT
    for damaged in (gzip.compress(CONTENT[1:]), gzip.compress(CONTENT)[:-9], b"no gzip"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="a.bin.gz is damaged"):
            download.fetch("set", [file()])


@pytest.mark.parametrize("where", ["set/a.bin", "a.bin"])
def test_mirror_is_used_as_it_is(folders, where):
    path = folders[0] / where
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(CONTENT)
    assert download.fetch("set", [file()]) == {"a.bin": path}
    assert not folders[1].exists()


def test_a_file_put_into_the_cache_is_found(folders, monkeypatch):
    monkeypatch.delenv("ALMANAC_MIRROR")
    folders[1].mkdir(parents=True)
    (folders[1] / "a.bin").write_bytes(CONTENT)
    assert download.fetch("set", [file()]) == {"a.bin": folders[1] / "a.bin"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (CONTENT[:-1], f"expected {len(CONTENT):,} bytes, found {len(CONTENT) - 1:,}"),
        (b"T" + CONTENT[1:], f"expected sha256 {SHA256}, found "),
    ],
)
def test_a_damaged_copy_is_named(folders, content, told):
    (folders[0] / "a.bin").write_bytes(content)
    with pytest.raises(UserError) as caught:
        download.fetch("set", [file()])
    assert told in str(caught.value)
    assert str(folders[0] / "a.bin") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("offline", ["0", "1"])
@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a.bin", "http://no.such.host.invalid/a.bin"])
def test_a_missing_file_is_told_at_once(folders, monkeypatch, url, offline):
    monkeypatch.setenv("ALMANAC_OFFLINE", offline)
    opened, urlopen = [], urllib.request.urlopen
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, **options: opened.append(url) or urlopen(url, **options))
    with pytest.raises(UserError) as caught:
        download.fetch("set", [file(url), file(url, "b.bin")])
    assert opened == ([url] if offline == "0" else [])  # neither tried again nor followed by the next
    for part in ("set: ", "a.bin", "first of 2", SHA256, "ALMANAC_MIRROR", str(folders[1])):
        assert part in str(caught.value)
    assert ("ALMANAC_OFFLINE is set" in str(caught.value)) == (offline == "1")
    assert "\n" not in str(caught.value)


def test_a_silent_host_is_given_up(folders, monkeypatch):
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.3)
    over = threading.Event()
    monkeypatch.setattr(urllib.request, "urlopen", lambda *a, **k: over.wait(60))  # answers after the test alone
    with pytest.raises(UserError, match=r"no answer in 0\.3 s"):
        download.fetch("set", [file()])
    over.set()


def test_a_download_is_kept(folders, server):
    url, answers, asked = server
    answers.append(CONTENT)
    for _ in range(2):
        path = download.fetch("set", [file(url)])["a.bin"]
        assert path == folders[1] / "a.bin"
        assert path.read_bytes() == CONTENT
    assert asked == ["/a.bin"]


def test_a_damaged_download_is_tried_again_and_never_kept(folders, server):
    url, answers, asked = server
    answers += [CONTENT[:7], b"X" * len(CONTENT), CONTENT]
    assert download.fetch("set", [file(url)])["a.bin"].read_bytes() == CONTENT
    (folders[1] / "a.bin").unlink()
    answers += [b"X" * len(CONTENT)] * download.TRIES
    with pytest.raises(UserError, match="damaged 3 times: expected sha256"):
        download.fetch("set", [file(url)])
    assert len(asked) == 3 + download.TRIES
    assert list(folders[1].iterdir()) == []


def test_a_mirror_that_is_no_folder(folders, monkeypatch):
    monkeypatch.setenv("ALMANAC_MIRROR", str(folders[0] / "absent"))
    with pytest.raises(UserError, match="absent is not a folder"):
        download.fetch("set", [file()])
