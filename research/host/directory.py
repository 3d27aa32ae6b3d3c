"""A run directory in the hands of one start: locked, checked against its config, and left as it was after a mistake."""

import shutil
from pathlib import Path
from typing import Any

from research.host import determinism, storage
from research.host.errors import UserError
from research.host.nested import differences
from research.host.records import read_json

RESUME = ("auto", "force")
# Keys that say where a run's arrays lie and when they are saved, not what they are: they may change.
FREE = ("mesh.", "rules:", "save_every:", "save_seconds:", "keep:", "keep_every:")


class Directory:
    """`folder` is where the run works: `workdir`, or the local spool of a URL.

    `fresh`: no run had been here. `changed`: none, or one of another config. A deterministic run goes on only where its
    `fingerprint` is the same. Of several processes one `writes`.
    """

    def __init__(self, workdir: str | Path, config: dict, resume: str, fingerprint: dict, writes: bool):
        if resume not in RESUME:
            raise UserError(f"--resume={resume}: 'auto' or 'force'")
        self.folder = storage.local(workdir)
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"cannot write to the run directory {self.folder}")
        self._writes = writes
        self._before = list(self.folder.iterdir()) if self.folder.exists() else []
        self._place = storage.Place(workdir, writes)
        self.check, self.push = self._place.check, self._place.push
        try:
            self.fresh, self.changed = self._compare(config, resume, fingerprint)
        except UserError:
            self._place.close(quiet=True)
            raise

    def _compare(self, config: dict, resume: str, fingerprint: dict) -> tuple[bool, bool]:
        path = self.folder / "config.json"
        if not path.exists():
            return True, True
        try:
            about = read_json(path)
            changed = differences(about["config"], config)
        except (OSError, ValueError, LookupError, TypeError) as e:
            raise UserError(f"cannot read {path}: {type(e).__name__}: {e}") from None
        if (other := [line for line in changed if not line.startswith(FREE)]) and resume != "force":
            more = f" (and {len(other) - 3} more)" if len(other) > 3 else ""
            raise UserError(
                f"{self.folder} holds a run of another config: {'; '.join(other[:3])}{more}. "
                "Give another --workdir, or --resume=force to go on with the new config"
            )
        if config.get("deterministic") and resume != "force":
            determinism.check(self.folder, about.get("fingerprint", {}), fingerprint)
        return False, bool(changed)

    def close(self, error: Any, mistake: bool) -> None:
        """Lets go. After a `mistake` of a fresh start, what has been written is taken back.

        An error that nobody foresaw, where the folder has vanished, is told so: Orbax has many words for it.
        """
        try:
            if isinstance(error, Exception) and not isinstance(error, UserError):
                self.check()
        finally:
            if mistake and self.fresh and self._writes:
                self._discard()
            self._place.close(quiet=error is not None)

    def _discard(self) -> None:
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path not in self._before and not path.name.startswith("."):  # the lock goes by itself
                shutil.rmtree(path) if path.is_dir() else path.unlink()
