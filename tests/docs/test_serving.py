"""docs/serving.md: its runs are trained, its server started, and its calls with curl and the openai client made."""

import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.docs.test_readme import FENCE, SMALL, checkout, commands, follow

PAGE = Path(__file__).resolve().parents[2] / "docs" / "serving.md"


@pytest.mark.docs
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_every_call_is_answered(tmp_path):
    text = PAGE.read_text("utf-8")
    checkout(tmp_path)
    lines = [words for words, _ in commands(text)]
    trained = follow(tmp_path, [words + SMALL for words in lines if words[0] == "train"])
    assert [answer["status"] for answer in trained] == [0, 0], trained
    (serve,) = [words for words in lines if words[0] == "serve"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "XLA_FLAGS": ""}
    command = [sys.executable, "-m", "tools.cli", *serve, f"--port={port}", "--max-batch=1"]
    server = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert any("serving on" in line for line in iter(server.stdout.readline, ""))
        calls = {"bash": ["bash", "-ec"], "python": [sys.executable, "-c"]}
        said = {}
        for kind, name, body in FENCE.findall(text):
            if kind in calls and not name:
                body = body.replace("localhost:8000", f"localhost:{port}")
                done = subprocess.run(
                    [*calls[kind], body], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
                )
                assert done.returncode == 0, done.stderr
                said[kind] = done.stdout
        assert all(
            word in said["bash"] for word in ("text_completion", "chat.completion", '"FP32"', "almanac_tokens_total")
        )
        assert '"error"' not in said["bash"] and "completion_tokens" in said["python"]
        assert json.load(urllib.request.urlopen(f"http://localhost:{port}/readyz"))["status"] == "ready"
    finally:
        server.terminate()
    assert server.wait(60) == 0
