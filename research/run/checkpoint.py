"""Checkpoints by Orbax: saved asynchronously, verified on restore, onto any mesh.

Beside each state lie checksums of its leaves, which no sharding changes: a flipped bit, a truncated or missing file is found
on restore (Orbax alone restores flipped bits without a word), and the newest good step is used. Only the training that owns
the folder changes it: it renames a damaged step, a reader leaves it where it is.
"""

import contextlib
import json
import shutil
import threading
import time
import warnings
import zlib
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from research.core.mesh import path_name
from research.run import checksum, identity, integrity, manifest
from research.run.integrity import Damaged, read_errors
from research.run.saved_state import from_disk, to_disk
from research.util import run_files
from research.util.errors import UserError
from research.util.files import write_errors

DELETED = ".deleted"  # where steps go before their files are removed, so that no reader sees half of one
RETRIES = 20  # of a reader, each time the run that it reads has deleted the step


class NoWholeCheckpoint(UserError):
    """All checkpoints of a folder are damaged."""


class Checkpoints:
    """The checkpoints of one folder: `save`, `restore`, `steps`.

    The newest `keep` stay, and every step that `every` divides. Without `keep` it is for readers, which change nothing.
    Each step is saved with the `run`'s identity, by default that of the run directory around `folder`, and a step of another
    run is refused. Raises UserError if the folder is a link that leads out of the run directory.
    """

    def __init__(
        self,
        folder: str | Path,
        keep: int | None = None,
        every: int | None = None,
        run: identity.Identity | None = None,
    ):
        # Not at the top: what builds an experiment, or shows it, needs no Orbax. Not at the first save: the data's threads
        # import as well, and two threads that import may wait for each other.
        import orbax.checkpoint as ocp

        self._ocp, self.folder, self._reads = ocp, Path(folder).absolute(), keep is None
        run_files.inside(self.folder.parent, self.folder.name)
        self._run = run or identity.of_run(self.folder.parent)
        policies = ocp.checkpoint_managers
        stay = [policies.LatestN(keep), *([policies.EveryNSteps(every)] if every else [])]
        # A reader leaves half-written folders alone: they may be a running training's.
        self._options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(stay),
            cleanup_tmp_directories=not self._reads,
            todelete_subdir=None if self._reads else DELETED,
            create=False,
            # Several hosts meet at barriers, in threads: two folders saved at once must not meet at each other's.
            multiprocessing_options=ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=self.folder.name),
        )
        self._manager: Any = None
        self._sealer = threading.Thread()

    def _open(self) -> Any:
        if self._manager is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self._reads:
                self._remove_deleted()
            ocp, text = self._ocp, self._ocp.JsonCheckpointHandler
            handlers = {"state": ocp.StandardCheckpointHandler(), "meta": text(), "checksums": text()}
            self._manager = ocp.CheckpointManager(self.folder, options=self._options, item_handlers=handlers)
        return self._manager

    def steps(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        return sorted(self._open().all_steps())

    def save(self, step: int, state: Any, meta: dict) -> None:
        """Starts to save; raises what an earlier save met. Refuses a state that is not finite."""
        state = to_disk(state)
        sums, finite = map(_leaves, jax.device_get(integrity.inspect(state)))
        if broken := [name for name, ok in finite.items() if not ok]:
            raise UserError(f"step {step}: {broken[0]} is not finite; nothing was saved, the last checkpoint stands")
        run = {"run": self._run.run, "config": self._run.config} if self._run else {}
        text = json.dumps({**meta, identity.KEY: {"step": step, **run}})
        meta = json.loads(text)  # a copy: Orbax writes it later, in a thread
        checks = {
            "version": checksum.VERSION,
            "state": {name: value.tolist() for name, value in sums.items()},
            "meta": zlib.crc32(text.encode()),
        }
        kinds = self._ocp.args
        args = kinds.Composite(
            state=kinds.StandardSave(state), meta=kinds.JsonSave(meta), checksums=kinds.JsonSave(checks)
        )
        with write_errors(self.folder):
            manager = self._open()
            manager.check_for_errors()
            self._join()
            if step in manager.all_steps():
                manager.delete(step)  # a run that was killed after this save does the same step again
            manager.save(step, args=args, force=True)
        if jax.process_index() == 0:  # reads every file again: not in the run's time
            self._sealer = threading.Thread(target=self._seal, args=[manager], daemon=True)
            self._sealer.start()

    def wait(self) -> None:
        if self._manager is not None:
            with write_errors(self.folder):
                self._manager.wait_until_finished()
                self._manager.check_for_errors()
                self._join()

    def _join(self) -> None:
        if self._sealer.is_alive():
            self._sealer.join()

    def _seal(self, manager: Any) -> None:
        """Gives each whole step a manifest of its files."""
        while manager.is_saving_in_progress():  # or deleting
            time.sleep(0.02)
        self._remove_deleted()
        with contextlib.suppress(OSError):  # a disk that is full, or gone: the next save tells
            for folder in self.folder.iterdir():
                if folder.name.isdigit() and not manifest.exists(folder):
                    manifest.write(folder)

    def _remove_deleted(self) -> None:
        if jax.process_index() == 0:
            shutil.rmtree(self.folder / DELETED, ignore_errors=True)

    def close(self) -> None:
        if self._manager is not None:
            manager, self._manager = self._manager, None
            with write_errors(self.folder):
                manager.close()
            self._join()

    def restore(self, target: Any, step: int | None = None) -> tuple[Any, dict]:
        """The newest good checkpoint (or `step`) as `target`'s shapes, dtypes and shardings -> state, meta.

        Raises UserError if there is none or it belongs to another run, NoWholeCheckpoint if all are damaged. A damaged one
        is warned of, and renamed unless this is a reader.
        """
        damaged: dict[int, str] = {}
        for _ in range(RETRIES):
            for candidate in self._candidates(step, damaged):
                try:
                    self._first_host_finds(candidate)
                    return self.restore_one(candidate, target)
                except Damaged as e:
                    if self._reads and not (self.folder / str(candidate)).exists():
                        break  # the run that is read has deleted it since: look again
                    damaged[candidate] = str(e)
                    self._report(candidate, str(e))
            else:
                break
        raise NoWholeCheckpoint(self._none_whole(step, damaged))

    def _candidates(self, step: int | None, damaged: Container[int]) -> list[int]:
        if self._reads and self._manager is not None:
            self._manager.reload()
        steps = [s for s in self.steps() if step in (None, s)]
        if not steps and not damaged:
            raise UserError(
                f"{self.folder} holds no checkpoint{'' if step is None else f' of step {step}'}{self._half()}"
            )
        return [s for s in reversed(steps) if s not in damaged]

    def _half(self) -> str:
        """What to add where a step is being written, or was cut short."""
        half = [path.name for path in self.folder.glob("*.orbax-checkpoint-tmp*")] if self.folder.is_dir() else []
        return f"; {half[0].split('.')[0]} is being written, or was cut short" if half else ""

    def _none_whole(self, step: int | None, damaged: Mapping[int, str]) -> str:
        which = "no checkpoint is whole" if step is None else f"checkpoint {step} is damaged"
        words = "; ".join(f"{candidate}: {why}" for candidate, why in list(damaged.items())[:3])
        if self._reads:
            return f"{self.folder}: {which} ({words}); see `almanac checkpoint verify`"
        return f"{self.folder}: {which} ({words}); each was set aside as *.damaged, and a new start begins at 0"

    def restore_one(self, step: int, target: Any) -> tuple[Any, dict]:
        """As `restore` of one step, and raises Damaged if it is, changing nothing."""
        target = to_disk(target)
        if large := manifest.oversized(self.folder / str(step)):
            raise Damaged(large[0])
        manager, kinds = self._open(), self._ocp.args
        with read_errors():
            checks = manager.restore(step, args=kinds.Composite(checksums=kinds.JsonRestore()))["checksums"]
            saved = _leaves(manager.item_metadata(step)["state"])
        if (version := checks.get("version", 1)) not in (1, checksum.VERSION):
            raise UserError(f"{self.folder / str(step)}: its checksums are of version {version}; use a newer Almanac")
        if not checks.keys() >= {"state", "meta"} or checks["state"].keys() != saved.keys():
            raise Damaged("its metadata and its checksums name different leaves")
        if other := integrity.first_mismatch(saved, _leaves(target)):  # Orbax casts dtypes without a word
            raise UserError(f"{self.folder / str(step)} does not fit this model: {other}")
        with read_errors():
            args = kinds.Composite(state=kinds.StandardRestore(target), meta=kinds.JsonRestore())
            restored = manager.restore(step, args=args)
        sums = _leaves(jax.device_get(integrity.inspect(restored["state"], version)[0]))
        expected = _leaves(target)
        for name, leaf in _leaves(restored["state"]).items():
            if leaf.dtype != expected[name].dtype:  # a key that has lost its metadata is but words
                raise Damaged(f"{name} comes back as {leaf.dtype}, not {expected[name].dtype}")
            if checks["state"][name] != sums[name].tolist():
                raise Damaged(f"the checksum of {name} differs")
        meta = restored["meta"]
        if zlib.crc32(json.dumps(meta).encode()) != checks["meta"]:
            raise Damaged("the checksum of its metadata differs")
        if problem := identity.problem(meta.pop(identity.KEY, None), step, self._run):
            raise UserError(f"{self.folder / str(step)} does not belong here: {problem}; put it back, or remove it")
        return from_disk(restored["state"]), meta

    def _report(self, step: int, why: str) -> None:
        """Warns of a damaged step; the training that owns the folder renames it."""
        folder, aside = self.folder / str(step), ""
        self.close()
        if jax.process_index() == 0:
            files = manifest.problems(folder) if manifest.exists(folder) else []
            why += f" ({', '.join(files[:3])})" if files else ""
            aside = "" if self._reads else f"; set aside as {integrity.set_aside(folder).name}"
        multihost_utils.sync_global_devices(f"{step} is damaged")
        warnings.warn(f"checkpoint {folder} is damaged: {why}{aside}", stacklevel=2)

    def _first_host_finds(self, step: int) -> None:
        """Each of several hosts reads its part, and must not be alone to find it damaged: the first looks at all files."""
        if jax.process_count() > 1:
            folder = self.folder / str(step)
            damaged = jax.process_index() == 0 and manifest.exists(folder) and bool(manifest.problems(folder))
            if multihost_utils.broadcast_one_to_all(np.asarray(damaged)):
                raise Damaged("files have changed")


def _leaves(tree: Any) -> dict[str, Any]:
    return {path_name(p): x for p, x in jax.tree_util.tree_leaves_with_path(tree)}
