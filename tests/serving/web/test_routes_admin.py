"""Versions over HTTP: bundles are loaded, switched to, rolled back and unloaded under load, and bad ones change nothing.

Version k of "digits" always answers class k: its parameters are zeros, but for the bias of that class. So an answer itself
says which version it is of.
"""

import asyncio
import contextlib
import gc
import hashlib
import json
import shutil
import threading
import time
import weakref
from types import SimpleNamespace

import httpx2
import jax
import numpy as np
import pytest
import safetensors.numpy

from research.serving import packing
from research.serving.servable import from_experiment, from_folder
from research.serving.web import app, loading, served, values

LIMITS = served.Limits(slots=1, max_batch=2, queue=64, drain=20.0)
VALUE = np.full((8, 8, 1), 0.5).tolist()
TENSOR = {"name": "image", "shape": [1, 8, 8, 1], "datatype": "FP32", "data": [0.5] * 64}
ADMIN = "/v1/admin/models/digits"


def rewrite(bundle, name, blob):
    """A file of a bundle in place of the one there, and its sum."""
    (bundle / name).write_bytes(blob)
    files = sorted(path for path in bundle.iterdir() if path.name != "SHA256SUMS")
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (bundle / "SHA256SUMS").write_text("".join(sums))


def answering(bundle, label):
    """Gives a bundle parameters with which it always answers this class."""
    arrays = safetensors.numpy.load_file(bundle / "parameters.safetensors")
    arrays = {name: np.zeros_like(x) for name, x in arrays.items()}
    (bias,) = [name for name, x in arrays.items() if x.shape == (10,)]
    arrays[bias][label] = 50
    rewrite(bundle, "parameters.safetensors", safetensors.numpy.save(arrays))
    return bundle


