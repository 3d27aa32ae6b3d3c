"""A small house on disk, with documents and configs, and run directories as training leaves them."""

import json
import shutil
from pathlib import Path

import pytest

from tools import cli
from tools.results import ledger
from tools.root import README, RESULTS_PAGE

TEXT = "the quick brown fox jumps over the lazy dog\n" * 60


def jsonl(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def make_run():
    """make_run(path, logged, **config.json) with logged = [(step, split, values), ...]."""

    def make(path: Path, logged, name="toy/small", config=None, **more) -> Path:
        path.mkdir(parents=True, exist_ok=True)
        about = {
            "name": name,
            "config": config or {"seed": 0, "optim": {"peak_lr": 0.1}},
            "versions": {"jax": "0.10.2"},
            "commit": "abc1234",
            "devices": "1 x cpu",
            "parameters": 1234,
        }
        (path / "config.json").write_text(json.dumps(about | more))
        keys = ("step", "split", "values")
        jsonl(path / "metrics.jsonl", [dict(zip(keys, row, strict=True)) for row in logged])
        jsonl(path / "timing.jsonl", [{"step": 10, "seconds": 90.0, "examples_per_s": 20.0}])
        return path

    return make


class House:
    """`root` with markers in its documents; `configs` is what the ledger finds."""

    def __init__(self, root: Path):
        self.root, self.results = root, root / "experiments" / "toy" / "results" / "small"
        self.readme = root / "experiments" / "toy" / "README.md"
        self.target = {
            "paper": "Doe 2020",
            "table": "Table 1",
            "metric": "test/error",
            "value": 1.5,
            "low": 1.4,
            "high": 1.6,
            "seeds": 3,
            "cost": "1 min on 1 core",
        }
        config = {"seed": 0, "optim": {"peak_lr": 0.1}, "reproduces": self.target}
        self.configs = {"toy/small": config, "toy/tiny": {"seed": 0, "reproduces": None}}
        for path in (self.readme, root / README, root / RESULTS_PAGE):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"# Title\n\n{ledger.BEGIN}\n{ledger.END}\n\nThe end.\n")


@pytest.fixture
def house(tmp_path, monkeypatch):
    made = House(tmp_path / "house")
    monkeypatch.setattr(ledger, "configs", lambda: made.configs)
    return made


@pytest.fixture(scope="session")
def train():
    """train(folder, text) -> status: twelve steps of a small language model, split over eight devices."""

    def run(folder: Path, text: Path) -> int:
        changes = [
            "rules=fsdp",
            "data.source=files",
            f"data.path={text}",
            "best.metric=valid/loss",
            "model.num_layers=1",
        ]
        return cli.main(["train", "language_model/tiny", f"--workdir={folder}", *(f"--config.{c}" for c in changes)])

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory, train):
    """A finished run with checkpoints 6, 9 and 12 and a best one, each with its manifest; `text.txt` beside it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT)
    assert train(folder / "run", folder / "text.txt") == 0
    return folder / "run"


@pytest.fixture
def run(trained, tmp_path):
    """A copy to injure."""
    return Path(shutil.copytree(trained, tmp_path / "run"))
