"""Multi30k as Wu et al. 2021 (2105.14462) published it: tokenised, lower-cased, in joint byte pairs of 9,708 types."""

from research.data import download
from research.data.builders import multi30k

_URL = "https://raw.githubusercontent.com/LividWo/Revisit-MMT/dc368d0af8d60270b8f4aaa2f3ac58771c551da3/data/multi30k-en-de/"
_FILES = (
    ("code", 104973, "5b545f318e49f24367c7399019c9aeb5e3720b6379a08f887c2792af71c37f2a"),
    ("test.2016.de", 75949, "375c20d50f4c486149a78dfcfb161a430a04ddabe2b7d150f0c7811dc455ac60"),
    ("test.2016.en", 65416, "13b5fe3f92f78c54446d66afcaaa0a00a33ab653a8411f16812c9c5ca3795d6d"),
    ("test.2017.de", 70232, "9deefbe5705b60c3b5a790146e232b411a0da0420fd194ed6f6ad3a2674340a0"),
    ("test.2017.en", 58544, "5252390a58d57bce8d6a69a973e4908e98c7b70d3fc7ccc9c3963747ae8b177d"),
    ("train.de", 2269411, "b2c74def7ec129f7ea7023a51501c77174c377ef06c6ccc2f031adcfb5cfadbd"),
    ("train.en", 1898472, "0ffe3e3bac16e6aa33ef0dd6a7dca81587479b0d18dff0db2a92ac3f32b00c86"),
    ("valid.de", 82295, "eeb95680d6a06eafb13e3494eed9f9fa99783b892f4a3c72dd36e7ce2e000b68"),
    ("valid.en", 67101, "193d0d18fef5d1bc9d1cddafa13a644de3c5d6a24b45ac44476dcc5e96bfac6e"),
)
FILES = tuple(download.File(name, _URL + name, sha256, size) for name, size, sha256 in _FILES)


class Multi30kBpe(multi30k.Multi30k, skip_registration=True):
    """As `Multi30k`, line by line; `@@ ` marks where a word was split."""

    FILES = FILES
    STEMS = {"train": "train", "validation": "valid", "test_2016": "test.2016", "test_2017": "test.2017"}
    SUFFIX = ""


def merges() -> str:
    """The byte-pair merges by priority, in the format of subword-nmt: "#version: 0.2", then one pair per line."""
    return download.read(download.fetch("multi30k_bpe", FILES[:1])["code"]).decode("utf-8")
