"""`almanac serve` as a process: it answers on its port, lets a request end after SIGTERM, and names what it cannot serve."""

import functools
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from research.serving import servable
from research.serving.web import served, tokens
from research.util.errors import UserError
from tools.verbs import serve

ROOT = Path(__file__).resolve().parents[3]


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


@pytest.fixture
def process(run):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "tools.cli",
        "serve",
        f"small={run}",
        f"--port={port}",
        "--slots=2",
        "--max-batch=1",
    ]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    started = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    yield started, f"http://127.0.0.1:{port}"
    started.kill()
    started.communicate()


def test_a_request_ends_after_sigterm_and_the_status_is_0(process):
    started, url = process
    lines = iter(started.stdout.readline, "")
    assert "compiling small" in next(lines) and f"serving on {url}" in next(lines)
    first = post(f"{url}/v1/completions", {"model": "small", "prompt": "the ", "max_tokens": 3, "seed": 1})
    assert first["usage"]["completion_tokens"] == 3 and re.fullmatch(
        r"language_model/tiny@\d+", first["system_fingerprint"]
    )
    answers = []
    body = {"model": "small", "prompt": "the", "max_tokens": 12, "stream": False}
    asked = threading.Thread(target=lambda: answers.append(post(f"{url}/v1/completions", body)))
    asked.start()
    while (
        'almanac_tokens_total{kind="prompt",model="small",version="1"} 7.0'
        not in urllib.request.urlopen(f"{url}/metrics").read().decode()
    ):
        pass
    started.send_signal(signal.SIGTERM)
    asked.join(60)
    out, err = started.communicate(timeout=60)
    assert answers[0]["usage"]["completion_tokens"] == 12
    assert (started.returncode, err) == (0, ""), err


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_clients_that_are_slow_or_leave_cost_others_nothing(process):
    """200 leave in mid-stream, and 200 more stay: their headers or bodies never end, or they read nothing."""
    started, url = process
    assert any("serving on" in line for line in iter(started.stdout.readline, ""))
    connect = functools.partial(socket.create_connection, ("127.0.0.1", int(url.rpartition(":")[2])), timeout=60)
    body = json.dumps({"model": "small", "prompt": "the", "max_tokens": 12, "stream": True})
    head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
    stream, half = f"{head}{len(body)}\r\n\r\n{body}".encode(), f"{head}99\r\n\r\n{{".encode()

    def leave(count):
        for _ in range(count):
            with connect() as raw:
                raw.sendall(stream)
                assert raw.recv(100).startswith(b"HTTP/1.1 200")

    def ask():
        start = time.monotonic()
        post(f"{url}/v1/completions", {"model": "small", "prompt": "the", "max_tokens": 12})
        return time.monotonic() - start

    def memory():
        (line,) = [x for x in Path(f"/proc/{started.pid}/status").read_text().splitlines() if x.startswith("VmRSS")]
        return int(line.split()[1]) / 1024

    leave(100)
    before, alone = memory(), max(ask() for _ in range(3))
    slow = [connect() for _ in range(200)]
    for i, raw in enumerate(slow):
        raw.sendall((half, b"POST /v1/completions HTTP/1.1\r\nX: ", stream, b"")[i % 4])
    leave(200)
    assert ask() < 10 * alone + 1
    for raw in slow:
        while raw.recv(100_000):  # 408, the answer that nobody read, or nothing; then the end
            pass
        raw.close()
    assert memory() < before + 16  # MiB
    metrics = urllib.request.urlopen(f"{url}/metrics").read().decode()
    for gauge in ("almanac_slots_occupied", "almanac_requests_waiting"):
        assert f'{gauge}{{model="small",version="1"}} 0.0' in metrics
    ask()


@pytest.mark.parametrize(("words", "message"), [
    (["{run}", "--port=70000"], "--port=70000: 0 to 65535"),
    (["{run}", "--seconds=0"], "--seconds=0.0: above 0"),
    (["{run}", "{run}"], "two models are called run; write NAME=RUN"),
    (["a b={run}"], "the name 'a b': letters, digits"),
    (["{run}", "--slots=0"], "slots=0, queue=64: want at least 1 of each"),
    (["{run}", "--max-batch=0"], "--max-batch=0: above 0"),
    (["{run}", "--requests=513"], "--requests=513: at most 512, the connections that the server keeps"),
    (["{run}", "--answers=-1"], "--answers=-1: 0 or more"),
    (["{run}", "--context=1000"], "length=1000: want 16 to 16 tokens a slot"),
    (["{run}", "--capture"], "--capture: say where to, with --monitor FOLDER"),
    (["{run}", "--monitor=/nowhere", "--capture-days=3"], "--capture-days=3: nothing is captured without --capture"),
    (["{run}", "--monitor=/nowhere", "--capture", "--capture-days=0"], "--capture-days=0: above 0, at most 3650"),
    (["{run}", "--models=/nowhere"], "--models=/nowhere: there is no such folder"),
    (["/nowhere"], "/nowhere is no run directory"),
    (["{run}", "--tokens=/nowhere"], "cannot read /nowhere"),
    (["{run}", "--tls-key=/nowhere"], "--tls-cert and --tls-key: a certificate and its key; give both"),
    (["--new-token", "a"], "--new-token a: name its file too, with --tokens FILE"),
])  # fmt: skip
def test_what_cannot_be_served_is_named(trained, words, message):
    with pytest.raises(UserError, match=re.escape(message)):
        serve.main([word.format(run=trained) for word in words])


def test_a_new_tokens_secret_is_alone_on_stdout(tmp_path, capsys):
    assert serve.main(["--new-token", "alice", "--tokens", str(tmp_path / "tokens.toml")]) == 0
    secret = capsys.readouterr().out.strip()
    (token,) = tokens.read(tmp_path / "tokens.toml")
    assert (token.name, token.sha256) == ("alice", hashlib.sha256(secret.encode()).hexdigest())


def test_without_a_run_there_is_nothing_to_serve(capsys):
    with pytest.raises(SystemExit, match="2"):
        serve.main(["--port=0"])
    assert "give a run or a bundle to serve" in capsys.readouterr().err


def test_without_its_packages_it_says_how_to_get_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(UserError, match=r"almanac serve needs fastapi: install the extra, almanac\[serve\]"):
        serve.main(["run"])


def test_capture_is_said_before_it_serves(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(serve, "print", lambda text, flush: said.append(text), raising=False)
    monkeypatch.setattr(servable, "from_folder", lambda *_: None)
    monkeypatch.setattr(served, "of", lambda *_: served.Models({}))
    monkeypatch.setattr(serve, "_bound", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        serve.main(["run", f"--monitor={tmp_path}", "--capture", "--capture-days=7"])
    assert said == [f"almanac: captures what requests hold and are answered, for 7 days in {tmp_path}, not sealed"]


def test_a_port_in_use_is_one_line(trained):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="cannot listen on 127.0.0.1:"):
        serve.main([str(trained), f"--port={taken.getsockname()[1]}"])
