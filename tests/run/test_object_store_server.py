"""Runs in an object store: a server of Amazon's S3 on this machine, which is killed at, cut off and damaged."""

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

from research.run import lock, manifest, object_store
from research.util.errors import UserError

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("s3fs", reason="needs the extra [s3]")
moto = pytest.importorskip("moto.server", reason="needs a local S3 server: moto[s3], flask and flask-cors")

ROOT = Path(__file__).resolve().parents[2]
URL = "s3://bucket/runs/a"


@pytest.fixture(scope="module")
def server():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def store(server, monkeypatch, tmp_path):
    """An empty bucket, seen by everyone who reads the environment; and a clock for leases that need not be waited for."""
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "ALMANAC_SPOOL": str(tmp_path / "spool"),
        "PYTHONPATH": str(ROOT),
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "FSSPEC_S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(lock, "RENEWAL", 0.5)
    monkeypatch.setattr(lock, "STILL", 3.0)
    files = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
    if files.exists("bucket"):
        files.rm("bucket", recursive=True)
    files.mkdir("bucket")
    return files


@pytest.fixture
def another_machine(monkeypatch, tmp_path):
    def go(name):
        monkeypatch.setenv("ALMANAC_SPOOL", str(tmp_path / name))

    return go


def save(folder, step, files=3, parent="checkpoints", sealed=True):
    """A checkpoint, as a run makes one: under another name, renamed when it is whole, and then given a manifest."""
    made = folder / parent / f"{step}.orbax-checkpoint-tmp"
    for n in range(files):
        path = made / "state" / "d" / f"{n}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(step, n))
    (made / "empty").write_bytes(b"")
    made.rename(folder / parent / str(step))
    if sealed:
        manifest.write(folder / parent / str(step))
    return folder / parent / str(step)


def content(step, n):
    return np.random.default_rng([step, n]).bytes(20_000)


def whole(folder, step, files=3, parent="checkpoints"):
    """Whether a checkpoint is, to the byte, what was saved."""
    made = folder / parent / str(step)
    found = {p.relative_to(made).as_posix(): p.read_bytes() for p in made.rglob("*") if p.is_file()}
    found.pop("files.json", None)
    return found == {"empty": b"", **{f"state/d/{n}": content(step, n) for n in range(files)}}


def steps(folder, parent="checkpoints"):
    return sorted(p.name for p in (folder / parent).glob("*"))


def objects(store):
    return sorted(name.removeprefix("bucket/runs/a/") for name in store.find("bucket"))


def place_with(*saved):
    place = object_store.Place(URL)
    (place.local / "config.json").write_text("{}\n")
    (place.local / "metrics.jsonl").write_text('{"step": 1}\n')
    for step in saved:
        place.push(save(place.local, step))
    return place


def test_what_is_written_comes_back_on_another_machine(store, another_machine):
    place = place_with(3, 6)
    save(place.local, 6, parent="best")
    (place.local / "samples").mkdir()
    (place.local / "samples" / "a b.txt").write_text("é")
    place.close()
    another_machine("b")
    place = object_store.Place(URL)
    assert steps(place.local) == ["3", "6"] and steps(place.local, "best") == ["6"]
    assert whole(place.local, 3) and whole(place.local, 6) and whole(place.local, 6, parent="best")
    assert (place.local / "samples" / "a b.txt").read_text() == "é"
    assert (place.local / "metrics.jsonl").read_text() == '{"step": 1}\n'
    place.close()
    assert ".lock" not in objects(store)


def test_a_reader_takes_the_newest_and_locks_nothing(store):
    place = place_with(3, 6, 12)
    save(place.local, 3, parent="best")
    place.close()
    place = object_store.Place(URL)  # at work
    before = objects(store)
    view = object_store.fetch(URL)
    assert steps(view) == ["12"] and steps(view, "best") == ["3"] and whole(view, 12)
    assert (view / "config.json").exists() and view != place.local
    assert steps(object_store.fetch(URL, newest=False)) == ["12", "3", "6"]
    assert steps(object_store.fetch(URL)) == ["12"]
    assert objects(store) == before
    place.close()


def test_names_with_dots_have_views_of_their_own(store):
    for version in "12":
        place = object_store.Place(f"s3://bucket/v1.{version}")
        (place.local / "config.json").write_text(version)
        place.close()
    views = [object_store.fetch(f"s3://bucket/v1.{version}") for version in "12"]
    assert [(view / "config.json").read_text() for view in views] == ["1", "2"]


