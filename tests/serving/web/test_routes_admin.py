"""Versions over HTTP: bundles are loaded, switched to, rolled back and unloaded under load, and bad ones change nothing.

Version k of "digits" always answers class k: its parameters are zeros, but for the bias of that class. So an answer itself
says which version it is of.
"""

import asyncio
import contextlib
import gc
import hashlib
import shutil
import weakref
from types import SimpleNamespace

import httpx2
import jax
import numpy as np
import pytest
import safetensors.numpy

from research.serving import packing
from research.serving.servable import from_experiment, from_folder
from research.serving.web import app, loading, served

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
    """A folder with bundles "one", "two" and "three", of these classes."""
    root = tmp_path / "bundles"
    for label, name in enumerate(("one", "two", "three"), 1):
        answering(shutil.copytree(packed, root / name), label)
    return root


@pytest.fixture
def models(folder):
    made = served.of([from_folder(folder / "one", "digits")], LIMITS)
    made.start()
    yield made
    made.close()


@contextlib.asynccontextmanager
async def client(models, folder):
    transport = httpx2.ASGITransport(app.create(models, LIMITS, folder))
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


def test_no_request_fails_while_versions_come_and_go(models, folder):
    history = [{"1"}]  # which versions may have answered: each entry from its time on
    answers = []

    async def hammer(http, ask, name, versions):
        while len(history) < 100:
            start = len(history) - 1
            status, label, version = await ask(http, name)
            current = versions or set.union(*history[start:])
            answers.append((status, label == version, version in current))

    async def more(count=12):
        end = len(answers) + count
        while len(answers) < end:
            await asyncio.sleep(0.01)

    async def direct(http, old, new, **traffic):
        history.append(old | new)
        answer = await http.put(ADMIN, json=traffic)
        assert answer.status_code == 200, answer.text
        history.append(new)
        await more()

    async def run():
        async with client(models, folder) as http:
            asks = (predicted, "digits", None), (inferred, "digits@latest", None), (inferred, "digits", None)
            tasks = [asyncio.create_task(hammer(http, *each)) for each in asks]
            await more()
            loaded = await http.post(f"{ADMIN}/versions", json={"folder": "two"})
            assert (loaded.status_code, loaded.json()["version"], loaded.json()["latest"]) == (201, 2, 1)
            assert (await inferred(http, "digits/versions/2"))[1:] == ("2", "2")
            pinned = asyncio.create_task(hammer(http, predicted, "digits@2", {"2"}))
            await direct(http, {"1"}, {"2"}, latest=2)
            await direct(http, {"2"}, {"1"}, latest=1)
            await direct(http, {"1"}, {"1", "2"}, latest=1, canary={"version": 2, "weight": 0.5})
            await direct(http, {"1", "2"}, {"2"}, latest=2)
            gone = await http.delete(f"{ADMIN}/versions/1")
            assert gone.status_code == 200 and list(gone.json()["loaded"]) == ["2"]
            await more()
            loaded = await http.post(f"{ADMIN}/versions", json={"folder": "three"})
            assert loaded.json()["version"] == 3
            await direct(http, {"2"}, {"3"}, latest=3)
            history.extend([{"3"}] * 100)
            await asyncio.gather(*tasks, pinned)
            assert (await http.get("/v1/models/digits")).json()["versions"] == [2, 3]
            assert (await http.get("/v2/models/digits")).json()["versions"] == ["2", "3"]

    asyncio.run(run())
    assert len(answers) > 80 and set(answers) == {(200, True, True)}


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
        "link": "there is no folder 'link'",
        ".": "there is no folder",
        "two\0": "there is no folder",
        "a" * 1000: "there is no folder",
    }

    async def run():
        async with client(models, folder) as http:
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


def test_another_model_is_refused(models, folder, experiments):
    e, variables = experiments["talk"]
    talk = served.Served(from_experiment(e, variables, "talk", "talk@0"), LIMITS._replace(context=64))
    with pytest.raises(loading.UserError, match=r"^inputs: .*image.*, and of the version in service .*tokens"):
        loading.load(folder, "two", talk, 2, LIMITS)


def test_without_a_folder_no_version_changes(models):
    async def run():
        async with client(models, None) as http:
            assert (await http.get(ADMIN)).status_code == 404
            assert (await http.put(ADMIN, json={"latest": 1})).status_code == 404

    asyncio.run(run())


def test_an_unloaded_version_leaves_no_memory(models, folder):
    async def run():
        async with client(models, folder) as http:
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
