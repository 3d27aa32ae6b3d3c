"""The tables say what the JSON holds."""

import copy
import json

import pytest

from research.util.errors import UserError
from tools.dev.bench import bench_numbers, bench_tables, bench_terminal


def _column(ms, cold, warm, rss, others=(0.0, 0.0, 0.0), **more):
    first = {"cold": cold, "warm": warm}
    return {"ms": ms, "first_step_s": first, "rss": rss, "device_memory": None, "others": list(others), **more}


CASE = {
    "name": "gpt",
    "config": "language_model/pydoc_char",
    "steps": 20,
    "parameters": 1_250_000,
    "batch": [12, 64],
    "unit": "tokens",
    "units": 768,
    "dtype": "float32",
    "flops": 4_000_000_000,
    "peak": None,
    "gemm": 5e11,
    "frameworks": {
        "ours": _column([20.0, 16.0, 40.0], 5.04, 2.0, 400_000_000, wait_ms=[0.2, 0.1, 0.3]),
        "eager": _column([30.0, 32.0, 50.0], None, 2.5, 300_000_000),
    },
    "checkpoint": {"call_ms": [14.0, 12.0, 13.0], "after_ms": [3.0, 9.0, 4.0], "steps": 10, "bytes": 15_000_000},
}
GENERATION = {
    "parameters": 10_760_000,
    "dtype": "float32",
    "prompt": 64,
    "new": 192,
    "batches": [
        {
            "batch": 8,
            "frameworks": {
                "generate-ours": {
                    "s": [1.0, 2.0, 4.0], "first_token_s": [0.01], "first_call_s": 3.0, "rss": 5e8, "others": [0.0] * 3,
                },
                "generate-transformers": {
                    "s": [3.0, 3.0, 6.0], "first_token_s": [0.02], "first_call_s": 2.0, "rss": 6e8, "others": [0.0] * 3,
                },
            },
        }
    ],
}  # fmt: skip
RESULT = {
    "machine": {"cpu": "Abacus 3", "cores": 2, "accelerator": None},
    "threads": 2,
    "versions": {"jax": "0.10.2", "torch": "2.13.0"},
    "measured": "2026-01-02 03:04 UTC",
    "commit": "abc1234",
    "tf32": False,
    "crowd": {"before": 0.01, "told": False},
    "gemm": {"float32": {"jax": 5e11, "torch": 4e11}},
    "cases": [CASE],
    "generation": GENERATION,
}


def test_a_row_is_the_median_of_rounds_and_ratios_are_round_by_round():
    ours, eager = (bench_numbers.row(CASE, kind) for kind in ("ours", "eager"))
    assert ours.ms == (20.0, 16.0, 40.0)
    assert eager.ratio == (1.5, 1.25, 2.0)  # 30/20, 50/40, 32/16; not 32/20
    assert ours.speed == pytest.approx(38_400)
    assert ours.flops == pytest.approx(2e11)
    assert ours.share == pytest.approx(0.4)
    assert eager.share == pytest.approx(0.25)
    assert ours.wait == pytest.approx(0.01)
    assert ours.mfu is None and eager.wait is None


def test_the_markdown_tables():
    speed, beside, generation, legend, notes = bench_tables.tables([RESULT]).split("\n\n")
    head, rule, line = speed.splitlines()
    assert head == (
        "| model | threads | Almanac, ms a step | PyTorch eager ÷ ours | share of a GEMM: Almanac, PyTorch eager |"
    )
    assert rule.count("|") == line.count("|") == head.count("|")
    assert line == ("| gpt, 1.25 M, 12×64, float32 | 2 | 20.0 (16.0–40.0) | 1.50 (1.25–2.00) | 40%, 25% |")
    assert beside.splitlines()[2] == "| gpt | 2 | 5.0, 2.0; 2.5 | 400; 300 | 1.0% | 15.0; 13, 4 |"
    # 8 x 192 tokens in 1, 2 and 4 s; in 3, 3 and 6
    assert generation.splitlines()[2] == (
        "| 10.8 M, batch 8, 64 + 192 tokens | 2 | 768 (384–1,536) | 512 (256–512) | 1.50 (1.50–3.00) | 10.0; 20.0 |"
    )
    assert "above 1 we are faster" in legend
    assert notes == (
        "- 2 threads: Abacus 3; JAX 0.10.2, PyTorch 2.13.0; a GEMM reaches 500 in float32 (GFLOP/s); memory is the "
        "process's; 2026-01-02 03:04 UTC, commit abc1234."
    )


