"""What is taken out of texts, and what looks like it and stays: cards of the networks' own test numbers, fictitious phones."""

import time

import pytest

from research.serving.monitor.redaction import redact

EMAILS = ["a.b+c@example.co.uk", "ada@example.org", "ADA_1%x@mail.example"]
CARDS = [  # test numbers that the networks publish, which satisfy Luhn's formula: 13 to 19 digits
    "4222222222222", "3056 930902 5904", "378282246310005", "3782 822463 10005", "4111 1111 1111 1111", "4111-1111-1111-1111",
    "5500000000000004", "6011000990139424", "6304000000000000000", "4111\u00a01111\u00a01111\u00a01111",
]  # fmt: skip
PHONES = [
    "+49 30 1234567", "+49 (0)30 123 45 67", "+1 555 123 4567", "+15551234567", "+33123456789", "+44 20 7946 0958",
    "(555) 123-4567", "555-123-4567", "555.123.4567", "1-800-555-0199", "(030) 1234567", "030 1234567", "030/1234567",
    "0171 2345678", "01712345678", "020 7946 0958", "01 23 45 67 89", "01.23.45.67.89", "0800 123 4567",
]  # fmt: skip
TRAPS = {
    "dates": ["2024-01-15", "15.01.2024", "01/02/2024", "01-02-2024 10:30", "01.02.2024 10:30:15", "2024-01-15T10:30:00Z"],
    "versions": ["1.2.3", "Python 3.12.1", "10.15.7-beta", "v2024.01.002"],
    "books": ["978-3-16-148410-0", "9783161484100", "978-0-201-89683-1", "3-16-148410-X", "ISBN 0306406152", "0-306-40615-2"],
    "prices": ["$1,299.00", "1 299 000 EUR", "12.345.678,90", "5 000 000 000"],
    "orders": ["4721", "#1234567890", "A-2024-00123", "INV-2023-001-4567", "4111 1111 1111 1112", "4721000123456", "00012345"],
    "addresses": ["192.168.0.1", "127.0.0.1:8000", "255.255.255.255", "10.0.0.12/24", "2001:db8::1"],
    "others": ["@ada", "x @ y.z", "1920x1080", "3.14159265358979", "550e8400-e29b-41d4-a716-446655440000", "1732786932"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "value"),
    [*(("e-mail", x) for x in EMAILS), *(("card", x) for x in CARDS), *(("phone", x) for x in PHONES)],
)
@pytest.mark.parametrize("text", ["{}", "It is {}.", "({}), please", "12 of them: {}\nand 7 more"])
def test_it_is_replaced_and_nothing_else_is(kind, value, text):
    assert redact(text.format(value)) == text.format(f"[{kind}]")


@pytest.mark.parametrize("value", [value for values in TRAPS.values() for value in values])
def test_what_looks_like_it_stays(value):
    for text in ("{}", "It is {}.", "from {} on"):
        assert redact(text.format(value)) == text.format(value)


def test_a_card_is_found_among_other_numbers():
    assert redact("4111 1111 1111 1111 12/26 123") == "[card] 12/26 123"
    assert redact("7 4111 1111 1111 1111") == "7 [card]"
    assert redact("5500-0000-0000-0004 4111-1111-1111-1111") == "[card] [card]"


@pytest.mark.parametrize("piece", ["1 ", "a", "a@", "0 1", "+1(", "(0", "12-", "()", "1", "+1 2 "])
def test_no_text_takes_long(piece):
    start = time.monotonic()
    redact(piece * (20_000 // len(piece)))
    assert time.monotonic() - start < 2
