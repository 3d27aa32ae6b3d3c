"""Bytes that are kept encrypted: AES-256-GCM (NIST SP 800-38D), by the library `cryptography`.

The keys are in the environment: ALMANAC_KEYS has them, or ALMANAC_KEYS_FILE names a file that does, separated by white space.
The first one seals, and all of them open, so that a new key is put before the old ones until nothing needs those any more.

Sealed bytes are MAGIC, the key's number (the first 8 bytes of its SHA-256), 12 random bytes, the ciphertext and its tag of 16
bytes. What they are the bytes of, a file of a bundle or a row of a store, is authenticated too: one cannot stand in for another.
"""

import base64
import functools
import hashlib
import os
import re
import secrets
from pathlib import Path

from research.util import run_files
from research.util.errors import UserError
from research.util.escape import visible

KEYS, KEYS_FILE = "ALMANAC_KEYS", "ALMANAC_KEYS_FILE"
MAGIC = b"ALMANAC SEALED 1"
PREFIX = "almanac_key_"  # so that one in the wrong place can be searched for
NUMBER, NONCE = 8, 12  # bytes
_KEY = re.compile(PREFIX + r"([A-Za-z0-9_-]{43})")


class Keys:
    """Keys of 32 bytes; the first one seals."""

    def __init__(self, keys: list[bytes]):
        """Raises UserError if there is none, or `cryptography` is not installed."""
        if not keys:
            raise UserError(f"{KEYS} and {KEYS_FILE}: there is no key; make one with almanac seal --new-key")
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError:
            raise UserError("sealing needs another package: pip install 'almanac[serve]'") from None
        self._ciphers = {hashlib.sha256(key).digest()[:NUMBER]: AESGCM(key) for key in keys}
        self._first = next(iter(self._ciphers))

    def seal(self, data: bytes, name: str) -> bytes:
        """`name` says what the bytes are, and is to be given again to open them."""
        head, nonce = MAGIC + self._first, os.urandom(NONCE)
        return head + nonce + self._ciphers[self._first].encrypt(nonce, data, head + name.encode())

    def open(self, blob: bytes, name: str) -> bytes:
        """What was sealed. Raises UserError if no key fits, a byte has changed, or it was sealed as something else."""
        from cryptography.exceptions import InvalidTag

        end = len(MAGIC) + NUMBER
        head, nonce, rest = blob[:end], blob[end : end + NONCE], blob[end + NONCE :]
        number = head[len(MAGIC) :]
        if (cipher := self._ciphers.get(number)) is None:
            known = f"the {len(self._ciphers)} in {KEYS} or {KEYS_FILE}"
            raise UserError(f"{visible(name)} is sealed with the key {number.hex()}, which is none of {known}")
        try:
            return cipher.decrypt(nonce, rest, head + name.encode())
        except (InvalidTag, ValueError):
            raise UserError(f"{visible(name)} has changed since it was sealed") from None

    def is_newest(self, blob: bytes) -> bool:
        """Whether bytes are sealed with the key that seals now."""
        return blob.startswith(MAGIC + self._first)


def is_sealed(blob: bytes | str | None) -> bool:
    return isinstance(blob, bytes) and blob.startswith(MAGIC)


def from_environment() -> Keys | None:
    """The keys of this process; None if neither variable is set. Raises UserError for one that is no key, without showing it, and
    if there is none: nothing is stored plain because a file was empty."""
    text, file = os.environ.get(KEYS, ""), os.environ.get(KEYS_FILE)
    where = KEYS
    if file:
        if text:
            raise UserError(f"both {KEYS} and {KEYS_FILE} are set: set one of them")
        text, where = run_files.read_text(Path(file), most=1 << 16), visible(file)
    return parse(text, where) if text or file else None


@functools.lru_cache(maxsize=2)  # an export asks for each row that it opens
def parse(text: str, where: str) -> Keys:
    """Keys separated by white space. Raises UserError that names the place of one that is none."""
    found = []
    for number, word in enumerate(text.split(), 1):
        if not (match := _KEY.fullmatch(word)):
            raise UserError(f"{where}: key {number} is none that almanac seal --new-key made")
        found.append(base64.urlsafe_b64decode(match[1] + "="))
    return Keys(found)


def opened(blob: bytes, name: str) -> bytes:
    """The bytes as they were before they were sealed, if they are. Raises UserError as `Keys.open`, and without keys."""
    if not is_sealed(blob):
        return blob
    if (keys := from_environment()) is None:
        raise UserError(f"{visible(name)} is sealed: set {KEYS} or {KEYS_FILE} to open it")
    return keys.open(blob, name)


def new_key() -> str:
    return PREFIX + secrets.token_urlsafe(32)
