import json
import math

import pytest

from research.util.errors import UserError
from tools.results import ledger
from tools.root import README, RESULTS_PAGE
from tools.verbs import reproduce, verify

ERRORS = (1.5, 1.25, 1.6)  # mean 1.45; squared deviations .0025 + .04 + .0225; sd sqrt(.0325)
LOG = {
    "valid/loss": [(1, 3.0), (2, 2.0), (3, 2.0), (4, float("nan"))],
    "test/error": [(1, 9.0), (2, 8.0), (4, 7.0)],
}


def test_selection():
    assert ledger.select(LOG, "test/error") == 7.0
    assert ledger.select(LOG, "test/error", "min:valid/loss") == 8.0  # the first of equals
    assert ledger.select(LOG, "test/error", "max:valid/loss") == 9.0  # a NaN is never the best
    assert ledger.select(LOG, "valid/loss", "min:valid/loss") == 2.0


@pytest.mark.parametrize(
    ("metric", "rule", "says"),
    [
        ("test/error", "min:test/error", "would choose on test data"),
        ("test/eror", "last", "did you mean 'test/error'"),
        ("test/error", "best", "is none of"),
        ("test/error", "min:valid/los", "did you mean 'valid/loss'"),
    ],
)
def test_selection_refuses(metric, rule, says):
    with pytest.raises(UserError, match=says):
        ledger.select(LOG, metric, rule)


def test_selected_step_must_have_the_metric():
    log = {"valid/loss": [(1, 3.0), (3, 2.0)], "test/error": [(1, 9.0)]}
    with pytest.raises(UserError, match="'test/error' is not logged at step 3"):
        ledger.select(log, "test/error", "min:valid/loss")


def test_summary_has_mean_sample_sd_and_every_seed():
    sd = math.sqrt((0.05**2 + 0.2**2 + 0.15**2) / 2)
    assert f"{sd:.2f}" == "0.18"
    assert ledger.summary(list(ERRORS), 2) == "1.45 ± 0.18 (3 seeds: 1.50, 1.25, 1.60)"
    assert ledger.summary(list(ERRORS), 2, brief=True) == "1.45 ± 0.18 (3 seeds)"
    assert ledger.summary([2.0], 1) == "2.0 (1 seed)"
    assert ledger.summary([], 1) == "-"


def test_a_later_key_that_is_none_is_the_same_experiment():
    then = {"seed": 1, "data": {"source": "a"}, "sample": {"top_k": None}}
    now = {"seed": 2, "data": {"source": "a", "carry": None}, "new": None, "reproduces": {"value": 1}, "sample": {}}
    assert ledger.same_experiment(then) == ledger.same_experiment(now) == {"data": {"source": "a"}, "sample": {}}
    model = {"model": {"norm": None}}
    assert ledger.same_experiment(model) == model  # upgrade would take an absent one for its first default
    assert ledger.same_experiment({"data": {"source": "a", "carry": True}}) != ledger.same_experiment(
        {"data": {"source": "a"}}
    )


def test_verdict_is_two_sided_and_counts_seeds():
    target = {"value": 1.5, "low": 1.4, "high": 1.6, "seeds": 3}
    assert ledger.verdict(target, [1.2, 1.5, 1.5]) == "met"  # mean on the lower bound
    assert ledger.verdict(target, [1.0, 1.0, 1.0]) == "MISSED"
    assert ledger.verdict(target, [1.7, 1.7, 1.7]) == "MISSED"
    assert ledger.verdict(target, [math.nan] * 3) == "MISSED"
    assert ledger.verdict(target, [1.5, 1.5]) == "2 of 3 seeds run"
    assert ledger.verdict(target, []) == "not yet run"


def test_where_nothing_is_published_ours_is_measured_and_not_judged(done):
    for key in ("value", "low", "high"):
        del done.target[key]
    stated = ledger.stated(ledger.configs())
    row = ledger.table(done.root, stated, ledger.Block(done.readme, "toy")).splitlines()[2]
    assert row.split(" | ")[2:5] == ["-", "1.4500 ± 0.1803 (3 seeds: 1.5000, 1.2500, 1.6000)", "measured"]
    done.target["low"] = 1.4
    with pytest.raises(UserError, match="reproduces lacks high, value"):
        ledger.targets("toy/x", {"reproduces": done.target})


def test_decimals():
    assert ledger.decimals({"value": 1.88, "low": 1.9, "high": 2}) == 3
    assert ledger.decimals({"value": 20, "low": 0, "high": 30}) == 1
    assert ledger.decimals({"value": 3.5e-5, "low": 0.0, "high": 0.001}) == 7


