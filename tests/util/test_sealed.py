"""Sealed bytes: opened by whoever has the key, as what they were sealed as, and by nobody else."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from research.util import sealed
from research.util.errors import UserError

ONE, TWO = (sealed.new_key() for _ in range(2))


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch):
    for name in (sealed.KEYS, sealed.KEYS_FILE):
        monkeypatch.delenv(name, raising=False)


def keys(*texts):
    return sealed.parse(" ".join(texts), "here")


def test_the_format_is_the_documented_one():
    """By AES in Galois/counter mode itself, from the key's 32 bytes."""
    key = base64.urlsafe_b64decode(ONE.removeprefix("almanac_key_") + "=")
    blob = keys(ONE).seal(b"what is kept", "a name")
    head, nonce, cipher, tag = blob[:24], blob[24:36], blob[36:-16], blob[-16:]
    assert head == b"ALMANAC SEALED 1" + hashlib.sha256(key).digest()[:8]
    decryptor = Cipher(algorithms.AES256(key), modes.GCM(nonce, tag)).decryptor()
    decryptor.authenticate_additional_data(head + b"a name")
    assert decryptor.update(cipher) + decryptor.finalize() == b"what is kept"
    assert keys(ONE).seal(b"what is kept", "a name") != blob  # another nonce


def test_no_byte_may_change_and_no_name():
    blob = keys(ONE).seal(b"what is kept", "a name")
    for place in range(len(sealed.MAGIC), len(blob)):
        changed = blob[:place] + bytes([blob[place] ^ 1]) + blob[place + 1 :]
        with pytest.raises(UserError, match="a name (has changed since it was sealed|is sealed with the key)"):
            keys(ONE).open(changed, "a name")
    for cut in (blob[:30], blob[:-1], sealed.MAGIC):
        with pytest.raises(UserError):
            keys(ONE).open(cut, "a name")
    with pytest.raises(UserError, match="another name has changed"):
        keys(ONE).open(blob, "another name")


def test_a_new_key_is_put_first_and_the_old_one_still_opens():
    old = keys(ONE).seal(b"x", "n")
    both = keys(TWO, ONE)
    assert both.open(old, "n") == b"x" and not both.is_newest(old)
    new = both.seal(b"x", "n")
    assert both.is_newest(new) and keys(TWO).open(new, "n") == b"x"
    with pytest.raises(UserError, match="n is sealed with the key [0-9a-f]{16}, which is none of the 1 in"):
        keys(ONE).open(new, "n")


def test_keys_come_from_the_environment_or_a_file(monkeypatch, tmp_path):
    assert sealed.from_environment() is None and sealed.opened(b"plain", "n") == b"plain"
    blob = keys(ONE).seal(b"x", "n")
    with pytest.raises(UserError, match="n is sealed: set ALMANAC_KEYS or ALMANAC_KEYS_FILE"):
        sealed.opened(blob, "n")
    monkeypatch.setenv(sealed.KEYS, f"{TWO} {ONE}")
    assert sealed.opened(blob, "n") == b"x"
    (tmp_path / "keys").write_text(f"{ONE}\n{TWO}\n")
    monkeypatch.setenv(sealed.KEYS_FILE, str(tmp_path / "keys"))
    with pytest.raises(UserError, match="both ALMANAC_KEYS and ALMANAC_KEYS_FILE"):
        sealed.from_environment()
    monkeypatch.delenv(sealed.KEYS)
    assert sealed.opened(blob, "n") == b"x"


def test_a_file_or_a_variable_without_a_key_is_an_error_and_not_plain_text(monkeypatch, tmp_path):
    (tmp_path / "keys").write_text("\n")
    monkeypatch.setenv(sealed.KEYS_FILE, str(tmp_path / "keys"))
    with pytest.raises(UserError, match="there is no key; make one with almanac seal --new-key"):
        sealed.from_environment()
    monkeypatch.delenv(sealed.KEYS_FILE)
    monkeypatch.setenv(sealed.KEYS, " ")
    with pytest.raises(UserError, match="there is no key"):
        sealed.from_environment()


def test_what_is_no_key_is_named_and_not_shown(monkeypatch):
    monkeypatch.setenv(sealed.KEYS, f"{ONE} almanac_key_secret")
    with pytest.raises(UserError, match="ALMANAC_KEYS: key 2 is none") as caught:
        sealed.from_environment()
    assert "secret" not in str(caught.value)
