"""Where a run's files are; and what may happen to the directory of a real training: one clear line, and nothing lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from research.run import object_store
from research.run.lock import holder
from research.util.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
LONG = ("--config.num_steps=100000", "--config.save_every=50", "--config.log_every=10", "--config.eval_every=50000")
AN_HOUR_BACK = """
import sys, time
real, calls = time.time, []
def late():
    calls.append(1)
    return real() - (3600 if len(calls) > 40 else 0)
time.time = late
from tools.cli import main
status = main(sys.argv[1:])
assert len(calls) > 60, len(calls)
sys.exit(status)
"""


@pytest.fixture(autouse=True)
def spool(tmp_path, monkeypatch):
    monkeypatch.setenv("ALMANAC_SPOOL", str(tmp_path / "spool"))
    return tmp_path / "spool"


def test_a_folder_is_where_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert object_store.local("runs/a") == tmp_path / "runs" / "a"
    assert object_store.fetch("runs/a") == Path("runs/a")
    assert not object_store.is_remote("runs/s3:/a") and not object_store.is_remote(tmp_path)


@pytest.mark.parametrize("same", ["s3://bucket/runs/a/", "s3:/bucket/runs/a", Path("s3://bucket/runs/a")])
def test_a_url_has_a_spool_of_its_own(spool, same):
    """pathlib drops a slash of a URL; it is the same place."""
    place = object_store.local("s3://bucket/runs/a")
    assert place.parent == spool and place.name.startswith("a-")
    assert object_store.is_remote(same) and object_store.local(same) == place
    others = ["gs://bucket/runs/a", "s3://other/runs/a", "s3://bucket/runs/b", "s3://bucket/a"]
    assert len({place, *map(object_store.local, others)}) == 5


def test_the_spool_is_in_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("ALMANAC_SPOOL")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert object_store.local("s3://bucket/a").parent == tmp_path / "almanac" / "spool"


@pytest.mark.parametrize("url, module, extra", [("s3://b/a", "s3fs", "s3"), ("gs://b/a", "gcsfs", "gcs")])
def test_a_missing_extra_is_named(url, module, extra, spool):
    code = f"import sys; sys.modules[{module!r}] = None; from research.run import object_store; object_store.Place({url!r})"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    told = done.stderr.splitlines()[-1]
    assert told.startswith(f"research.util.errors.UserError: {url}: needs the extra [{extra}]; "), done.stderr
    assert not spool.exists()


@pytest.mark.parametrize("url", ["ftp://host/run", "s3://bucket", "s3://bucket/", "http://host/a/b"])
def test_what_is_no_place_for_a_run(url, spool):
    with pytest.raises(UserError, match="no place for a run; give a folder, s3://BUCKET/DIR or gs://BUCKET/DIR"):
        object_store.Place(url)
    assert not spool.exists()


def test_a_local_place_is_held_and_let_go(tmp_path):
    place = object_store.Place(tmp_path / "a" / "run")
    assert place.local == tmp_path / "a" / "run" and holder(place.local)
    with pytest.raises(UserError, match="another run is at work there"):
        object_store.Place(tmp_path / "a" / "run")
    object_store.Place(tmp_path / "a" / "run", writes=False).join()
    place.check()
    place.push(place.local / "checkpoints" / "1")
    place.close()
    place.close()
    assert not (tmp_path / "a").exists()


def test_publishing_to_a_folder_does_nothing(tmp_path):
    (tmp_path / "report.html").touch()
    object_store.publish(tmp_path, tmp_path / "report.html")
    assert [p.name for p in tmp_path.iterdir() if p.name != "spool"] == ["report.html"]


# A training, in a process of its own


def start(folder, *words, code=None):
    env = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    begin = ["-c", code] if code else ["-m", "tools.cli"]
    words = [*begin, "train", "language_model/tiny", "--workdir", str(folder), *words]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen([sys.executable, *words], env=env, **pipes)


def finish(process):
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out


def line(process, quiet=True):
    """The one line of a run that had to stop. Orbax and TensorStore may log what they met, too, unless all is `quiet`."""
    _, err = process.communicate(timeout=600)
    ours = [text for text in err.splitlines() if text.startswith("almanac: ")]
    assert process.returncode == 2 and len(ours) == 1, err
    assert not quiet or err.count("\n") == 1, err
    return ours[0].removeprefix("almanac: ")


def steps(folder):
    return sorted(int(p.name) for p in (folder / "checkpoints").glob("*") if p.name.isdigit())


def wait_for_checkpoint(process, folder):
    while not steps(folder):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def same(a, b):
    assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()
    assert steps(a) == steps(b)
    checks = [
        json.loads((x / "checkpoints" / str(steps(x)[-1]) / "checksums" / "metadata").read_text()) for x in (a, b)
    ]
    assert checks[0]["state"] == checks[1]["state"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(start(folder))
    return folder


@pytest.fixture
def mounted(tmp_path):
    """Mounts a tmpfs with these options."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def go(options):
        if (
            not shutil.which("mount")
            or subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk]).returncode
        ):
            pytest.skip("may not mount a file system here")
        return disk

    yield go
    subprocess.run(["umount", "--lazy", disk], capture_output=True)