def test_logs_are_copied_with_each_checkpoint(store):
    place = place_with()
    done = save(place.local, 1)
    with open(place.local / "metrics.jsonl", "a") as file:
        file.write('{"step": 2}\n')
    place.push(done)
    wait_for(lambda: "checkpoints/1/files.json" in objects(store))
    assert store.cat_file("bucket/runs/a/metrics.jsonl") == b'{"step": 1}\n{"step": 2}\n'
    place.close()


def wait_for(condition):
    for _ in range(600):
        if condition():
            return
        signal.sigtimedwait([], 0.1)
    raise AssertionError("waited for a minute")


def test_what_is_no_longer_kept_goes_and_what_was_set_aside_stays(store, another_machine):
    place = place_with(1, 2)
    place.push(save(place.local, 3))
    wait_for(lambda: "checkpoints/3/files.json" in objects(store))
    shutil.rmtree(place.local / "checkpoints" / "1")
    (place.local / "checkpoints" / "2").rename(place.local / "checkpoints" / "2.damaged")
    place.close()
    kept = {name.split("/")[1] for name in objects(store) if name.startswith("checkpoints/")}
    assert kept == {"2.damaged", "3"}
    another_machine("b")
    place = object_store.Place(URL)
    assert steps(place.local) == ["2.damaged", "3"]
    place.close()


def test_a_step_saved_again_replaces_the_one_before(store, another_machine):
    place = place_with(5)
    place.close()
    place = object_store.Place(URL)
    shutil.rmtree(place.local / "checkpoints" / "5")
    place.push(save(place.local, 5, files=2))
    place.close()
    another_machine("b")
    place = object_store.Place(URL)
    assert whole(place.local, 5, files=2)
    place.close()


def test_what_is_not_finished_is_not_copied(store):
    place = place_with(1)
    shutil.copytree(place.local / "checkpoints" / "1", place.local / "checkpoints" / "2.orbax-checkpoint-tmp")
    (place.local / "report.json.part").touch()
    place.close()
    assert not [name for name in objects(store) if "tmp" in name or name.endswith(".part") or ".lock" in name]


def test_a_checkpoint_waits_for_its_manifest(store):
    """Nothing is written into one by the copying: Orbax may be deleting it."""
    place = place_with()
    first = save(place.local, 1, sealed=False)
    place.push(first)
    place.push(save(place.local, 2))
    wait_for(lambda: "checkpoints/2/files.json" in objects(store))
    assert not manifest.exists(first) and not [name for name in objects(store) if name.startswith("checkpoints/1")]
    place.close()
    assert whole(object_store.fetch(URL, newest=False), 1)


def test_a_mistake_leaves_nothing(store, tmp_path):
    object_store.Place(URL).close()
    assert objects(store) == [] and not (tmp_path / "spool").exists()


# Kills

KILLED = """
import os, signal, sys
from pathlib import Path
from research.run import lock, object_store
sys.path.insert(0, {tests!r})
from test_object_store_server import save
lock.RENEWAL, lock.STILL = 0.5, 3.0
left = int(sys.argv[1])
def dying(name):
    call = getattr(object_store.Store, name)
    def method(self, *args):
        global left
        if left == 0 and name == "put" and len(list(args[1])) > 1:
            call(self, args[0], list(args[1])[:1], *args[2:])
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return call(self, *args)
    setattr(object_store.Store, name, method)
place = object_store.Place({url!r})
for name in ("put", "write", "remove"):
    dying(name)
lock.Lease._move = lambda self: None  # its writes are not counted
for step in (10, 20):
    (place.local / "metrics.jsonl").write_text(str(step))
    save(place.local, step)
import shutil
shutil.rmtree(place.local / "checkpoints" / "5", ignore_errors=True)
place.close()
print("all", left)
"""


MOMENTS = {  # the call to the store in the middle of which it is killed, and what whole checkpoints the store then holds
    "logs": (0, ["5"]),
    "first files": (1, ["5"]),
    "first manifest": (2, ["5"]),
    "second files": (3, ["10", "5"]),
    "second manifest": (4, ["10", "5"]),
    "mark of the old": (5, ["10", "20", "5"]),
    "files of the old": (6, ["10", "20"]),
    "lease": (7, ["10", "20"]),
}
QUICK = ("first manifest", "second files", "mark of the old")