def test_targets_are_checked(house):
    say = lambda **change: ledger.targets("toy/x", {"reproduces": house.target | change})  # noqa: E731
    assert ledger.targets("toy/x", {"reproduces": None}) == []
    assert say(note=None) == [house.target]
    assert len(ledger.targets("toy/x", {"reproduces": (house.target, house.target)})) == 2
    with pytest.raises(UserError, match="toy/x: reproduces lacks paper"):
        say(paper=None)
    with pytest.raises(UserError, match=r"reproduces.valeu is unknown; did you mean 'value'"):
        say(valeu=1)
    with pytest.raises(UserError, match="low 2 is above its high 1.6"):
        say(low=2)


def train(make_run, config):
    """A trainer whose seed k ends with test/error ERRORS[k]."""

    def run(name, overrides, workdir):
        seed = int(overrides[0].removeprefix("seed="))
        log = [(1, "test", {"error": 5.0}), (2, "test", {"error": ERRORS[seed]})]
        make_run(workdir, log, config=config | {"seed": seed})

    return run


@pytest.fixture
def done(house, make_run, tmp_path):
    """A house whose one experiment has been reproduced."""
    run = train(make_run, house.configs["toy/small"])
    reproduce.reproduce("toy/small", workdir=tmp_path / "runs", train=run, root=house.root)
    return house


def test_table(done):
    row = next(line for line in done.readme.read_text().splitlines() if line.startswith("| [toy"))
    assert row.split(" | ") == [
        "| [toy/small](results/small)",
        "Doe 2020, Table 1: test/error",
        "1.5",
        "1.45 ± 0.18 (3 seeds: 1.50, 1.25, 1.60)",
        "met (1.4 to 1.6)",
        "1,234",
        "1 min on 1 core (took 1 min 30 s a seed)",
        "`almanac reproduce toy/small` |",
    ]
    page = (done.root / RESULTS_PAGE).read_text()
    assert "[toy/small](../experiments/toy/results/small)" in page
    assert page.startswith("# Title\n\n<!-- ledger -->\n|") and page.endswith("ledger -->\n\nThe end.\n")


def test_the_readme_has_the_published_numbers_that_were_run_in_five_columns(done):
    says = (done.root / README).read_text().splitlines()
    assert says[2:6] == [
        "<!-- ledger -->",
        "| experiment | paper, metric | published | ours, mean ± sd | within tolerance? |",
        "| --- | --- | --- | --- | --- |",
        "| [toy/small](experiments/toy/results/small) | Doe 2020, Table 1: test/error | 1.5 "
        "| 1.45 ± 0.18 (3 seeds) | met (1.4 to 1.6) |",
    ]
    assert says[6] == "<!-- /ledger -->"
    brief = ledger.Block(done.root / README, brief=True)
    for key, value in (("seeds", 4), ("value", None)):  # a seed is not yet run; nothing was published
        target = {k: v for k, v in (done.target | {key: value}).items() if v is not None}
        assert ledger.table(done.root, {"toy/small": [target]}, brief) == "No published number has been repeated yet."
    done.target |= {"low": 2, "high": 3}  # a number that was missed stays
    assert "| MISSED (2 to 3) |" in ledger.table(done.root, {"toy/small": [done.target]}, brief)


def test_best_on_test_and_notes_are_told_but_not_judged(done):
    done.target |= {"best_on_test": "max", "note": "best | worst"}
    known = ledger.configs()
    text = ledger.table(done.root, ledger.stated(known), ledger.Block(done.readme, "toy"))
    assert "1.60); best on test 5.00 | met" in text
    assert text.endswith("\n\n- toy/small, test/error: best \\| worst")


def test_agreement(done):
    assert verify.problems(done.root) == []


def test_not_yet_run(house):
    assert any("row 'toy/small test/error' is missing" in text for text in verify.problems(house.root))
    ledger.refresh(house.root, house.configs, {None, "toy"})
    assert verify.problems(house.root) == []
    assert "| - | not yet run | - |" in house.readme.read_text()


def test_changed_digit_in_a_table(done):
    done.readme.write_text(done.readme.read_text().replace("1.45 ±", "1.46 ±"))
    (problem,) = verify.problems(done.root)
    assert problem.startswith("experiments/toy/README.md: toy/small test/error, ours")
    assert "says '1.46 ±" in problem and "say '1.45 ±" in problem


def test_removed_and_invented_rows(done):
    lines = done.readme.read_text().splitlines(keepends=True)
    row = next(line for line in lines if line.startswith("| [toy"))
    done.readme.write_text("".join(lines).replace(row, row.replace("toy/small", "toy/huge")))
    assert [text.partition(": ")[2] for text in verify.problems(done.root)] == [
        "row 'toy/small test/error' is missing",
        "row 'toy/huge test/error' has no config or log behind it",
    ]


