"""The file of tokens: what is written can be read, and a fault is named by its line or its key."""

import hashlib
import re
import stat

import pytest

from research.serving.web import tokens
from research.serving.web.tokens import Token
from research.util.errors import UserError

HASH = "ab" * 32


def test_a_new_token_is_in_the_file_by_its_hash_alone(tmp_path):
    file = tmp_path / "tokens.toml"
    secrets = [tokens.add(file, "alice")]
    file.write_text("# ours\n" + file.read_text() + "requests_per_minute = 6_0\n")
    secrets.append(tokens.add(file, "bob"))
    hashes = [hashlib.sha256(secret.encode()).hexdigest() for secret in secrets]
    assert tokens.read(file) == [Token("alice", hashes[0], requests_per_minute=60), Token("bob", hashes[1])]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().startswith("# ours\n") and not any(secret in file.read_text() for secret in secrets)
    assert len(set(secrets)) == 2 and all(len(secret) >= 43 for secret in secrets)  # 256 bits in base64


@pytest.mark.parametrize(("expires", "seconds"), [
    ("2027-06-30", 1814313600),  # date -u -d 2027-06-30 +%s
    ("2027-06-30T01:00:00", 1814317200),
    ("2027-06-30T01:00:00+02:00", 1814310000),
])  # fmt: skip
def test_a_time_is_in_utc_unless_it_says_otherwise(tmp_path, expires, seconds):
    (tmp_path / "t").write_text(f'[a]\nsha256 = "{HASH}"\nexpires = {expires}\n')
    assert tokens.read(tmp_path / "t")[0].expires == seconds


@pytest.mark.parametrize(("text", "words"), [
    ("[a", "t is no TOML: Expected ']' at the end of a table declaration (at end of document)"),
    ("[a]\nx =\n", "t is no TOML: Invalid value (at line 2, column 4)"),
    ("a = 1", "a is no table"),
    (f'["a b"]\nsha256 = "{HASH}"', "a b: a name is 1 to 64 letters"),
    ("[a]", "a.sha256: want 64 hexadecimal digits"),
    ('[a]\nsha256 = "almanac_secret"', "a.sha256: want 64 hexadecimal digits"),
    (f'[a]\nsha256 = "{HASH}"\nexpire = 2027-01-01', "a.expire is no key; did you mean 'expires'?"),
    (f'[a]\nsha256 = "{HASH}"\nname = "b"', "a.name is no key"),
    (f'[a]\nsha256 = "{HASH}"\nexpires = "2027-01-01"', "a.expires = 2027-01-01: a date or a time without"),
    (f'[a]\nsha256 = "{HASH}"\nrequests_per_minute = 0', "a.requests_per_minute = 0: a whole number above 0"),
    (f'[a]\nsha256 = "{HASH}"\ntokens_per_minute = 1.5', "a.tokens_per_minute = 1.5: a whole number"),
    (f'[a]\nsha256 = "{HASH}"\nlargest_body = true', "a.largest_body = True: a whole number"),
    (f'[a]\nsha256 = "{HASH}"\nadmin = "yes"', "a.admin = yes: true or false"),
    (f'[a]\nsha256 = "{HASH}"\n[b]\nsha256 = "{HASH}"', "two tokens have the same sha256"),
])  # fmt: skip
def test_a_fault_is_named_and_no_secret_shown(tmp_path, text, words):
    file = tmp_path / "t"
    file.write_text(text)
    with pytest.raises(UserError, match=re.escape(words)) as error:
        tokens.read(file)
    assert "\n" not in str(error.value) and "secret" not in str(error.value)


def test_a_name_is_taken_once_and_nothing_is_written_over_a_fault(tmp_path):
    file = tmp_path / "t"
    tokens.add(file, "alice")
    before = file.read_bytes()
    for name, words in (("alice", "has a token alice already"), ("a]\nb", "letters, digits")):
        with pytest.raises(UserError, match=words):
            tokens.add(file, name)
    assert file.read_bytes() == before
    file.write_text("[")
    with pytest.raises(UserError, match="no TOML"):
        tokens.add(file, "bob")
    assert file.read_text() == "["
    with pytest.raises(UserError, match="cannot read"):
        tokens.read(tmp_path / "none")
