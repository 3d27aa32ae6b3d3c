"""The shared pool of threads: order, values, errors, forks and interrupts."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image, ImageOps

from research.core.mesh import make_mesh
from research.data import thread_pool
from research.data.images import image_files
from research.data.pipeline import EvalBatches, TrainBatches
from research.data.thread_pool import OrderedMap
from research.util.errors import UserError

COUNTS = (1, 2, 8)
SHAPE = (12, 10, 3)
MODES = ("RGB", "L", "P", "RGBA", "CMYK", "1")
ENDINGS = {"RGB": "jpg", "CMYK": "jpg", "P": "gif"}


@pytest.fixture(autouse=True)
def always_threads(monkeypatch):
    """Small pictures take too little time for threads: here they get them all the same."""
    monkeypatch.setattr(thread_pool, "WORTHWHILE", 0.0)


@pytest.fixture
def paths(tmp_path):
    """Pictures of unlike sizes and modes, some turned by their EXIF."""
    rng, found = np.random.default_rng(0), []
    for i in range(30):
        mode = MODES[i % len(MODES)]
        height, width = rng.integers(8, 40, 2)
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).convert(mode)
        exif = image.getexif()
        if i % 4 == 1:
            exif[0x0112] = 1 + i % 8
        found.append(tmp_path / f"{i}.{ENDINGS.get(mode, 'png')}")
        image.save(found[-1], exif=exif)
    return found


def plainly(path):
    """Pillow's own steps, one after the other, each on a copy."""
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    size = (SHAPE[1], SHAPE[0])
    return np.array(ImageOps.fit(upright, size, Image.Resampling.BILINEAR) if upright.size != size else upright)


def working():
    return [t for t in threading.enumerate() if t.name.startswith("read_")]


@pytest.mark.parametrize("count", COUNTS)
def test_batches_are_those_of_a_plain_loop(paths, count):
    want, labels = np.stack([plainly(path) for path in paths]), np.arange(30)
    with thread_pool.threads(count):
        stream = TrainBatches(image_files.Files(paths, labels, SHAPE), 7, seed=3)
        for step in range(10):  # two epochs and more
            batch = stream.batch(step)
            assert batch["image"].dtype == np.uint8
            np.testing.assert_array_equal(batch["image"], want[batch["label"]])
            np.testing.assert_array_equal(batch["label"], stream.numbers(step)[0])


@pytest.mark.parametrize("count", COUNTS)
def test_the_first_broken_picture_of_a_batch_is_named(paths, count):
    files = image_files.Files(paths, np.arange(30), SHAPE)
    with thread_pool.threads(count):
        files.gather(np.arange(10))
        for number in (12, 20, 28):
            paths[number].write_bytes(paths[number].read_bytes()[:30])
        for order in (np.arange(30), np.arange(30)[::-1]):
            first = next(paths[i] for i in order if i in (12, 20, 28))
            for _ in range(5):
                with pytest.raises(UserError, match="cannot be read") as caught:
                    files.gather(order)
                assert str(caught.value).startswith(f"picture {first} cannot be read: ")
                assert "\n" not in str(caught.value)
        with pytest.raises(UserError, match=f"picture {paths[12]} cannot be read"):
            list(EvalBatches(files, 10).on_device(make_mesh({"data": 1}), 0, 3))
        assert len(files.gather(np.arange(12))["image"]) == 12  # nothing is left over from the failures


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("keep", [True, False])
def test_files_are_checked_in_their_order(paths, count, keep):
    paths[4].write_bytes(b"junk")
    paths[9].unlink()
    rows = [image_files.Row(path, path.name, "a", "") for path in paths]
    with thread_pool.threads(count):
        good, pixels, faults, *_ = image_files.readable(rows, SHAPE, keep)
    assert [row.path for row in good] == [path for i, path in enumerate(paths) if i not in (4, 9)]
    assert [fault.split(": ")[0] for fault in faults] == [paths[4].name, paths[9].name]
    assert faults[1].endswith("missing")
    assert len(pixels) == (28 if keep else 0)
    for row, image in zip(good, pixels, strict=False):
        np.testing.assert_array_equal(image, plainly(row.path))


def test_order_is_kept_whatever_each_item_takes():
    delays = np.random.default_rng(0).uniform(0, 0.003, 200)

    def slow(i):
        time.sleep(delays[i])
        return i

    with thread_pool.threads(8):
        assert OrderedMap(slow)(range(200)) == list(range(200))
        assert OrderedMap(slow)([]) == []
        assert OrderedMap(slow)([3]) == [3]


def test_threads_are_shared_and_not_more_than_asked_for():
    with thread_pool.threads(3):
        for _ in range(20):  # sources that come and go, as of many runs in one process
            names = OrderedMap(lambda i: (time.sleep(1e-3), threading.current_thread().name)[1])(range(40))
            workers = set(names) - {threading.current_thread().name}
            assert 1 < len(workers) <= 3
        before = len(working())
        OrderedMap(lambda i: time.sleep(1e-3))(range(40))
        assert len(working()) == before


def test_what_takes_little_time_stays_in_the_calling_thread(monkeypatch):
    monkeypatch.setattr(thread_pool, "WORTHWHILE", 1.0)
    with thread_pool.threads(4):
        used = OrderedMap(lambda i: threading.current_thread())
        assert {*used(range(100)), *used(range(100))} == {threading.current_thread()}


def test_as_many_threads_as_cores_that_may_be_used(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    assert thread_pool.count() == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(200)))
    assert thread_pool.count() == thread_pool.MAX_THREADS
    with thread_pool.threads(2):
        assert thread_pool.count() == 2


class Counted:
    """A source that counts the batches it was asked for."""

    def __init__(self):
        self.asked = 0

    def __len__(self):
        return 1_000

    def gather(self, indices, epoch):
        self.asked += 1
        time.sleep(0.02)
        return {"x": np.asarray(indices)}


def test_a_reader_that_leaves_early_has_no_further_batches_made():
    source = Counted()
    batches = TrainBatches(source, 4, 0).on_device(make_mesh({"data": 1}), 0, 1_000)
    next(batches)
    batches.close()
    time.sleep(0.05)  # the one under way
    asked = source.asked
    time.sleep(0.1)
    assert source.asked == asked


SLOW = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
from research.data import thread_pool
def slow(i):
    time.sleep(0.01)
    return i
slowly = thread_pool.OrderedMap(slow)
"""
FORKED = """
with thread_pool.threads(4):
    assert slowly(range(50)) == list(range(50))
    child = os.fork()
    assert slowly(range(50)) == list(range(50))
    if child:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
INTERRUPTED = """
with thread_pool.threads(4):
    slowly(range(50))
    print("ready", flush=True)
    slowly(range(100_000))
"""


def test_a_forked_child_has_threads_of_its_own():
    done = subprocess.run([sys.executable, "-c", SLOW + FORKED], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_ends_the_process(name):
    """What is under way would take 250 seconds."""
    with subprocess.Popen(
        [sys.executable, "-c", SLOW + INTERRUPTED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(getattr(signal, name))
        try:
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode in (-getattr(signal, name), 130)
    assert "cannot schedule" not in said