@pytest.mark.parametrize("moment", [m if m in QUICK else pytest.param(m, marks=pytest.mark.slow) for m in MOMENTS])
def test_killed_in_the_middle_of_a_copy(store, another_machine, moment):
    """By a process that saves 10 and 20 and keeps 5 no longer. The store holds whole checkpoints alone, and the spool all."""
    calls, there = MOMENTS[moment]
    place_with(5).close()
    code = KILLED.format(tests=str(Path(__file__).parent), url=URL)
    done = subprocess.run([sys.executable, "-c", code, str(calls)], capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    another_machine("b")
    view = object_store.fetch(URL, newest=False)
    assert steps(view) == there and all(whole(view, int(step)) for step in there)
    another_machine("spool")
    place = object_store.Place(URL)
    assert {"10", "20"} <= set(steps(place.local)) and whole(place.local, 10) and whole(place.local, 20)
    place.close()
    another_machine("b")
    assert whole(object_store.fetch(URL), 20)


def test_a_copy_that_was_killed_while_it_came_down(store, another_machine, monkeypatch):
    place_with(1, 2).close()
    another_machine("b")
    get = object_store.Store.get

    def cut(self, names, paths):
        if any("checkpoints/1" in name for name in names):
            raise KeyboardInterrupt
        get(self, names, paths)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(object_store.Store, "get", cut)
        object_store.Place(URL)
    place = object_store.Place(URL)
    assert steps(place.local) == ["1", "2"] and whole(place.local, 1) and whole(place.local, 2)
    place.close()


# Who has it


def test_two_machines_on_one_directory(store, another_machine, monkeypatch):
    first = place_with(1)
    another_machine("b")
    with monkeypatch.context() as patch:
        patch.setattr(lock, "STILL", 300)
        with pytest.raises(UserError, match=f"^{URL}: another run is at work there .host .*, process {os.getpid()}, "):
            object_store.Place(URL)
    first.close()
    object_store.Place(URL).close()


def test_a_killed_machine_is_taken_over_and_finds_out(store, another_machine):
    first = place_with(1)
    first._locks[1]._stop.set()  # its thread stands still, as all of it would
    first._locks[1]._thread.join()
    another_machine("b")
    second = object_store.Place(URL)
    second.push(save(second.local, 2))
    second.close()
    first._locks[1]._moved -= 60
    with pytest.raises(UserError, match=f"{URL}: removed or replaced"):
        first.check()
    save(first.local, 9)
    with pytest.warns(UserWarning, match=f"{URL}: removed or replaced .* the run is whole in {first.local}"):
        first.close(quiet=True)
    assert "checkpoints/9/files.json" not in objects(store) and "checkpoints/2/files.json" in objects(store)
    another_machine("spool")
    third = object_store.Place(URL)  # the store's life goes on, not that of the spool
    assert steps(third.local) == ["1", "2"]
    third.close()


def test_a_directory_that_is_removed_under_a_run(store):
    place = place_with(1)
    wait_for(lambda: "checkpoints/1/files.json" in objects(store))
    store.rm("bucket/runs", recursive=True)
    place._locks[1]._thread.join(60)
    with pytest.raises(UserError, match=f"{URL}: removed or replaced while the run went on"):
        place.check()
    with pytest.raises(UserError, match="the run is whole in"):
        place.close()
    assert objects(store) == []


def test_the_other_hosts_wait_for_the_first_and_must_see_its_spool(store, another_machine, monkeypatch):
    monkeypatch.setattr(object_store, "SHARED", 30.0)
    joined = []
    other = threading.Thread(target=lambda: joined.append(object_store.Place(URL, writes=False)))
    other.start()
    place = place_with(1)
    other.join(60)
    assert joined[0].local == place.local
    monkeypatch.setattr(object_store, "SHARED", 1.0)
    another_machine("b")
    with pytest.raises(UserError, match="this host has a spool of its own.*set ALMANAC_SPOOL to a folder that all"):
        object_store.Place(URL, writes=False)
    place.close()


# Damage, and stores that fail


def damage(store, name):
    data = bytearray(store.cat_file(name))
    data[len(data) // 2] ^= 4
    store.pipe_file(name, bytes(data))


@pytest.mark.parametrize("how", ["flipped", "cut", "deleted"])
def test_damage_in_the_store_is_found_on_the_way_down(store, another_machine, how):
    place_with(1, 2).close()
    name = "bucket/runs/a/checkpoints/2/state/d/1"
    if how == "flipped":
        damage(store, name)
    elif how == "cut":
        store.pipe_file(name, content(2, 1)[:100])
    else:
        store.rm_file(name)
    another_machine("b")
    with pytest.warns(UserWarning, match=f"checkpoint {URL}/checkpoints/2 is damaged: state/d/1 "):
        assert steps(object_store.fetch(URL)) == ["1"]
    with pytest.warns(UserWarning, match="state/d/1 .*; set aside as 2.damaged$"):
        place = object_store.Place(URL)
    assert steps(place.local) == ["1", "2.damaged"] and whole(place.local, 1)
    place.close()
    kept = {name.split("/")[1] for name in objects(store) if name.startswith("checkpoints/")}
    assert kept == {"1", "2.damaged"}
    another_machine("c")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        place = object_store.Place(URL)
    assert steps(place.local) == ["1", "2.damaged"]
    place.close()


def test_damage_in_the_spool_is_mended_from_the_store(store):
    place = place_with(1, 2)
    place.close()
    (place.local / "checkpoints" / "2" / "state" / "d" / "1").unlink()
    shutil.rmtree(place.local / "checkpoints" / "1")
    place = object_store.Place(URL)
    assert whole(place.local, 1) and whole(place.local, 2)
    place.close()


def test_a_store_out_of_reach_does_not_end_a_run(store, another_machine, monkeypatch):
    place = place_with(1)
    wait_for(lambda: "checkpoints/1/files.json" in objects(store))
    with monkeypatch.context() as patch:
        patch.setattr(object_store.Store, "put", lambda self, *_: self._broken())
        patch.setattr(object_store.Store, "_broken", lambda self: self.write(None, None), raising=False)
        patch.setattr(object_store.Store, "write", broken)
        place.push(save(place.local, 2))
        wait_for(lambda: place._problem)
        with pytest.warns(UserWarning, match=f"{URL}: OSError: out of reach; .*; the run goes on in {place.local}"):
            place.check()
        with pytest.raises(UserError, match=f"out of reach.*; the run is whole in {place.local}: start again on this"):
            place.close()
    place = object_store.Place(URL)
    place.close()
    another_machine("b")
    assert whole(object_store.fetch(URL), 2)


def broken(self, *_):
    with self._errors():
        raise OSError("out of reach")


def test_no_such_bucket(store, tmp_path):
    with pytest.raises(UserError) as error:
        object_store.Place("s3://nowhere/run")
    assert str(error.value).startswith(
        "s3://nowhere/run: FileNotFoundError: The specified bucket does not exist; see to"
    )
    assert list((tmp_path / "spool").glob("*/*")) == [*(tmp_path / "spool").glob("*/.owner")]


def test_no_server(store, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(UserError, match=f"^{URL}: EndpointConnectionError: .*; see to the bucket, the credentials or"):
        object_store.Place(URL)
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_a_manifest_is_the_one_that_doctor_reads(store):
    place = place_with(1)
    place.close()
    assert manifest.problems(place.local / "checkpoints" / "1") == []
    text = store.cat_file("bucket/runs/a/checkpoints/1/files.json")
    assert set(json.loads(text)) == {"empty", "state/d/0", "state/d/1", "state/d/2", "files.json"}


# A training, in a process of its own


def training(folder):
    env = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    words = ["experiments.language_model.train", "--config=tiny", f"--workdir={folder}", "--config.num_steps=60"]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return subprocess.Popen([sys.executable, "-m", *words], cwd=ROOT, env=env, **pipes)


def finish(process):
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out
    return out


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(training(folder))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("spool", ["spool", "another"])
def test_a_training_that_is_killed_goes_on_to_the_bit(undisturbed, store, another_machine, spool):
    """On the same machine, and on one that has nothing but the store."""
    first = training(URL)
    wait_for(lambda: any(name.endswith("/files.json") for name in objects(store)) or first.poll() is not None)
    first.kill()
    first.communicate()
    assert "checkpoints/60/files.json" not in objects(store)
    another_machine(spool)
    assert "resumed at step" in finish(training(URL))
    another_machine("reader")
    view = object_store.fetch(URL)
    assert (view / "metrics.jsonl").read_bytes() == (undisturbed / "metrics.jsonl").read_bytes()
    sums = [json.loads((x / "checkpoints/60/checksums/metadata").read_text())["state"] for x in (view, undisturbed)]
    assert sums[0] == sums[1]
