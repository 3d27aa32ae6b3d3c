import json

import pytest

from research.util.errors import UserError
from tools.results import ledger
from tools.verbs import reproduce


class Trainer:
    """Logs test/error 1.5 for every seed; a seed in `dies` is killed, once, before it ends."""

    def __init__(self, make_run, dies=()):
        self.make_run, self.dies, self.calls = make_run, set(dies), []

    def __call__(self, name, overrides, workdir):
        self.calls.append((name, tuple(overrides), workdir.name))
        seed = int(overrides[0].removeprefix("seed="))
        ends = seed not in self.dies
        log = [(1, "test", {"error": 4.0}), (2, "test", {"error": 1.5})]
        self.make_run(workdir, log[: 2 if ends else 1])
        if not ends:
            self.dies.remove(seed)
            raise SystemExit(75)


def files(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_resumes_where_it_was_preempted(house, make_run, tmp_path):
    train = Trainer(make_run, dies=[1])
    go = lambda: reproduce.reproduce("toy/small", None, tmp_path / "w", train, house.root)  # noqa: E731
    with pytest.raises(SystemExit):
        go()
    assert not house.results.exists()
    (said,) = go()
    seeds = [overrides[0] for _, overrides, _ in train.calls]
    assert seeds == ["seed=0", "seed=1", "seed=1", "seed=2"]
    assert {folder for *_, folder in train.calls} == {"seed_0", "seed_1", "seed_2"}
    assert said.startswith("met: test/error 1.50 ± 0.00 (3 seeds: 1.50, 1.50, 1.50); published 1.5")

    before = files(house.root)
    go()
    assert len(train.calls) == 4  # nothing is trained again
    assert files(house.root) == before  # and nothing changes


def test_fewer_seeds_replace_the_results(house, make_run, tmp_path):
    train = Trainer(make_run)
    reproduce.reproduce("toy/small", 3, tmp_path / "w", train, house.root)
    (said,) = reproduce.reproduce("toy/small", 1, tmp_path / "w", train, house.root)
    assert said.startswith("1 of 3 seeds run")
    assert sorted(path.name for path in house.results.iterdir()) == ["run.json", "seed_0.jsonl"]


def test_run_of_another_config_is_refused(house, make_run, tmp_path):
    train = Trainer(make_run)
    reproduce.reproduce("toy/small", 1, tmp_path / "w", train, house.root)
    house.configs["toy/small"]["optim"]["peak_lr"] = 0.2
    with pytest.raises(UserError, match=r"seed_0 began with optim.peak_lr = 0.1.*now says 0.2"):
        reproduce.reproduce("toy/small", 1, tmp_path / "w", train, house.root)
    make_run(tmp_path / "other" / "seed_0", [])
    with pytest.raises(UserError, match="did not start"):
        reproduce.reproduce("toy/small", 1, tmp_path / "other", train, house.root)


def test_mistakes_are_told_before_training(house, make_run, tmp_path):
    train = Trainer(make_run)
    go = lambda name: reproduce.reproduce(name, 1, tmp_path / "w", train, house.root)  # noqa: E731
    with pytest.raises(UserError, match="no experiment 'toy/smal'; did you mean 'toy/small'"):
        go("toy/smal")
    with pytest.raises(UserError, match="toy/tiny states no published number"):
        go("toy/tiny")
    house.readme.write_text("no markers")
    with pytest.raises(UserError, match="README.md: wants one line <!-- ledger -->"):
        go("toy/small")
    assert train.calls == []


def test_exit_status_tells_a_miss(monkeypatch, capsys):
    for said, status in (["met: x"], 0), (["met: x", "MISSED: y"], 1):
        monkeypatch.setattr(reproduce, "reproduce", lambda *_, said=said, **__: said)
        assert reproduce.main(["toy/small"]) == status
    with pytest.raises(UserError, match="--seeds 0: give 1 or more"):
        reproduce.main(["toy/small", "--seeds", "0"])


def test_steps_per_launch_is_passed_on_and_named(house, make_run, tmp_path):
    seen = []

    def train(name, overrides, workdir):
        seen.append(overrides)
        Trainer(make_run)(name, overrides, workdir)
        about = json.loads((workdir / "config.json").read_text())
        about["config"]["steps_per_launch"] = 50  # as a run writes it
        (workdir / "config.json").write_text(json.dumps(about))

    reproduce.reproduce("toy/small", 2, tmp_path / "w", train, house.root, steps_per_launch=50)
    assert seen == [["seed=0", "steps_per_launch=50"], ["seed=1", "steps_per_launch=50"]]
    run = json.loads((house.results / "run.json").read_text())
    assert [seed["steps_per_launch"] for seed in run["seeds"]] == [50, 50]
    assert ledger.same_experiment({"a": 1, "steps_per_launch": 50}) == ledger.same_experiment({"a": 1}) == {"a": 1}
