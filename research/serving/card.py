"""A bundle's model card, of what its manifest says (Mitchell et al. 2019, Model Cards for Model Reporting, 1810.03993)."""

from collections.abc import Mapping
from typing import Any

from research.serving import parity, run_bundle
from research.util.escape import visible


def text(manifest: Mapping[str, Any]) -> str:
    """The manifest of a bundle -> Markdown."""
    parts = [_head(manifest), _use(manifest), _data(manifest), _numbers(manifest), _limits(manifest)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(about: Mapping[str, Any]) -> str:
    trained = about.get("versions", {}).get("trained", {})
    words = [f"{about['parameters']:,} parameters"]
    if "step" in about:
        words.append(f"step {about['step']:,} of seed {about['seed']}")
    words += [f"commit {about['commit']}"] if about.get("commit") else []
    words += [f"{name} {version}" for name, version in trained.items()]
    lines = [about["name"], ", ".join(words), f"License of the weights: {about.get('license') or 'not stated'}"]
    return "# " + "\n\n".join(map(_line, lines))


def _use(about: Mapping[str, Any]) -> str:
    rows = [
        [way, name, " x ".join(map(str, x["shape"])) or "one number", x["dtype"]]
        for way in ("inputs", "outputs")
        for name, x in about[way].items()
    ]
    bounds = f"\n\nLetters are sizes that are open: {', '.join(about['constraints'] or ['any'])}; b is the batch."
    return f"""## Use

```text
almanac predict FOLDER FILE...                  # raw values in and out, with Almanac
python run_bundle.py inputs.npz outputs.npz     # arrays in and out, with JAX alone
```

{_table(["", "array", "shape", "dtype"], rows)}{bounds}{_forms(about)}

The program runs on {", ".join(about["platforms"])}."""


def _forms(about: Mapping[str, Any]) -> str:
    if not (files := [file for form, file in run_bundle.FORMS.items() if form in about["parity"]]):
        return ""
    return (
        f"\n\n`python run_bundle.py inputs.npz outputs.npz FORM` runs {' and '.join(files)} by its own runtime. "
        "LiteRT takes one row at a time, and texts of the longest length: shorter ones are filled up with zeros."
    )


def _data(about: Mapping[str, Any]) -> str:
    if "data" not in about:
        return ""
    lines = "\n".join(f"- {_line(line)}" for line in about["data"]["report"])
    return f"## Data\n\n{lines}\n\nSHA-256 of the first training batches: `{about['data']['first_batches_sha256']}`"


def _numbers(about: Mapping[str, Any]) -> str:
    parts = []
    if about.get("metrics"):
        parts.append(_table(["metric", "value"], [[name, f"{x:.4g}"] for name, x in about["metrics"].items()]))
    if published := (about.get("config") or {}).get("reproduces"):
        parts.append(_line(f"Published: {published.get('metric')} {published.get('value')} ({published.get('paper')})"))
    if groups := about.get("subgroups"):
        rows = [[n, f"{x['examples']:,}", _share(x["accuracy"])] for n, x in groups["classes"].items()]
        parts.append(f"By class, on {groups['split']}:\n\n" + _table(["class", "examples", "accuracy"], rows))
    for form, found in about["parity"].items():
        parts.append(parity.line(form, found))
    return "## Numbers\n\n" + "\n\n".join(parts)


def _limits(about: Mapping[str, Any]) -> str:
    return """## Limits

- These are the numbers of one run. Almanac's docs/results.md has the spread over seeds, where they were run.
- The model was measured on held-out data of its own source. How it does on other data is not known: measure it there first.
- Probabilities are the model's own, and calibrated only if a number above says so."""


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_line(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in lines)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _line(text: str) -> str:
    return visible(" ".join(str(text).split()))
