"""Images per second of the input pipeline, alone and during training.

Images are generated, written as files and read like a user's folder that does not fit into memory: each is opened, decoded,
resized and copied to the device when its batch is due. The time of a stage is that of one thread for one image.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from experiments import options
from research.core import config, mesh, state
from research.data import thread_pool
from research.data.images import image_files
from research.data.images.labelled import ImageSource
from research.data.pipeline import TrainBatches
from research.run import reopen
from research.util.errors import UserError, nearest
from research.util.files import write_json

EXPERIMENT = "image_classification/digits"
ENDLESS = 1 << 40  # steps
BUFFERED = 8  # batches before the timed ones; more than the pipeline prefetches


class Case(NamedTuple):
    """The kind of files, the size that they are resized to, and the model that is trained meanwhile."""

    stored: tuple[int, int]  # Y, X in the file
    suffix: str  # its format: png or jpg (quality 90)
    size: int  # Y and X of the model's input
    batch_size: int
    model: tuple[str, ...]  # overrides of EXPERIMENT


RESNET = ("model.name=resnet", "augment.flip=0.5")
CASES = {
    "32": Case((32, 32), "png", 32, 128, (*RESNET, "model.depth=20", "model.form=cifar", "augment.crop=4")),
    "224": Case((375, 500), "jpg", 224, 16, (*RESNET, "model.depth=18", "model.form=imagenet")),
}


# ---- Images


def write_pictures(folder: Path, count: int, stored: tuple[int, int], suffix: str) -> list[Path]:
    """Writes `count` images of noise with the spectrum of photographs into two class folders -> their paths."""
    rng, paths = np.random.default_rng(0), []
    for i in range(count):
        path = folder / "ab"[i % 2] / f"{i:05d}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(_noise(rng, *stored)).save(path, quality=90)  # ignored for PNG
        paths.append(path)
    return paths


def _noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """u8[Y, X, 3]: octaves of equal contrast, which gives the 1/f amplitudes of natural images (Field 1987)."""
    total = np.zeros((height, width, 3))
    for octave in range(1, math.ceil(math.log2(max(height, width)))):
        rows, columns = (max(1, round(2**octave * side / max(height, width))) for side in (height, width))
        grid = Image.fromarray(rng.integers(0, 256, (rows, columns, 3), np.uint8))
        total += np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC), float)
    total -= total.min()
    return (255 * total / total.max()).astype(np.uint8)


# ---- Measuring


def measure(
    case: Case, rounds: int = 5, steps: int = 16, pictures: int = 256, threads: Sequence[int] = ()
) -> dict[str, Any]:
    """Measures one case -> a dict for JSON: the setting and, for each measurement, one number per round.

    stages_ms          {name of a stage: milliseconds per image}
    alone, beside      without and with a training step, for each number of decoding threads (default: 1, 2, 4, ... and the
                       number of cores): `images_per_s` and, with a step, also `step_ms` and `wait_share`, the share of a step
                       for which the loop waits for its batch
    step_ms            of the step alone, with a batch that is on the device
    """
    threads = threads or _counts(thread_pool.count())
    with tempfile.TemporaryDirectory() as folder:
        paths = write_pictures(Path(folder), pictures, case.stored, case.suffix)
        shape = (case.size, case.size, 3)
        labels = np.arange(len(paths)) % 2
        experiment = build(case, Path(folder))
        devices = mesh.make_mesh(dict.fromkeys(experiment.cfg.mesh, 1), jax.devices()[:1])

        def batches() -> Iterator[dict[str, jax.Array]]:
            source = ImageSource(image_files.Files(paths, labels, shape), np.arange(len(paths)), lambda: labels)
            return TrainBatches(source, case.batch_size, 0).on_device(devices, 0, ENDLESS)

        with jax.set_mesh(devices):
            step = _step(experiment, devices)
            return {
                "stored": [*case.stored, case.suffix, round(sum(p.stat().st_size for p in paths) / len(paths))],
                "size": case.size,
                "batch_size": case.batch_size,
                "model": [word for word in case.model if word.startswith("model.")],
                "pictures": pictures,
                "steps": steps,
                "device": jax.devices()[0].device_kind,
                "cores": thread_pool.count(),
                "stages_ms": _stages(paths, shape, devices, rounds),
                "step_ms": _step_alone(step, batches, rounds, steps),
                "alone": [_alone(batches, n, rounds, steps, case.batch_size) for n in threads],
                "beside": [_beside(step, batches, n, rounds, steps, case.batch_size) for n in threads],
            }


def _counts(most: int) -> list[int]:
    """Powers of two up to `most`, and `most`.

    >>> _counts(6)
    [1, 2, 4, 6]
    """
    return sorted({1, most, *(2**i for i in range(most.bit_length()) if 2**i < most)})


def build(case: Case, folder: Path) -> Any:
    """The case's experiment on a folder of images. Its own data is in memory, and only its shapes are used."""
    data = {"source": "files", "path": folder, "size": case.size, "channels": 3, "batch_size": case.batch_size}
    cfg = config.load(EXPERIMENT, [*(f"data.{key}={value}" for key, value in data.items()), *case.model])
    return reopen.build(cfg.name, cfg)


