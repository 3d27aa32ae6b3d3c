"""E-mail addresses, phone numbers and card numbers, taken out of a text before it is stored.

These have a fixed form. Names, postal addresses and personal details in words have none, and stay.
"""

import re
from collections.abc import Iterator

_GAP = " \u00a0\u202f\u2010-\u2013-"  # spaces and dashes within a number
_EMAIL = re.compile(r"(?<![\w.+%-])[\w.+%-]+@[\w-]+(?:\.[\w-]+)+")  # a run is entered at its beginning: linear time
_DIGITS = re.compile(rf"(?<![\w.])\d(?:[{_GAP}]?\d)+(?!\w)")
_GROUP = re.compile(r"\d+")
_CARD = range(13, 20)  # digits
# Phone numbers are written internationally, as in North America, or with a leading zero and an area code.
_PHONE = re.compile(
    rf"""(?<![\w.{_GAP[3:]}/#])(?:
      \+\d(?:[{_GAP}./()]{{0,2}}\d){{6,14}}               # +49 (0)30 1234567
    | (?:1[{_GAP}.])?(?:\(\d{{3}}\)[ ]?|\d{{3}}[{_GAP}.])\d{{3}}[{_GAP}.]\d{{4}}      # (555) 123-4567
    | \(0[1-9]\d{{0,4}}\)[ ]?\d(?:[{_GAP}]?\d){{3,9}}           # (030) 1234567
    | 0[1-9]\d{{1,3}}[{_GAP}/]\d(?:[{_GAP}]?\d){{5,8}}          # 030 1234567, 020 7946 0958
    | 0[1-9](?:[{_GAP}.]?\d\d){{4}}                        # 01 23 45 67 89
    | 0[1-9]\d{{8,9}}                                      # 01712345678
    )(?![\w/]|[:.{_GAP[3:]}]\d)""",
    re.VERBOSE,
)
_AFTER_ISBN = re.compile(r"ISBN(?:-1[03])?:?\s?$", re.I)


def redact(text: str) -> str:
    """The text with [e-mail], [phone] and [card] in place of those.

    A card number has 13 to 19 digits that satisfy Luhn's formula (ISO/IEC 7812-1), with single spaces or dashes between them; an
    ISBN is none.

    >>> redact("Call +49 30 1234567 or write to ada@example.org. My card is 4111-1111-1111-1111.")
    'Call [phone] or write to [e-mail]. My card is [card].'
    """
    text = _DIGITS.sub(_without_cards, _EMAIL.sub("[e-mail]", text))
    return _PHONE.sub(
        lambda m: m[0] if _AFTER_ISBN.search(text[max(0, m.start() - 12) : m.start()]) else "[phone]", text
    )


def _without_cards(run: re.Match) -> str:
    """A run of groups of digits, in which consecutive groups may be a card number: an expiry date may follow it, for one."""
    groups, found, after = [group.span() for group in _GROUP.finditer(run[0])], [], 0
    for start, stop in _cards(run[0], groups):
        found += [run[0][after:start], "[card]"]
        after = stop
    return "".join([*found, run[0][after:]])


def _cards(run: str, groups: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The (start, stop) of card numbers in a run: from the left the longest, none within another."""
    first = 0
    while first < len(groups):
        digits, last = "", None
        for i in range(first, len(groups)):
            digits += run[slice(*groups[i])]
            if len(digits) > max(_CARD):
                break
            if len(digits) in _CARD and _luhn(digits) and not _is_isbn(digits):
                last = i
        if last is None:
            first += 1
        else:
            yield groups[first][0], groups[last][1]
            first = last + 1


def _luhn(digits: str) -> bool:
    """
    >>> _luhn("4111111111111111"), _luhn("4111111111111112")
    (True, False)
    """
    values = [int(c) for c in reversed(digits)]
    return (sum(values[::2]) + sum(sum(divmod(2 * x, 10)) for x in values[1::2])) % 10 == 0


def _is_isbn(digits: str) -> bool:
    """Whether 13 digits are a book's: its prefix, and its own check digit (ISO 2108)."""
    weighted = sum(int(c) * (1, 3)[i % 2] for i, c in enumerate(digits))
    return len(digits) == 13 and digits.startswith(("978", "979")) and weighted % 10 == 0
