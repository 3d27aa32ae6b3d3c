"""A bundle predicts what its run does, without the run; one byte changed, and it is refused."""

import ast
import hashlib
import json
import re
import shutil
import subprocess
import sys

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import research
from research.serving import bundle, run_bundle, servable
from research.serving.engine import Engine
from research.serving.jobs import Request
from research.util import sealed
from research.util.errors import UserError
from tools import cli

TEXT = "the try statement and its except clauses"
FILES = {
    "README.md", "SHA256SUMS", "codec.json", "manifest.json", "parameters.safetensors", "predict.stablehlo", "reference.npz",
    "run_bundle.py",
}  # fmt: skip


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A bundle, what its run made of TEXT, and the run's log; the run is gone."""
    folder = tmp_path_factory.mktemp("bundle")
    run, out = folder / "run", folder / "topics"
    assert cli.main(["train", "text_classification/tiny", f"--workdir={run}", "--config.num_steps=4"]) == 0
    assert cli.main(["export", str(run), f"--out={out}", "--license=Apache-2.0"]) == 0
    said = research.open_run(run).predict(TEXT)
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    shutil.rmtree(run)
    return out, said, log


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported[0], tmp_path / "copy")


def test_it_predicts_what_the_run_does(exported, tmp_path, capsys):
    out, said, _ = exported
    assert research.open_bundle(out).predict(TEXT) == said
    (tmp_path / "text.txt").write_text(TEXT)
    assert cli.main(["predict", str(out), str(tmp_path / "text.txt")]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(tmp_path / "text.txt"), **said}


def test_its_manifest_and_card(exported):
    out, _, log = exported
    manifest = research.open_bundle(out).manifest
    assert {path.name for path in out.iterdir()} == FILES
    assert (manifest["name"], manifest["step"], manifest["license"]) == ("text_classification/tiny", 4, "Apache-2.0")
    last = {f"{row['split']}/{name}": x for row in log if row["split"] != "train" for name, x in row["values"].items()}
    assert manifest["metrics"] == last
    assert manifest["inputs"]["tokens"] == {"shape": ["b", "t"], "dtype": "int32"}
    classes = manifest["subgroups"]["classes"].values()
    right = sum(each["examples"] * (each["accuracy"] or 0) for each in classes)
    assert right / sum(each["examples"] for each in classes) == pytest.approx(last["valid/accuracy"])
    card = (out / "README.md").read_text()
    assert "License of the weights: Apache-2.0" in card and "| valid/accuracy |" in card


def test_its_reference_is_of_held_out_data(exported):
    bundle, _, log = research.open_bundle(exported[0]), *exported[1:]
    made, held_out = bundle.reference, bundle.manifest["subgroups"]["classes"].values()
    assert len(made.labels) == sum(each["examples"] for each in held_out)
    right = made.signals["class"].argmax(-1) == made.labels
    valid = next(row for row in reversed(log) if row["split"] == "valid")["values"]["accuracy"]
    assert right.mean() == pytest.approx(valid)
    assert servable.from_folder(exported[0]).reference.signals.keys() == made.signals.keys()


