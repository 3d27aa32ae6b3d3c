"""tests/ mirrors research/ and tools/: a test file has the path of what it tests, so that either is found from the other."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
APART = ("contract", "docs", "experiments", "fixtures")  # of families, documents and whole runs
# Test files of more than one module, or of none.
OTHERS = {
    "test_gpu.py": "what only a GPU shows",
    "test_gpu_script.py": ".ci/gpu.py",
    "test_layering.py": "the imports of every file",
    "test_mirror.py": "this",
    "test_types.py": "signatures of evals, losses, models and nn",
    "data/tokenizers/test_tokenizers.py": "all tokenizers, by one set of demands",
    "models/text/test_text_models.py": "text_cnn, text_conv, text_ngrams, text_recurrent and text_transformer side by side",
    "nn/test_attention_gpu.py": "nn/flash.py on a GPU",
    "run/test_checkpoint_hosts.py": "run/checkpoint.py of two hosts",
    "run/test_object_store_server.py": "run/object_store.py against a local S3 server",
    "tools/test_bad_input.py": "every verb's errors",
    "tools/test_root_script.py": "./almanac",
    "tools/test_stranger_files.py": "every verb on files that were tampered with",
    "tools/test_stranger_pages.py": "every page and picture with hostile names",
}


def test_every_test_file_has_the_path_of_a_module():
    found = {path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    found = {path for path in found if path.parts[0] not in APART}
    assert len(found) > 100
    assert OTHERS.keys() - {path.as_posix() for path in found} == set()
    modules = {path: path.with_name(path.name.removeprefix("test_")) for path in found if path.as_posix() not in OTHERS}
    missing = [
        str(path)
        for path, module in modules.items()
        if not (ROOT / "research" / module).exists() and not (ROOT / module).exists()
    ]
    assert missing == []
