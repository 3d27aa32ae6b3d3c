"""Sets of feedback for tests, in the format of research/data/feedback_sets.py."""

import hashlib
import json

import numpy as np
from PIL import Image


def write(folder, train, heldout, classes, kind="text"):
    """Writes rows (label, text or u8[Y, X] or u8[Y, X, 3]) -> the folder."""
    (folder / "images").mkdir(parents=True)
    for part, rows in (("train", train), ("heldout", heldout)):
        lines = []
        for i, (label, value) in enumerate(rows):
            row = {"id": f"{part}-{i}", "row": 0, "label": label}
            if kind == "picture":
                row["image"] = f"images/{part}-{i}-0.png"
                Image.fromarray(np.asarray(value, np.uint8)).save(folder / row["image"])
            lines.append(json.dumps(row | ({"text": value} if kind == "text" else {})))
        (folder / f"{part}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    about = {"format": 1, "kind": kind, "model": "m", "versions": [1], "classes": sorted(classes)}
    rows = {"train": len(train), "heldout": len(heldout)}
    (folder / "manifest.json").write_text(json.dumps({**about, "rows": rows, "files": {}}))
    return sums(folder)


def sums(folder, **changes):
    """Writes the manifest anew, with the sums of the files as they are and other values changed -> the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    digests = {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "files": digests, **changes}))
    return folder
