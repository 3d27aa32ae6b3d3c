"""Bearer tokens: a TOML file has a table for each, by name. The secrets themselves are kept nowhere.

[alice]
sha256 = "..."               # of the secret
expires = 2027-06-30         # in UTC: a date, at its beginning, or a time; this and what follows may be left out
admin = true                 # may change the models' versions
requests_per_minute = 60
tokens_per_minute = 20_000   # tokens of text, read and generated
largest_body = 1_000_000     # bytes
"""

import datetime
import hashlib
import logging
import re
import secrets
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from research.data import user_files
from research.util.errors import UserError, nearest
from research.util.escape import visible
from research.util.files import write_errors, write_text

PREFIX = "almanac_"  # of every secret, so that one in the wrong place can be searched for
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
DIGEST = re.compile(r"[0-9a-f]{64}")
log = logging.getLogger("almanac.serve")


class Token(NamedTuple):
    """Who may ask, until when (seconds since 1970), whether for another version to answer, and how much."""

    name: str
    sha256: str
    expires: float | None = None
    admin: bool = False
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    largest_body: int | None = None


BOUNDS = ("requests_per_minute", "tokens_per_minute", "largest_body")


def read(file: Path) -> list[Token]:
    """The tokens of a file. Raises UserError, which names the line or the key, if it is not as this module's head says."""
    try:
        tables = tomllib.loads(user_files.read(file))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{file} is no TOML: {visible(error)}") from None
    found = [_token(file, name, table) for name, table in tables.items()]
    if len({token.sha256 for token in found}) < len(found):
        raise UserError(f"{file}: two tokens have the same sha256")
    return found


class Watched:
    """The tokens of a file as it is now. Raises UserError at first; of a later fault the log tells, and the tokens stay."""

    def __init__(self, file: Path):
        self._file, self._seen = file, _state(file)
        self._tokens = read(file)

    def __call__(self) -> list[Token]:
        """The same list until the file changes."""
        if (state := _state(self._file)) != self._seen:
            self._seen = state
            try:
                self._tokens = read(self._file)
                log.info("%s has changed: %d tokens", visible(self._file), len(self._tokens))
            except UserError as error:
                log.error("%s; the tokens from before it changed stay", error)
        return self._tokens


def _state(file: Path) -> tuple[int, ...]:
    try:
        about = file.stat()
        return about.st_ino, about.st_size, about.st_mtime_ns
    except OSError:
        return ()


def add(file: Path, name: str) -> str:
    """Adds a new token to a file, which is made if there is none and is then its owner's alone (mode 0600).

    Returns the secret: 256 random bits, so that a plain SHA-256 of it cannot be searched. Raises UserError if the file has a
    fault or a token of this name, or if there can be no such name.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"the token's name {visible(name)!r}: 1 to 64 letters, digits, '_' and '-'")
    known = file.exists()
    if known and any(token.name == name for token in read(file)):
        raise UserError(f"{file} has a token {name} already; remove it there first, or choose another name")
    secret = PREFIX + secrets.token_urlsafe(32)
    before = user_files.read(file).rstrip("\n") + "\n\n" if known else ""
    with write_errors(file.parent):
        write_text(file, f'{before}[{name}]\nsha256 = "{digest(secret.encode())}"\n')
        file.chmod(0o600)
    return secret


def digest(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()


def _token(file: Path, name: str, table: Any) -> Token:
    place = f"{file}: {visible(name)}"
    if not isinstance(table, dict):
        raise UserError(f"{place} is no table: write [NAME], and below it sha256 = ...")
    if not NAME.fullmatch(name):
        raise UserError(f"{place}: a name is 1 to 64 letters, digits, '_' and '-'")
    for key in table:
        if key not in (known := Token._fields[1:]):
            raise UserError(f"{place}.{visible(key)} is no key{nearest(key, known)}")
    if not DIGEST.fullmatch(str(table.get("sha256"))):  # its value is not shown: it may be the secret itself
        raise UserError(f"{place}.sha256: want 64 hexadecimal digits, as almanac serve --new-token writes them")
    for key in BOUNDS:
        if key in table and (type(table[key]) is not int or table[key] < 1):
            raise UserError(f"{place}.{key} = {visible(table[key])}: a whole number above 0")
    if type(table.get("admin", False)) is not bool:
        raise UserError(f"{place}.admin = {visible(table['admin'])}: true or false")
    return Token(name, **{**table, "expires": _seconds(f"{place}.expires", table.get("expires"))})


def _seconds(place: str, value: Any) -> float | None:
    """A date or a time, of UTC if it names no zone -> seconds since 1970."""
    if value is None:
        return None
    if not isinstance(value, datetime.date):  # which a datetime is too
        raise UserError(f"{place} = {visible(value)}: a date or a time without quotation marks, such as 2027-06-30")
    if not isinstance(value, datetime.datetime):
        value = datetime.datetime.combine(value, datetime.time())
    return (value if value.tzinfo else value.replace(tzinfo=datetime.UTC)).timestamp()