@pytest.fixture(scope="module")
def packed(experiments, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed") / "digits"
    e, variables = experiments["digits"]
    packing.pack(folder, e, SimpleNamespace(variables=variables), {"name": "image_classification/tiny"})
    return folder


@pytest.fixture
def folder(packed, tmp_path):
    """A folder with bundles "one" to "four", of these classes."""
    root = tmp_path / "bundles"
    for label, name in enumerate(("one", "two", "three", "four"), 1):
        answering(shutil.copytree(packed, root / name), label)
    return root


@pytest.fixture
def models(folder):
    made = served.of([from_folder(folder / "one", "digits")], LIMITS)
    made.start()
    yield made
    made.close()


@contextlib.asynccontextmanager
async def asgi_client(models, folder):
    transport = httpx2.ASGITransport(app.create(models, LIMITS, bundles=folder))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test", timeout=120) as made:
        yield made


async def predicted(http, name):
    """The status, the class, and the version that the answer names."""
    answer = await http.post("/v1/predict", json={"model": name, "inputs": [VALUE]})
    body = answer.json()
    return answer.status_code, body["outputs"][0]["class"], body["model"].removeprefix("digits@")


async def inferred(http, name):
    answer = await http.post(f"/v2/models/{name}/infer", json={"inputs": [TENSOR]})
    body = answer.json()
    logits = next(y["data"] for y in body["outputs"] if y["name"] == "logits")
    return answer.status_code, str(np.argmax(logits)), body["model_version"]


@pytest.fixture
def slow_encode(monkeypatch):
    """Half of a prediction's time passes between finding its version and asking it."""
    encode = values.encode

    def slowly(*args):
        time.sleep(0.05)
        return encode(*args)

    monkeypatch.setattr(values, "encode", slowly)


@pytest.mark.usefixtures("slow_encode")
def test_no_request_fails_while_versions_come_and_go(models, folder):
    history = [{"1"}]  # which versions may answer a request that names none: each entry from its time on
    answers, done = [], asyncio.Event()

    async def hammer(http, ask, name, pinned=None):
        while not done.is_set():
            start = len(history) - 1
            status, label, version = await ask(http, name)
            current = {pinned} if pinned else set.union(*history[start:])
            answers.append((status, label == version, version in current))

    async def more(count=12):
        end = len(answers) + count
        while len(answers) < end:
            await asyncio.sleep(0.01)

    async def load(http, name, number):
        answer = await http.post(f"{ADMIN}/versions", json={"folder": name})
        assert (answer.status_code, answer.json()["version"]) == (201, number)
        await more()

    async def direct(http, traffic, versions):
        history.append(history[-1] | versions)
        answer = await http.put(ADMIN, json=traffic)
        history.append(versions)
        assert answer.status_code == 200

    async def unload(http, number):
        answer = await http.delete(f"{ADMIN}/versions/{number}")
        assert answer.status_code == 200 and str(number) not in answer.json()["loaded"]

    async def run():
        async with asgi_client(models, folder) as http:
            asks = (predicted, "digits"), (predicted, "digits@latest"), (inferred, "digits"), (inferred, "digits")
            tasks = [asyncio.create_task(hammer(http, *each)) for each in asks]
            await more()
            await load(http, "two", 2)
            tasks.append(asyncio.create_task(hammer(http, predicted, "digits@2", pinned="2")))
            tasks.append(asyncio.create_task(hammer(http, inferred, "digits/versions/2", pinned="2")))
            for traffic, versions in (
                ({"latest": 2}, {"2"}),
                ({"latest": 1}, {"1"}),
                ({"latest": 1, "canary": {"version": 2, "weight": 0.5}}, {"1", "2"}),
            ):
                await direct(http, traffic, versions)
                await more()
            await direct(http, {"latest": 2}, {"2"})
            await unload(http, 1)  # at once, while it answers what came before
            for name, number in (("three", 3), ("four", 4)):
                await load(http, name, number)
                await direct(http, {"latest": number}, {str(number)})
                if number > 3:
                    await unload(http, number - 1)
            await more()
            done.set()
            await asyncio.gather(*tasks)
            assert (await http.get("/v1/models/digits")).json()["versions"] == [2, 4]
            assert (await http.get("/v2/models/digits")).json()["versions"] == ["2", "4"]

    asyncio.run(run())
    assert len(answers) > 80 and set(answers) == {(200, True, True)}


def test_a_stream_outlives_the_unloading_of_its_version(server, client, experiments, monkeypatch):
    versions = server.models.versions["talk"]
    version = served.Served(versions[1].servable, LIMITS._replace(slots=3, drain=0.0), 2)
    version.start()
    decode = version.engine.decoder.decode
    slowly = lambda *args: time.sleep(0.02) or decode(*args)  # noqa: E731
    monkeypatch.setattr(version.engine, "decoder", version.engine.decoder._replace(decode=slowly))
    assert versions.add(version) == 2
    asked = {"model": "talk@2", "prompt": "How are you", "max_tokens": 40, "seed": 1}
    expected = client.post("/v1/completions", json={**asked, "model": "talk@1"}).json()
    assert (expected["model"], expected["usage"]["completion_tokens"]) == ("talk@1", 40)
    text = ""
    with client.stream("POST", "/v1/completions", json={**asked, "stream": True}) as answer:
        lines = (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: {"))
        text += next(lines)["choices"][0]["text"]
        removal = threading.Thread(target=lambda: asyncio.run(versions.remove(2, 60)))
        removal.start()
        for chunk in lines:
            assert chunk["model"] == "talk@2" and removal.is_alive()
            text += chunk["choices"][0]["text"]
    removal.join(60)
    assert text == expected["choices"][0]["text"] and not version.is_ready
    assert client.post("/v1/completions", json=asked).json()["error"]["code"] == "version_not_found"


def test_a_bad_bundle_is_refused_and_the_old_one_serves(models, folder, packed, tmp_path, monkeypatch):
    def damage(name, edit):
        bundle = shutil.copytree(packed, folder / name)
        edit(bundle)
        return name

    def flip(bundle):
        blob = (bundle / "predict.stablehlo").read_bytes()
        (bundle / "predict.stablehlo").write_bytes(blob[:99] + bytes([blob[99] ^ 1]) + blob[100:])

    def not_a_number(bundle):
        arrays = safetensors.numpy.load_file(bundle / "parameters.safetensors")
        next(iter(arrays.values())).flat[0] = np.nan
        rewrite(bundle, "parameters.safetensors", safetensors.numpy.save(arrays))

    def larger(bundle):
        codec = (bundle / "codec.json").read_text()
        assert "[8, 8, 1]" in codec
        rewrite(bundle, "codec.json", codec.replace("[8, 8, 1]", "[16, 16, 1]").encode())

    shutil.copytree(folder / "two", tmp_path / "outside")
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "empty").mkdir()
    bad = {
        damage("flipped", flip): "predict.stablehlo is damaged: its SHA-256 is not the one in SHA256SUMS",
        damage("nan", not_a_number): "has a number that is not finite",
        damage("larger", larger): "its programs do not run here",
        "empty": "empty is no bundle",
        "nowhere": "there is no folder 'nowhere'",
        "../outside": "there is no folder",
        "two/../../outside": "there is no folder",
        str(folder / ".." / "outside"): "there is no folder",
        f"../{folder.name}/two": "there is no folder",
        str(folder / "two"): "there is no folder",
        "link": "there is no folder 'link'",
        ".": "there is no folder",
        "two\0": "there is no folder",
        "a" * 1000: "there is no folder",
    }

    async def run():
        async with asgi_client(models, folder) as http:
            for name, words in bad.items():
                answer = await http.post(f"{ADMIN}/versions", json={"folder": name})
                error = answer.json()["error"]
                assert answer.status_code == 422 and words in error["message"], (name, error)
                assert str(tmp_path) not in answer.text.replace(name, "")
            monkeypatch.setattr(loading.Served, "start", lambda _: 1 / 0)
            answer = await http.post(f"{ADMIN}/versions", json={"folder": "two"})
            assert answer.status_code == 422 and "do not run here: ZeroDivisionError" in answer.text
            for method, path, body, status in (
                ("PUT", ADMIN, {"latest": 2}, 404),
                ("PUT", ADMIN, {"latest": 1, "canary": {"version": 1, "weight": 2}}, 422),
                ("DELETE", f"{ADMIN}/versions/1", None, 409),
                ("DELETE", f"{ADMIN}/versions/x", None, 422),
                ("GET", "/v1/admin/models/dogs", None, 404),
                ("POST", "/v1/admin/models/dogs/versions", {"folder": "two"}, 404),
            ):
                answer = await http.request(method, path, json=body)
                assert answer.status_code == status and answer.json()["error"]["message"], (method, path)
            state = (await http.get(ADMIN)).json()
            assert (state["latest"], state["canary"], list(state["loaded"])) == (1, None, ["1"])
            assert await predicted(http, "digits") == (200, "1", "1")

    asyncio.run(run())


def test_another_model_is_refused_and_a_template_is_kept(folder, experiments, monkeypatch):
    servable = from_experiment(*experiments["talk"], "talk", "talk@0")
    talk = served.Served(servable, LIMITS)
    with pytest.raises(loading.UserError, match=r"^inputs: .*image.*, and of the version in service .*tokens"):
        loading.load(folder, "two", talk, 2, LIMITS)
    bare = servable._replace(language=servable.language._replace(template=None))
    monkeypatch.setattr(loading, "from_bundle", lambda *_: bare)
    monkeypatch.setattr(served.Served, "start", lambda _: None)
    version = loading.load(folder, "two", talk, 2, LIMITS)
    assert version.id == "talk@2" and version.servable.language.template == servable.language.template != ""


def test_without_a_folder_no_version_changes(models):
    async def run():
        async with asgi_client(models, None) as http:
            assert (await http.get(ADMIN)).status_code == 404
            assert (await http.put(ADMIN, json={"latest": 1})).status_code == 404

    asyncio.run(run())


def test_an_unloaded_version_leaves_no_memory(models, folder):
    async def run():
        async with asgi_client(models, folder) as http:
            assert (await http.post(f"{ADMIN}/versions", json={"folder": "two"})).status_code == 201
            versions = models.versions["digits"]
            version = versions.loaded[2]
            kept = [weakref.ref(version), *map(weakref.ref, jax.tree.leaves(dict(version.servable.variables)))]
            del version
            assert await predicted(http, "digits@2") == (200, "2", "2")
            assert (await http.delete(f"{ADMIN}/versions/2")).status_code == 200
        return kept

    kept = asyncio.run(run())
    gc.collect()
    assert len(kept) > 1 and [ref() for ref in kept] == [None] * len(kept)
