"""A run directory in the hands of one start: locked, checked against its config, and left as it was after a mistake."""

import contextlib
import shutil
from pathlib import Path
from typing import Any

from research.cluster import determinism
from research.core import upgrade
from research.run import attempts, identity, object_store, sources
from research.util import run_files
from research.util.errors import UserError
from research.util.files import write_json
from research.util.nested import differences

RESUME = ("auto", "force")


class Directory:
    """`folder` is where the run works: `workdir`, or the local spool of a URL.

    `before` is its config.json, empty if no run had been here (`fresh`); `changed` are lines on how the config differs from it,
    `edited` the source files that do. `run` identifies the run. A deterministic run resumes only with the same `fingerprint`
    and the same code. Of several processes one `writes`.
    """

    def __init__(self, workdir: str | Path, config: dict, resume: str, fingerprint: dict, writes: bool):
        if resume not in RESUME:
            raise UserError(f"--resume={resume}: 'auto' or 'force'")
        self.folder = object_store.local(workdir)
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"cannot write to the run directory {self.folder}")
        self._writes = writes
        self._contents = list(self.folder.iterdir()) if self.folder.exists() else []
        self._place = object_store.Place(workdir, writes)
        self.check, self.push = self._place.check, self._place.push
        self.sources = sources.imported()
        try:
            self.before = self._read()
            self.changed = self._compare(config, resume)
            self.edited = sources.edited(self.before.get("sources", {}), self.sources)
            if config.get("deterministic") and resume != "force" and self.before:
                determinism.check(self.folder, self.before.get("fingerprint", {}), fingerprint)
                self._check_sources()
        except UserError:
            self._place.close(quiet=True)
            raise
        self.fresh = not self.before
        self.run = attempts.identify(self.before, config)

    def _read(self) -> dict:
        path = run_files.inside(self.folder, "config.json")
        return run_files.read_object(path, run_files.CONFIG) if path.exists() else {}

    def _compare(self, config: dict, resume: str) -> list[str]:
        if not self.before:
            return []
        changed = differences(upgrade.of_file(self.before), config)
        other = [line for line in changed if line.split(":")[0].split(".")[0] not in identity.FREE]
        if other and resume != "force":
            more = f" (and {len(other) - 3} more)" if len(other) > 3 else ""
            raise UserError(
                f"{self.folder} holds a run of another config: {'; '.join(other[:3])}{more}. "
                "Give another --workdir, or --resume=force to go on with the new config"
            )
        return changed

    def _check_sources(self) -> None:
        if self.edited:
            raise UserError(
                f"{self.folder} is deterministic, and its code has changed: {attempts.few(self.edited)}. Resume it with the code "
                f"of commit {self.before.get('commit', '-')}, or with --resume=force"
            )

    def close(self, error: Any, mistake: bool) -> None:
        """Lets go. After a `mistake`, what the start has written is taken back.

        An error that nobody foresaw, where the folder has vanished, is told so: Orbax has many words for it.
        """
        try:
            if isinstance(error, Exception) and not isinstance(error, UserError):
                self.check()
        finally:
            if mistake and self._writes:
                self._discard() if self.fresh else self._put_back()
            self._place.close(quiet=error is not None)

    def _discard(self) -> None:
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path not in self._contents and not path.name.startswith("."):  # the lock goes by itself
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _put_back(self) -> None:
        """config.json as it was: the attempt has trained nothing."""
        with contextlib.suppress(UserError, OSError):  # the mistake itself is what matters
            write_json(self.folder / "config.json", self.before)
