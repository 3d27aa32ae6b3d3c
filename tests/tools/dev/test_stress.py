"""`almanac stress` in small: real processes killed, real files corrupted; and that faults would be noticed."""

import itertools
import json
import random
import shutil

import jax
import numpy as np
import pytest

from research.core import mesh
from research.data.buckets import Bucketed, Ragged
from research.data.pipeline import Arrays, TrainBatches
from research.util.errors import UserError
from tools.dev import stress
from tools.dev.stress_cases import stress_child, stress_damage, stress_elastic, stress_flat, stress_kills
from tools.dev.stress_cases.stress_process import families
from tools.results import stress_table
from tools.root import RELIABILITY_PAGE

FAMILY = "gan"  # the quickest


# ---- Kills


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills")
    return folder / FAMILY, stress_kills.measure([FAMILY], 2, 1, folder)


def test_a_run_that_was_killed_equals_the_uninterrupted_one(killed):
    _, found = killed
    assert stress_kills.faults(found) == []
    assert len(found["cases"]) >= 2 and all(case["died"] in stress_kills.PHASES for case in found["cases"])
    assert (
        found["cases"][-1]["died"] in ("start", "end") or found["cases"][-1]["step"] >= found["cases"][-1]["kept"] - 1
    )
    assert stress_table.ROWS["kills"](found)[1].startswith(f"{len(found['cases'])} kills in 1 runs of 1 families")


def test_a_run_that_differs_is_noticed(killed, tmp_path):
    whole = killed[0] / "whole"
    shutil.copytree(whole, tmp_path / "log")
    log = tmp_path / "log" / "metrics.jsonl"
    log.write_text(log.read_text() + log.read_text().splitlines()[-1] + "\n")
    assert stress_kills.compare(whole, tmp_path / "log") == ["metrics.jsonl differs"]
    shutil.copytree(whole, tmp_path / "state")
    shutil.rmtree(tmp_path / "state" / "checkpoints" / str(stress_kills.STEPS))
    found = stress_kills.compare(whole, tmp_path / "state")
    assert "step of the last state differs" in found and "key of the last state differs" not in found


def test_each_phase_is_drawn_and_the_end_comes_last():
    for seed in range(20):
        phases = stress_kills._draw_phases(random.Random(seed), 100)
        assert set(phases) == set(stress_kills.PHASES) and phases.index("end") == len(phases) - 1
    assert (
        stress_kills._draw_phases(random.Random(0), 2)[1:] == stress_kills._draw_phases(random.Random(0), 1) == ["end"]
    )


# ---- Damage


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return stress_damage.IntactCheckpoints(FAMILY, tmp_path_factory.mktemp("damage") / FAMILY)


def corrupt(good, tmp_path, name, kind, seed=0):
    with stress_damage._quiet(tmp_path / "orbax.log"):
        return good.corrupt(name, kind, random.Random(seed))


@pytest.mark.parametrize("kind", stress_damage.CORRUPTIONS)
def test_a_corruption_is_detected_and_the_checkpoint_before_used(good, tmp_path, kind, capfd):
    case = corrupt(good, tmp_path, "checksums/metadata", kind)
    assert case["outcome"] == "found" and case["offline"]
    assert capfd.readouterr().err == ""


def test_a_file_that_nothing_reads_is_harmless(good, tmp_path):
    case = corrupt(good, tmp_path, "commit_success.txt", "delete")
    assert case["outcome"] == "harmless" and case["offline"]


def test_what_was_restored_wrong_is_noticed(good, tmp_path, monkeypatch):
    monkeypatch.setattr(
        good, "_expected", good._expected | {stress_damage.NEWEST: good._expected[stress_damage.BEFORE]}
    )
    assert corrupt(good, tmp_path, "commit_success.txt", "delete")["outcome"] == "wrong"
    monkeypatch.setattr(good, "_expected", {})
    assert corrupt(good, tmp_path, "checksums/metadata", "empty")["outcome"] == "wrong"


@pytest.mark.parametrize("kind", stress_damage.CORRUPTIONS)
def test_a_corruption_changes_its_file(tmp_path, kind):
    for seed in range(50):
        path, other = tmp_path / "file", tmp_path / "other"
        path.write_bytes(before := bytes(3000) + b"\1" + bytes(3000))
        other.write_bytes(b"else")
        assert stress_damage.CORRUPTIONS[kind](path, random.Random(seed), [other]) is not None
        assert not path.exists() or path.read_bytes() != before


@pytest.mark.parametrize("kind", ["bit", "truncate", "empty", "zeros"])
def test_a_corruption_that_would_change_nothing_is_none(tmp_path, kind):
    (tmp_path / "file").touch()
    assert stress_damage.CORRUPTIONS[kind](tmp_path / "file", random.Random(0), []) is None


# ---- Other devices