def test_a_bundle_of_before_there_were_references_opens(copy):
    about = json.loads((copy / "manifest.json").read_text())
    del about["reference"]
    (copy / "reference.npz").unlink()
    (copy / "manifest.json").write_text(json.dumps(about))
    names = sorted(FILES - {"SHA256SUMS", "reference.npz"})
    sums = [f"{hashlib.sha256((copy / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (copy / "SHA256SUMS").write_text("".join(sums))
    assert research.open_bundle(copy).reference is None


def test_a_changed_byte_is_refused(exported, copy):
    for name in sorted(FILES):
        path = copy / name
        before = path.read_bytes()
        for at in (0, len(before) // 2, len(before) - 1):
            path.write_bytes(before[:at] + bytes([before[at] ^ 1]) + before[at + 1 :])
            with pytest.raises(UserError, match="SHA256SUMS" if name == "SHA256SUMS" else f"{name} is damaged"):
                research.open_bundle(copy)
        path.write_bytes(before)
    research.open_bundle(copy)


def test_what_is_missing_or_a_link_is_refused(copy, tmp_path):
    shutil.move(copy / "codec.json", tmp_path / "codec.json")
    with pytest.raises(UserError, match="codec.json is missing"):
        research.open_bundle(copy)
    (copy / "codec.json").symlink_to(tmp_path / "codec.json")
    with pytest.raises(UserError, match="codec.json is a link"):
        research.open_bundle(copy)
    with pytest.raises(UserError, match="is no bundle"):
        research.open_bundle(tmp_path)


def test_a_checkpoint_of_a_bundle_is_refused(exported, capsys):
    assert cli.main(["predict", str(exported[0]), "--checkpoint=last", "x"]) == 2
    assert "is a bundle, which holds one" in capsys.readouterr().err


def test_the_file_beside_it_runs_it_with_jax_alone(exported, copy, tmp_path):
    source = (copy / "run_bundle.py").read_text()
    nodes = list(ast.walk(ast.parse(source)))
    imported = {alias.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module.split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
    runtimes = {"ai_edge_litert", "jax", "onnxruntime"}  # of which a form's own is imported where it is used
    assert imported - set(sys.stdlib_module_names) == runtimes | {"numpy"}
    assert not re.search(f"^(import|from) ({'|'.join(runtimes)})", source, re.M)
    inputs = research.open_bundle(copy).codec.encode(TEXT)
    np.savez(tmp_path / "inputs.npz", **inputs)
    command = [sys.executable, str(copy / "run_bundle.py"), "inputs.npz", "outputs.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = jax.device_get(research.open_bundle(copy).fn(inputs))
    with np.load(tmp_path / "outputs.npz") as found:
        assert set(found.files) == expected.keys()
        np.testing.assert_array_equal(found["probabilities"], expected["probabilities"])
    (copy / "predict.stablehlo").write_bytes(b"something else")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "predict.stablehlo is damaged" in done.stderr and len(done.stderr.splitlines()) == 1


def test_it_reads_safetensors_as_the_library_writes_them():
    arrays = {
        "a/b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "half": np.array([1.5, -2], ml_dtypes.bfloat16),
        "none": np.zeros((0, 4), np.int32),
        "one": np.array(7, np.uint8),
    }
    found = run_bundle.tensors(safetensors.numpy.save(arrays))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    for blob in (b"", b"\xff" * 16, b"\x02" + b"\0" * 7 + b"[]", safetensors.numpy.save(arrays)[:-1]):
        if blob:
            with pytest.raises(run_bundle.Damaged):
                run_bundle.tensors(blob)


def test_the_server_answers_from_it_as_from_its_run(tmp_path):
    run = tmp_path / "run"
    assert cli.main(["train", "language_model/tiny", f"--workdir={run}", "--config.num_steps=4"]) == 0
    assert cli.main(["export", str(run), f"--out={tmp_path / 'bundle'}"]) == 0
    answers = []
    for folder in (run, tmp_path / "bundle"):
        model = servable.from_folder(folder, "tiny")
        engine = Engine(model.language.decoder, 2, model.language.decoder.max_length)
        ids: list = []
        engine.submit(Request(model.language.tokenizer.encode("The "), 8, jax.random.key(1)), ids.append)
        while engine.step():
            pass
        answers.append((model.name, model.version, [event.id for event in ids[:-1]]))
    assert answers[0] == answers[1] and answers[0][:2] == ("tiny", "language_model/tiny@4") and len(answers[0][2]) == 8


@pytest.fixture
def sealing(copy, monkeypatch):
    """A key in the environment, and a bundle sealed with it."""
    monkeypatch.setenv(sealed.KEYS, sealed.new_key())
    assert cli.main(["seal", str(copy)]) == 0
    return copy


def test_a_sealed_bundle_predicts_the_same_and_shows_nothing(exported, sealing):
    assert research.open_bundle(sealing).predict(TEXT) == exported[1]
    files = {path.name for path in sealing.iterdir() if path.read_bytes().startswith(sealed.MAGIC)}
    assert files == FILES - {"SHA256SUMS"} and run_bundle.SEALED == sealed.MAGIC
    with pytest.raises(run_bundle.Damaged, match=r"is sealed: open the bundle by Almanac, with its key"):
        run_bundle.load(sealing)


def test_a_sealed_bundle_needs_its_key_and_every_byte(sealing, monkeypatch):
    first = sealing / "codec.json"
    whole = first.read_bytes()
    first.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match="codec.json has changed since it was sealed"):
        research.open_bundle(sealing)
    first.write_bytes((sealing / "README.md").read_bytes())
    with pytest.raises(UserError, match="codec.json has changed since it was sealed"):
        research.open_bundle(sealing)
    first.write_bytes(whole)
    monkeypatch.setenv(sealed.KEYS, sealed.new_key())
    with pytest.raises(UserError, match="is sealed with the key [0-9a-f]{16}, which is none of the 1"):
        research.open_bundle(sealing)
    monkeypatch.delenv(sealed.KEYS)
    with pytest.raises(UserError, match="is sealed: set ALMANAC_KEYS"):
        research.open_bundle(sealing)


def test_sealing_that_was_interrupted_leaves_a_bundle_and_goes_on(exported, copy, monkeypatch):
    monkeypatch.setenv(sealed.KEYS, sealed.new_key())
    write, done = bundle.write_bytes, []

    def killed(*args):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(write(*args))

    monkeypatch.setattr(bundle, "write_bytes", killed)
    keys = sealed.from_environment()
    with pytest.raises(KeyboardInterrupt):
        bundle.seal(copy, keys)
    monkeypatch.setattr(bundle, "write_bytes", write)
    assert research.open_bundle(copy).predict(TEXT) == exported[1]
    assert (bundle.seal(copy, keys), bundle.seal(copy, keys)) == (len(FILES) - 1 - 3, 0)
    assert research.open_bundle(copy).predict(TEXT) == exported[1]