def test_cases_of_several_sessions_are_dated():
    result = copy.deepcopy(RESULT)
    first = result["cases"][0] | {"measured": "2026-01-02 03:04 UTC", "commit": "abc1234"}
    result["cases"] = [first, first | {"measured": "2026-01-05 06:07 UTC", "commit": "def5678"}]
    assert bench_tables.note(result).endswith(
        "; 2026-01-02 03:04 UTC to 2026-01-05 06:07 UTC, commits abc1234, def5678."
    )


def test_the_numbers_of_threads_stand_below_each_other():
    one = copy.deepcopy(RESULT)
    one["threads"], one["cases"][0]["frameworks"]["compile-alloc"] = 1, _column([40.0] * 3, None, 9.0, 1)
    speed, *_ = bench_tables.tables([RESULT, one]).split("\n\n")
    assert [line.split(" | ")[1] for line in speed.splitlines()[2:]] == ["1", "2"]
    assert "torch.compile, our allocator ÷ ours" in speed
    assert speed.splitlines()[3].split(" | ")[4] == "–"  # not measured with two


def test_crowding_is_said_by_the_case_and_by_the_note():
    crowded = copy.deepcopy(RESULT)
    crowded["crowd"] = {"before": 0.42, "told": True}
    frameworks = crowded["cases"][0]["frameworks"]
    frameworks["ours"]["others"], frameworks["eager"]["others"] = [0.01, 0.06, None], [0.3, 0.0, None]
    assert bench_numbers.crowding(frameworks) == (2, 3, 0.3)
    assert "CROWDED: in 2 of 3 rounds" in bench_terminal.describe(crowded["cases"][0])
    assert "CROWDED" not in bench_terminal.describe(CASE)
    text = bench_tables.tables([crowded])
    assert "float32 (crowded in 2 of 3 rounds) |" in text
    assert "**Measured on a crowded machine, as it was told to be**: other processes used 42%" in text


def test_the_terminal_table_is_aligned_and_keeps_to_the_width():
    lines = bench_terminal.describe(CASE).splitlines()
    assert "1,250,000 parameters, batch 12 x 64, float32, 4.00 GFLOP a step" in lines[0]
    assert lines[1] == "3 rounds of 20 steps; a GEMM reaches 500 GFLOP/s in float32"
    assert len({len(line) for line in lines[2:5]}) == 1
    assert "38,400" in lines[3] and "40%" in lines[3] and "5.0, then 2.0" in lines[3]
    assert "1.50 (1.25 to 2.00)" in lines[4]
    assert "waits for data 1.0% of a step; a checkpoint (15.0 MB) holds it 13 ms" in lines[5]
    assert lines[6] == "and the 10 steps after it take +4 ms"
    assert max(map(len, lines)) <= 120


def test_a_known_peak_is_shown_too():
    lines = bench_terminal.describe(CASE | {"peak": 1e12}).splitlines()
    assert lines[2].endswith("MFU") and lines[3].endswith("20.0%")


def test_generation_on_a_terminal():
    lines = bench_terminal.describe_generation(GENERATION).splitlines()
    assert lines[0].endswith("64 tokens of prompt, 192 new; the same tokens from both")
    assert "768 (384 to 1,536)" in lines[2] and "1.50 (1.50 to 3.00)" in lines[3]


def test_the_page_holds_the_tables_of_all_results(tmp_path):
    page, folder = tmp_path / "benchmarks.md", tmp_path / "results"
    folder.mkdir()
    page.write_text(f"# A\n\n{bench_tables.BEGIN}\nold\n{bench_tables.END}\n\nB\n")
    with pytest.raises(UserError, match="holds no results"):
        bench_tables.write_page(page, folder)
    one, other = copy.deepcopy(RESULT), copy.deepcopy(RESULT)
    one["threads"] = 1
    other["machine"]["accelerator"], other["tf32"] = "NVIDIA X1", True
    for name, result in {"a": RESULT, "b": other, "c": one}.items():
        (folder / f"{name}.json").write_text(json.dumps(result))
    bench_tables.write_page(page, folder)
    text = page.read_text()
    assert text.startswith("# A\n\n") and text.endswith(f"{bench_tables.END}\n\nB\n")
    assert "\nold\n" not in text
    assert text.count(bench_tables.tables([one, RESULT])) == 1
    assert text.count(bench_tables.tables([other])) == 1
    assert "NVIDIA X1, Abacus 3" in text and "TF32 is on" in text
    page.write_text("# A\n")
    with pytest.raises(UserError, match="wants one line <!-- benchmark -->"):
        bench_tables.write_page(page, folder)