def test_every_ordered_pair_is_walked():
    can = {"a": list(stress_elastic.PLANS[:4]), "b": list(stress_elastic.PLANS)}
    found = list(stress_elastic.walks(can))
    pairs = {pair for _, plans in found for pair in itertools.pairwise(plans)}
    assert pairs == set(itertools.permutations(stress_elastic.PLANS, 2))
    assert all(set(plans) <= set(can[family]) and 2 <= len(plans) <= 6 for family, plans in found)
    sizes = [[plan.data * plan.model for plan in plans] for _, plans in found]
    assert [8, 4, 2, 1, 8] in [some[:5] for some in sizes]


def stream(batch_size=8, n=20):
    return TrainBatches(Arrays({"x": np.arange(n, dtype=np.float32)}), batch_size, 0)


def test_rows_are_the_same_on_any_mesh():
    batch = stream().batch(0)
    found = []
    for axes in ({"data": 1, "model": 1}, {"data": 8, "model": 1}, {"data": 2, "model": 4}):
        grid = mesh.make_mesh(axes, jax.devices()[: axes["data"] * axes["model"]])
        found.append(stress_child.rows(mesh.to_device(batch, grid, 8)))
    assert found[0] == found[1] == found[2] and len(set(found[0].values())) == 8


def test_an_example_that_is_missed_or_doubled_is_noticed(monkeypatch):
    monkeypatch.setattr(stress_elastic, "STEPS", 3)
    one = mesh.make_mesh({"data": 1, "model": 1}, jax.devices()[:1])
    seen = {k: stress_child.rows(mesh.to_device(stream().batch(k), one, 8)) for k in range(3)}
    assert stress_elastic.wrong_examples(seen, stream()) == []
    twice = {**seen, 1: {**seen[1], 4: seen[1][5]}}
    assert stress_elastic.wrong_examples(twice, stream()) == [
        "step 1: 1 rows differ", "an example of the first epoch did not come exactly once",
    ]  # fmt: skip


def test_batch_boundaries_are_counted_and_a_bad_one_found(monkeypatch):
    # 20 examples in batches of 8: three steps, so four boundaries, between each two of 1, 2, 4 and 8 devices
    assert stress_elastic.boundaries(stream()) == {"boundaries": 64, "wrong": 0}
    right = stress_elastic._by_devices

    def one_step_late(source, steps, size):
        return right(source, steps, size) if size < 8 else (late := right(source, steps, size))[-1:] + late[:-1]

    monkeypatch.setattr(stress_elastic, "_by_devices", one_step_late)
    assert stress_elastic.boundaries(stream())["wrong"] > 0


def test_batches_of_several_lengths_are_read_whole():
    source = Ragged({"x": [np.arange(n) for n in [3] * 11 + [9] * 6]})
    buckets = Bucketed(source, [4, 10], 40, seed=0)  # 8 rows of each, so two steps of 4 and one of 10
    assert stress_elastic.boundaries(buckets) == {"boundaries": 64, "wrong": 0}
    one = mesh.make_mesh({"data": 1, "model": 1}, jax.devices()[:1])
    seen = {k: stress_child.rows(mesh.to_device(buckets.batch(k), one, buckets.size(k))) for k in range(3)}
    assert stress_elastic.wrong_examples(seen, buckets) == []


def test_losses_are_compared_relative_to_their_size(tmp_path):
    for name, loss in (("a", 4.0), ("b", 4.2)):
        (tmp_path / name).mkdir()
        values = [{"loss": 0.5, "accuracy": loss}, {"d/loss": loss}]
        rows = [{"step": k, "split": "train", "values": v} for k, v in enumerate(values)]
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert stress_elastic.loss_difference(tmp_path / "a", tmp_path / "b") == pytest.approx(0.05)
    (tmp_path / "b" / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="different steps"):
        stress_elastic.loss_difference(tmp_path / "a", tmp_path / "b")


@pytest.mark.slow
def test_a_run_resumes_on_other_devices(tmp_path):
    found = stress_elastic.measure(["language_model"], 1, 0, tmp_path)
    assert stress_elastic.faults(found) == []
    assert found["cases"][0]["plans"][:5] == ["data 8", "fsdp_tensor 2x2", "fsdp 2", "one", "fsdp 8"]
    assert found["cases"][0]["apart"] > 0  # else nothing was changed


# ---- A long run


def test_idle_time_is_from_ready_to_the_next_call():
    """100 steps of 10 ms, handed over at once, but 4 ms late after each tenth, a save, and 2 ms after each other fifth, a log."""
    called, ready, now = [], [], 0.0
    for done in range(100):
        now += 0.004 if done and done % 10 == 0 else 0.002 if done and done % 5 == 0 else 0.0
        called.append(now)
        now += 0.01
        ready.append(now)
    found = {"called": called, "ready": ready, "save": [(10 * k, 0.004) for k in range(1, 10)], "log": [], "batch": []}
    result = stress_flat.shares(found, 1_000, {"save": 10, "log": 5})
    # After three log intervals there are 84 steps: eight follow a save (20 to 90), eight another log (25 to 95).
    total = 84 * 0.01 + 8 * 0.004 + 8 * 0.002
    assert result["idle"]["save"] == pytest.approx(8 * 0.004 / total)
    assert result["idle"]["log"] == pytest.approx(8 * 0.002 / total)
    assert result["idle"]["other"] == pytest.approx(0, abs=1e-9)
    assert result["host"]["save"] == pytest.approx(8 * 0.004 / total)
    assert result["idle_once_s"] == pytest.approx(0.004 + 2 * 0.002)  # a save at 10, logs at 5 and 15