@pytest.mark.slow
def test_a_full_disk(undisturbed, mounted):
    disk = mounted("size=1400k")
    told = line(start(disk / "run"), quiet=False)
    assert told.startswith("no space left to save under ") and told.endswith("; free some and start again: it resumes")
    kept = steps(disk / "run")
    assert kept and kept[-1] < 12
    subprocess.run(["mount", "-o", "remount,size=100M", disk], check=True)
    assert f"resumed at step {kept[-1]} of 12" in finish(start(disk / "run"))
    same(disk / "run", undisturbed)


@pytest.mark.slow
def test_a_read_only_disk(mounted):
    disk = mounted("ro,size=10M")
    assert line(start(disk / "run")) == f"cannot write to {disk}/run: Read-only file system"


@pytest.mark.slow
def test_a_directory_that_is_removed(tmp_path):
    folder = tmp_path / "run"
    process = start(folder, *LONG)
    wait_for_checkpoint(process, folder)
    folder.rename(tmp_path / "elsewhere")
    told = line(process, quiet=False)
    assert told.startswith((f"{folder}: removed or replaced while the run went on", "cannot write to"))
    shutil.rmtree(folder, ignore_errors=True)  # a save that was under way makes what it misses
    (tmp_path / "elsewhere").rename(folder)
    last = steps(folder)[-1]
    more = f"--config.num_steps={last + 5}"
    assert f"resumed at step {last:,}" in finish(start(folder, *LONG[1:], more, "--resume=force"))


@pytest.mark.slow
def test_a_disk_that_is_unmounted(mounted):
    disk = mounted("size=100M")
    process = start(disk / "run", *LONG)
    wait_for_checkpoint(process, disk / "run")
    subprocess.run(["umount", "--lazy", disk], check=True)
    assert "removed or replaced while the run went on" in line(process, quiet=False)


@pytest.mark.slow
def test_two_runs_on_one_directory(tmp_path):
    folder = tmp_path / "run"
    first = start(folder, *LONG)
    wait_for_checkpoint(first, folder)
    told = line(start(folder, *LONG))
    assert told.startswith(f"{folder}: another run is at work there (host ") and f"process {first.pid}, " in told
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    last = steps(folder)[-1]
    more = f"--config.num_steps={last + 5}"
    assert f"resumed at step {last:,}" in finish(start(folder, *LONG[1:], more, "--resume=force"))
    assert not (folder / ".lock").exists()


@pytest.mark.slow
def test_a_clock_that_goes_back(undisturbed, tmp_path):
    finish(start(tmp_path / "run", code=AN_HOUR_BACK))
    same(tmp_path / "run", undisturbed)
    timing = [json.loads(text) for text in (tmp_path / "run" / "timing.jsonl").read_text().splitlines()]
    seconds = [row["seconds"] for row in timing]
    assert seconds == sorted(seconds) and 0 < seconds[0] and seconds[-1] < 600
    assert all(row["tokens_per_s"] > 0 for row in timing)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("http://host/run", "no place for a run; give a folder, s3://BUCKET/DIR"),
        ("http:/host/run", "no place for a run"),
        ("az://box/run", "no place for a run"),
        ("runs/" + "a" * 300, "300 characters, has a name that no file can have"),
        ("runs/" + "é" * 200, "200 characters, has a name that no file can have"),
        ("a\0b", "has a name that no file can have"),
    ],
)
def test_what_is_no_run_directory(place, words):
    for use in (object_store.local, object_store.fetch):
        with pytest.raises(UserError) as e:
            use(place)
        assert words in str(e.value) and "\n" not in str(e.value) and len(str(e.value)) < 250