def _step(experiment: Any, devices: Any) -> Callable[[Mapping], Any]:
    """A function batch -> metrics of one step, on the device, that keeps the training state."""
    train_state = [state.create(experiment.init_fn, experiment.tx, 0, devices)]

    def step(batch: Mapping) -> Any:
        train_state[0], metrics = experiment.train_step(train_state[0], batch)
        return metrics

    return step


def _stages(paths: Sequence[Path], shape: image_files.Shape, devices: Any, rounds: int) -> dict[str, list[float]]:
    """{stage: milliseconds per image in one thread, for each round}"""
    sample = paths[:64]
    decoded = [image_files.decode(path, shape) for path in sample]
    files = np.stack(decoded)
    rows = np.arange(len(sample))
    pictures = ImageSource(image_files.Files(sample, rows, shape), rows, lambda: rows)
    batch = {"image": files.astype(np.float32)}
    stages: dict[str, Callable[[], Any]] = {
        "decode and resize": lambda: [image_files.decode(path, shape) for path in sample],
        "stack": lambda: np.stack(decoded),
        "to float32": lambda: pictures.scaled(files),
        "to the device": lambda: jax.block_until_ready(mesh.to_device(batch, devices, len(sample))),
    }
    return {name: [1e3 * _seconds(stage) / len(sample) for _ in range(rounds)] for name, stage in stages.items()}