def test_blocks_with_and_without_are_told_apart():
    """Blocks of ten steps: those that are logged and saved take 3 s a step, the others 2 s."""
    times = [3.0 if not stress_child.bare(done, 10) else 2.0 for done in range(1, 60)]
    found = stress_flat.blocks({"ready": list(np.cumsum(times))}, 10)
    assert found["with"] == pytest.approx([3e3, 3e3]) and found["without"] == pytest.approx([2e3, 2e3, 2e3])
    assert found["ratios"] == pytest.approx([1.5, 1.5])
    saves = [done for done in range(10, 60, 10) if not stress_child.bare(done, 10)]
    assert saves == [20, 40]


def test_growth_is_a_fault():
    flat = {"rss_mb": [200.0, 201.0], "threads": [30, 30], "files": [40, 40]}
    assert stress_flat.faults({"cases": [flat]}) == []
    grown = {"rss_mb": [200.0, 230.0], "threads": [30, 31], "files": [40, 43]}
    assert stress_flat.faults({"cases": [grown]}) == [
        "1 more threads in the last third", "3 more files in the last third", "30 MB more in the last third; 16 are allowed",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_long_run_in_small(tmp_path):
    long = stress_flat.steady(tmp_path / "long", 200)
    assert long["rss_mb"][0] > 50 and long["threads"][0] > 1 and long["files"][0] > 3 and long["step_ms"][0] > 0
    usual = stress_flat.costs(tmp_path / "usual", stress_flat.LONG, 200, 50)
    assert 0 <= sum(usual["idle"].values()) < 1 and usual["host"]["log"] > 0 and usual["host"]["save"] > 0
    assert len(usual["block_ms"]["with"]) == 1 and len(usual["block_ms"]["without"]) == 2  # of steps 25, 75, 125 to 174


# ---- The table and the command


@pytest.fixture
def kept(tmp_path):
    """A house with a result of two kills in its page."""
    run = {"family": "gan", "run": 0, "kills": 2, "problems": []}
    case = {"family": "gan", "run": 0, "wished": "step", "died": "step", "writing": True, "step": 9, "kept": 7}
    found = {
        "measured": "2026-01-01 00:00 UTC", "commit": "abc", "seed": 3, "machine": {"cpu": "a cpu", "cores": 2},
        "versions": {"jax": "1", "orbax-checkpoint": "2"}, "save_every": 7,
        "cases": [case, {**case, "died": "save", "step": 11}], "runs": [run],
    }  # fmt: skip
    folder = tmp_path / "tools" / "stress_results"
    folder.mkdir(parents=True)
    (folder / "kills.json").write_text(json.dumps(found))
    page = tmp_path / RELIABILITY_PAGE
    page.parent.mkdir()
    page.write_text(f"# Title\n\n{stress_table.BEGIN}\n{stress_table.END}\n\nThe end.\n")
    stress_table.write_page(page, folder)
    return tmp_path


def test_the_page_has_what_the_results_say(kept):
    text = (kept / RELIABILITY_PAGE).read_text()
    assert "2 kills in 1 runs of 1 families (start 0, step 1, evaluate 0, save 1, end 0; 2 while" in text
    assert "at most 4 steps lost, with a checkpoint every 7" in text
    assert "kills: a cpu, 2 cores; JAX 1, Orbax 2; 2026-01-01 00:00 UTC, commit abc, seed 3." in text
    assert text.startswith("# Title\n") and text.endswith("\n\nThe end.\n")
    assert stress_table.problems(kept) == []


def test_a_number_that_was_typed_is_found(kept):
    page = kept / RELIABILITY_PAGE
    page.write_text(page.read_text().replace("2 kills", "200 kills"))
    found = stress_table.problems(kept)
    assert len(found) == 2 and "200 kills" in found[1]
    page.write_text("# Title\n")
    assert "wants one line" in stress_table.problems(kept)[0]


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"cases": 3, "runs": []}', "[" * 100_000])
def test_results_that_are_none_are_one_line(kept, text):
    (kept / "tools" / "stress_results" / "kills.json").write_text(text)
    (problem,) = stress_table.problems(kept)
    assert "kills.json: " in problem or problem.startswith("stress_results: not as almanac stress writes it: ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["kill"], "did you mean 'kills'"),
        (["--count", "0"], "--count=0: at least 1"),
        (["--family", "gann"], "did you mean 'gan'"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(words, says):
    with pytest.raises(UserError, match=says):
        stress.main(words)


def test_the_families_are_those_of_the_house():
    assert {"gan", "image_classification", "language_model"} <= set(families())
    assert families(["gan"]) == ["gan"]
