"""What this process runs on: devices, versions, the compilation cache."""

import contextlib
import functools
import importlib.metadata
import os
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.extend.backend
from jax.sharding import Mesh

from research.util import home
from research.util.errors import UserError

PACKAGES = ("almanac", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
ROOT = Path(__file__).resolve().parents[2]
CODE = ("research/*.py", "experiments/*.py", "tools/*.py")
MAX_STEPS_IN_FLIGHT = 4  # launches: steps, where each is launched by itself
_cache_events: Counter = Counter()


def choose(platform: str | None) -> None:
    """Runs on 'cpu', 'gpu' or 'tpu' (None: whatever JAX finds); an absent one is an error. Before the first use of JAX."""
    if platform is None:
        _leave_tpu_out()
        return
    if platform not in ("cpu", "gpu", "tpu"):
        raise UserError(f"--device={platform}: one of cpu, gpu, tpu")
    # GPU is asked for by its vendor's name: JAX would else fail for a missing ROCm on a CUDA machine, and say so.
    jax.config.update("jax_platforms", {"gpu": "cuda"}.get(platform, platform))
    try:
        found = jax.devices()[0].platform
        reason = f"JAX already runs on {found}" if found != platform else ""
    except (RuntimeError, AssertionError) as e:  # an assertion where the platform's plugin is not installed
        found, reason = "cpu", next(iter(str(e).splitlines()), "JAX has no plugin for it")
    if reason:
        jax.config.update("jax_platforms", found)
        remedy = {"gpu": "; install the extra [cuda]", "tpu": "; install the extra [tpu]"}.get(platform, "")
        raise UserError(f"--device={platform}: no such device here ({reason}){remedy}, or leave --device away")


def _leave_tpu_out() -> None:
    """Where nobody has named a platform, and JAX has seen no TPU, it does not try one.

    An installed libtpu would be loaded only to find none, in a second and with pages on stderr, and would stay: see
    `Profiler`. JAX itself names `tpu,cpu`, when it is imported, on a machine that has a TPU and libtpu.
    """

    def absent() -> Any:
        raise RuntimeError("no TPU on this machine")

    if jax.config.jax_platforms is None:
        with contextlib.suppress(RuntimeError):  # JAX already runs on a TPU
            jax.extend.backend.register_backend_factory("tpu", absent, fail_quietly=True)


def use_compilation_cache() -> None:
    """Compiled programs are kept from run to run, in JAX_COMPILATION_CACHE_DIR or the user's cache folder ("" is off)."""
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if folder is None:
        jax.config.update("jax_compilation_cache_dir", str(home.cache_folder() / "almanac" / "jit"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    _listen()


@functools.cache
def _listen() -> None:
    jax.monitoring.register_event_listener(lambda name, **_: _cache_events.update([name]))
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **_: _cache_events.update({name: seconds})  # type: ignore[dict-item]
    )


def compiled_so_far() -> Counter:
    """What this process has compiled until now: a mark for `cache_report` to count from."""
    return _cache_events.copy()


def cache_report(since: Counter | None = None) -> str:
    """One line: seconds spent compiling, those of two threads added up, and the cache's hits and misses.

    Counted from `since`, or from when the process first used the compilation cache.
    """
    events = {name: value - (since or Counter())[name] for name, value in _cache_events.copy().items()}
    seconds = events.get("/jax/core/compile/backend_compile_duration", 0)
    hits, misses = (events.get(f"/jax/compilation_cache/cache_{kind}", 0) for kind in ("hits", "misses"))
    return f"first step done; {seconds:.1f} s of compiling (compilation cache: {hits} hits, {misses} misses)"


def throttle(steps: Sequence[tuple[int, Any]]) -> None:
    """Starts the copy of the newest of (step, metrics) to the host; waits until those MAX_STEPS_IN_FLIGHT before are computed.

    The device always has steps to go on with. Left alone the host would be 32 steps before it (JAX 0.10 on CPUs), and a
    SIGTERM, or a value that is not finite, would wait for them all.
    """
    for leaf in jax.tree.leaves(steps[-1][1]):
        leaf.copy_to_host_async()
    if len(steps) > MAX_STEPS_IN_FLIGHT:
        jax.block_until_ready(steps[-1 - MAX_STEPS_IN_FLIGHT][1])


def describe(mesh: Mesh) -> str:
    """`8 x cpu, mesh data 4 x model 2`."""
    kind = mesh.devices.flat[0].device_kind
    shape = " x ".join(f"{name} {size}" for name, size in mesh.shape.items() if size > 1)
    return f"{mesh.size} x {kind}" + (f", mesh {shape}" if shape else "")


def versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "-"
    return found


def commit(root: Path = ROOT) -> str:
    """The project's commit, with + if it does not hold the code: files changed since, or code that git does not track.

    $ALMANAC_COMMIT where it is set, for copies of which git does not know this; outside a checkout without it "-".
    """
    if named := os.environ.get("ALMANAC_COMMIT"):
        return named
    try:
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
        untracked = _git(root, "ls-files", "--others", "--exclude-standard", "--", *CODE)
        return head + ("+" if changed or untracked else "")
    except (OSError, subprocess.SubprocessError):
        return "-"


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def _libtpu_is_loaded() -> bool:
    from jax._src.lib import xla_client  # there is no public way to ask

    return xla_client.pjrt_plugin_loaded("tpu")


class Profiler:
    """A trace for TensorBoard of steps `span[0]` to `span[1]` of this start; none without a span.

    A libtpu that a process has loaded adds its own tracer to JAX's. Where jaxlib was built for another version of it, that
    ends the process by a segmentation fault ("Unexpected PLUGIN_Profiler_Api size"; jaxlib 0.10.2 with libtpu 0.0.52).
    """

    def __init__(self, folder: Path, span: tuple[int, int] | None):
        self._folder = folder
        self._first, self._last = span or (None, None)
        self._on = False

    def cuts(self, first: int) -> list[int]:
        """The steps, of a start at step `first`, before which a trace begins or ends."""
        return [] if self._first is None else [first + self._first, first + self._last]

    def check(self, left: int) -> None:
        if self._first is not None and self._first >= left:
            raise UserError(f"--profile={self._first}:{self._last}: there are but {left} steps to go")
        if self._first is not None and jax.default_backend() != "tpu" and _libtpu_is_loaded():
            raise UserError(
                f"--profile={self._first}:{self._last}: this process has loaded libtpu, with which JAX's profiler may crash; "
                f"start with JAX_PLATFORMS={jax.default_backend()}, or uninstall libtpu"
            )

    def at(self, step: int) -> None:
        if step == self._first:
            jax.profiler.start_trace(str(self._folder))
            self._on = True
        if step == self._last:
            self.close()

    def close(self) -> None:
        if self._on:
            jax.profiler.stop_trace()
            self._on = False