def _seconds(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _alone(batches: Callable, threads: int, rounds: int, steps: int, batch_size: int) -> dict[str, Any]:
    """Images per second without a training step."""
    with thread_pool.threads(threads), closing(batches()) as stream:
        for _ in range(BUFFERED):
            next(stream)
        times = [_seconds(lambda: jax.block_until_ready([next(stream) for _ in range(steps)])) for _ in range(rounds)]
    return {"threads": threads, "images_per_s": [steps * batch_size / seconds for seconds in times]}


def _step_alone(step: Callable, batches: Callable, rounds: int, steps: int) -> list[float]:
    """Milliseconds of a step whose batch is on the device, for each round."""
    with closing(batches()) as stream:
        batch = next(stream)
    jax.block_until_ready(step(batch))
    return [1e3 * _loop(step, lambda: batch, steps)[0] / steps for _ in range(rounds)]


def _beside(step: Callable, batches: Callable, threads: int, rounds: int, steps: int, size: int) -> dict[str, Any]:
    """A training loop: milliseconds per step, images per second, and the share of a step spent waiting for its batch."""
    with thread_pool.threads(threads), closing(batches()) as stream:
        _loop(step, lambda: next(stream), BUFFERED)
        times = [_loop(step, lambda: next(stream), steps) for _ in range(rounds)]
    return {
        "threads": threads,
        "step_ms": [1e3 * total / steps for total, _ in times],
        "images_per_s": [steps * size / total for total, _ in times],
        "wait_share": [waited / total for total, waited in times],
    }


def _loop(step: Callable, batch: Callable, steps: int) -> tuple[float, float]:
    """-> the seconds of `steps` steps, one of them always in flight, and the seconds of these spent waiting for batches."""
    waited, in_flight, start = 0.0, None, time.perf_counter()
    for _ in range(steps):
        before = time.perf_counter()
        next_batch = batch()
        waited += time.perf_counter() - before
        result = step(next_batch)
        jax.block_until_ready(in_flight)
        in_flight = result
    jax.block_until_ready(in_flight)
    return time.perf_counter() - start, waited


# ---- Printing


def table(results: Mapping[str, Mapping]) -> str:
    """{case: results of `measure`} -> text with a heading and aligned columns for each case."""
    return "\n\n".join(_table(result) for result in results.values())


def _table(result: Mapping[str, Any]) -> str:
    height, width, suffix, size = result["stored"]
    stages = ", ".join(f"{name} {median(ms):.3f}" for name, ms in result["stages_ms"].items())
    head = [
        f"{width} x {height} {suffix} of {size / 1e3:.1f} kB to {result['size']} x {result['size']}, batch "
        f"{result['batch_size']}; {', '.join(result['model'])} on {result['device']}, {result['cores']} cores",
        f"ms a picture in one thread: {stages}",
    ]
    rows = [["decoding threads", "images/s alone", "images/s beside the step", "ms a step", "waits for data"]]
    rows.append(["none: one batch again", "", "", _spread(result["step_ms"], ",.1f"), ""])
    for alone, beside in zip(result["alone"], result["beside"], strict=True):
        speeds = [_spread(column["images_per_s"], ",.0f") for column in (alone, beside)]
        costs = [_spread(beside["step_ms"], ",.1f"), _spread(beside["wait_share"], ".1%")]
        rows.append([str(alone["threads"]), *speeds, *costs])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    return "\n".join([*head, *(f"  {line}" for line in lines)])


def _spread(values: Sequence[float], form: str) -> str:
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


# ---- Command line


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac benchmark input",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
        epilog=f"Medians over the rounds, with the range in brackets. Images whose decoding takes less than "
        f"{1e3 * thread_pool.WORTHWHILE:g} ms are\ndecoded by one thread, whatever --threads is, because of the GIL.",
    )
    parser.add_argument("cases", nargs="*", metavar="SIZE", help=f"pixels: {', '.join(CASES)}; default: all")
    parser.add_argument("--rounds", default="5", metavar="N", help="default: 5")
    parser.add_argument("--steps", default="16", metavar="N", help="batches per round; default: 16")
    parser.add_argument("--pictures", default="256", metavar="N", help="number of files to generate; default: 256")
    parser.add_argument("--threads", metavar="N,N", help="decoding threads; default: 1, 2, 4, ... to all cores")
    parser.add_argument("--out", metavar="FILE.json", help="write all numbers to this file")
    args = parser.parse_args(argv)
    for name in args.cases:
        if name not in CASES:
            raise UserError(f"no case of size {name!r}{nearest(name, [*CASES])}")
    numbers = {k: options.parse_int(f"--{k}", getattr(args, k), 1) for k in ("rounds", "steps", "pictures")}
    threads = [options.parse_int("--threads", word, 1) for word in args.threads.split(",")] if args.threads else []
    if numbers["pictures"] < 20:
        raise UserError(f"--pictures={args.pictures}: at least 20, of which a tenth is held out")
    results = {name: measure(CASES[name], **numbers, threads=threads) for name in args.cases or CASES}
    print(table(results))
    if args.out:
        write_json(Path(args.out), results)
    return 0
