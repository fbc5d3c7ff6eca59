"""Personal data: e-mail addresses, phone numbers, payment cards. A finding says where, never what."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from gitune.dataset.chat import Example
from gitune.dataset.rules.base import Context, Hit, Rule
from gitune.dataset.rules.text import texts

Spans: TypeAlias = Iterator[tuple[int, int]]
Finder: TypeAlias = Callable[[str], Spans]

_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}@((?:[^\W_](?:[\w-]{0,62})\.){1,8}[^\W\d_]{2,24})(?![\w-])")
# RFC 2606 and RFC 6761: names that nobody can own, made for documentation and tests.
# And image files, whose double-resolution copies are named logo@2x.png.
_RESERVED = re.compile(
    r"(?:^|\.)(?:example\.(?:com|net|org)|example|test|invalid|localhost|png|jpe?g|gif|svg|webp)$", re.IGNORECASE
)

_PHONE = re.compile(
    r"""
    (?<![\w+.@/-])
    (?: \+[1-9][0-9]{0,2} (?:[ ./-]?\(?[0-9]{1,4}\)?){2,7}                              # international, E.164
      | (?:\+?1[ .-])? (?:\([2-9][0-9]{2}\)[ ]?|[2-9][0-9]{2}[ .-]) [2-9][0-9]{2}[ .-][0-9]{4}   # North America
      | \(?0[1-9][0-9]{0,3}\)? (?:[ ./-][0-9]{2,4}){2,4}                                # national, with trunk 0
      | \(?0[1-9][0-9]{1,4}\)? [ /-][0-9]{5,8}
    )
    (?![\w-]|[.,][0-9])
    """,
    re.VERBOSE,
)
_DATE = re.compile(r"[0-9]{2}([./-])[0-9]{2}\1[0-9]{4}")
_FICTION = re.compile(r"55501[0-9]{2}$")  # 555-0100 to 555-0199: kept for fiction by the North American plan

_CARD = re.compile(r"(?<![\w.+-])[0-9](?:[ -]?[0-9]){12,18}(?![\w-]|[.,][0-9])")
# Leading digits of the large networks (ISO/IEC 7812): Visa, Mastercard, American Express, Discover, JCB, Diners,
# UnionPay, Maestro. Without them every tenth long number passes Luhn.
_ISSUER = re.compile(
    r"4|5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)|3[47]|6(?:011|4[4-9]|5)|35|3(?:0[0-5]|[689])|62|50|67"
)


def emails(text: str) -> Spans:
    """Where addresses stand, but for reserved domains."""
    if "@" in text:
        yield from (m.span() for m in _EMAIL.finditer(text) if not _RESERVED.search(m[1]))


def phones(text: str) -> Spans:
    """Where phone numbers stand: 8 to 15 digits (ITU-T E.164), written as people write them."""
    for match in _PHONE.finditer(text):
        digits = re.sub(r"[^0-9]", "", match[0])
        enough = 8 if match[0].startswith("+") else 9
        if enough <= len(digits) <= 15 and not _DATE.match(match[0]) and not _FICTION.search(digits):
            yield match.span()


def cards(text: str) -> Spans:
    """Where card numbers stand: a known network's digits and a right check digit."""
    for match in _CARD.finditer(text):
        digits = re.sub(r"[ -]", "", match[0])
        if _ISSUER.match(digits) and len(set(digits)) > 1 and luhn(digits):
            yield match.span()


def luhn(digits: str) -> bool:
    """Whether the last digit checks the others (ISO/IEC 7812-1, annex B)."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(doubled) + sum(int(digit) for digit in digits[-1::-2])) % 10 == 0


def rule_of(finder: Finder, what: str, hint: str) -> Rule:
    """One hit for each example in which the finder finds something."""

    def rule(examples: Sequence[Example], _context: Context) -> Iterator[Hit]:
        for index, example in enumerate(examples):
            found = [(name, start) for name, text in texts(example) for start, _ in finder(text)]
            if found:
                name, start = found[0]
                more = f", and {len(found) - 1} more" if len(found) > 1 else ""
                yield Hit(index, f"{what} in {name} at character {start + 1}{more}", hint)

    return rule


email = rule_of(emails, "an e-mail address", "replace it by one at example.com, or leave the example out")
phone = rule_of(phones, "a phone number", "replace it by one like 555-0100, or leave the example out")
credit_card = rule_of(cards, "a credit card number", "remove it, or leave the example out")