def test_changed_log(done):
    log = done.results / "seed_1.jsonl"
    log.write_text(log.read_text().replace("1.25", "1.55"))
    found = "\n".join(verify.problems(done.root))
    assert "seed_1.jsonl is not the file that run.json has the checksum of" in found
    assert "1.55 ± 0.05 (3 seeds: 1.50, 1.55, 1.60)" in found
    assert found.count("1.55 ± 0.05") == 3  # docs/results.md and the family's, and README.md


def test_change_that_no_table_shows(done):
    log = done.results / "seed_1.jsonl"
    log.write_text(log.read_text().replace("5.0", "4.0"))
    assert [text.partition(": ")[2] for text in verify.problems(done.root)] == [
        "seed_1.jsonl is not the file that run.json has the checksum of"
    ]


@pytest.mark.parametrize(
    "text, fault",
    [
        ("{", "not JSON"),
        ("[]", "wanted an object, not []"),
        ("{}", "'config' is missing"),
        ('{"config": {}, "seeds": 3}', "'seeds': wanted a list"),
        ('{"config": {}, "seeds": [{}]}', "'seeds': wanted a list"),
        ('{"config": {}, "seeds": [{"sha256": "", "seconds": NaN}]}', "'seeds': wanted a list"),
        ('{"config": {}, "seeds": [], "parameters": "many"}', "'parameters': wanted a whole number from 0 or null"),
        ("[" * 100_000, "nested deeper"),
    ],
    ids=range(8),
)
def test_a_run_json_that_is_none_is_named(done, text, fault):
    (done.results / "run.json").write_text(text)
    found = verify.problems(done.root)
    assert found and all(f"run.json: {fault}" in problem for problem in found)


def test_a_log_that_cannot_be_read_is_named_with_its_line(done):
    log = done.results / "seed_1.jsonl"
    log.write_text('{"step": 1, "split": "test", "values": {"error": 1}}\nnonsense\n[]\n')
    found = verify.problems(done.root)
    assert any("seed_1.jsonl is not the file that run.json has the checksum of" in problem for problem in found)
    assert any(
        "seed_1.jsonl, line 2: not JSON" in problem and "line 3: wanted an object" in problem for problem in found
    )


def test_a_log_that_leads_out_is_named(done, tmp_path):
    log = done.results / "seed_1.jsonl"
    log.rename(tmp_path / "other")
    log.symlink_to(tmp_path / "other")
    assert all("seed_1.jsonl: a link that leads out" in problem for problem in verify.problems(done.root))


def test_missing_and_extra_logs(done):
    (done.results / "seed_1.jsonl").rename(done.results / "seed_7.jsonl")
    found = "\n".join(verify.problems(done.root))
    assert "seed_1.jsonl is missing" in found and "seed_7.jsonl is not in run.json" in found


def test_config_changed_since(done):
    done.configs["toy/small"] = done.configs["toy/small"] | {"seed": 9, "optim": {"peak_lr": 0.3}}
    assert [text.partition(": ")[2] for text in verify.problems(done.root)] == [
        "optim.peak_lr is 0.3 in the config, 0.1 in the logged runs"
    ]


def test_logs_without_a_config(done):
    (done.root / "experiments" / "toy" / "results" / "gone").mkdir()
    assert verify.problems(done.root) == ["experiments/toy/results/gone: holds logs of a config that no longer exists"]


@pytest.mark.parametrize("text", ["", "{end}", "{begin}", "{end} {begin}", "{begin} {begin} {end}"])
def test_missing_marker(done, text):
    done.readme.write_text(text.format(begin=ledger.BEGIN, end=ledger.END))
    (problem,) = verify.problems(done.root)
    assert "experiments/toy/README.md: wants one line <!-- ledger -->" in problem


def test_main_exits_1_naming_the_difference_and_mends_words(done, monkeypatch, capsys):
    monkeypatch.setattr(verify, "ROOT", done.root)
    assert verify.main([]) == 0
    done.target["cost"] = "2 min"
    assert verify.main([]) == 1
    assert "toy/small test/error, cost: says '1 min on 1 core" in capsys.readouterr().err
    assert verify.main(["--write"]) == 0
    assert "| 2 min (took" in done.readme.read_text()


def test_run_json(done):
    run = json.loads((done.results / "run.json").read_text())
    assert run["parameters"] == 1234 and run["commit"] == "abc1234"
    assert run["machine"]["devices"] == "1 x cpu" and run["machine"]["cores"] >= 1
    assert [seed["seconds"] for seed in run["seeds"]] == [90.0] * 3
    assert run["config"] == {"optim": {"peak_lr": 0.1}}
