"""deploy/: what the manifest asks of a server is what the server has. Its schema is checked as its head says."""

import re
from pathlib import Path

import pytest
import yaml
from fastapi.testclient import TestClient

from research.serving.web import app, served
from tools.verbs import arguments, serve

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


@pytest.fixture
def container():
    """The pod of the Deployment, and its one container."""
    kinds = {each["kind"]: each["spec"] for each in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())}
    pod = kinds["Deployment"]["template"]
    assert kinds["Deployment"]["selector"]["matchLabels"] == kinds["Service"]["selector"] == pod["metadata"]["labels"]
    (made,) = pod["spec"]["containers"]
    return pod["spec"], made


def test_probes_are_routes(container):
    _, server = container
    routes = TestClient(app.create(served.Models({}), served.Limits()))
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert routes.get(server[probe]["httpGet"]["path"]).status_code == 200


def test_requests_have_their_time_to_end(container):
    pod, server = container
    (drain,) = [int(arg.removeprefix("--drain=")) for arg in server["args"] if arg.startswith("--drain=")]
    wait = int(server["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > wait + drain


def test_the_image_runs_the_server(container, monkeypatch):
    text = (DEPLOY / "Containerfile").read_text()
    root = DEPLOY.parent
    copied = [path for line in re.findall(r"^COPY (.*) \S+$", text, re.M) for path in line.split()]
    assert {"research", "experiments", "tools", "requirements.lock"} <= set(copied)
    assert all((root / path).exists() for path in copied)
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", text, re.M)
    program, verb, *options = yaml.safe_load(entry)
    assert (program, verb) == ("almanac", "serve") and 'almanac = "tools.cli:main"' in (
        root / "pyproject.toml"
    ).read_text()
    seen = {}
    monkeypatch.setattr(arguments, "named", lambda run: seen.setdefault("run", run) and 1 / 0)
    with pytest.raises(ZeroDivisionError):  # its options have been parsed by then
        serve.main([*options, *container[1]["args"]])
    assert seen["run"] == "talk=/bundles/talk" and container[1]["volumeMounts"][0]["mountPath"] == "/bundles"
