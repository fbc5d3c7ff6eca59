"""Each rule trips on what it is for and on nothing else; nothing vanishes, and no secret is ever repeated."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitune.benchmark.cases import Case
from gitune.dataset.chat import Example, Message
from gitune.dataset.rules import DEFAULTS, RULES, Cleaned, Counts, Finding, Settings, apply
from gitune.dataset.rules.keys import secrets
from gitune.dataset.rules.personal import cards, emails, luhn, phones
from gitune.dataset.rules.report import FINDINGS_FILE, SUMMARY_FILE, findings_jsonl, summarise, write_report
from gitune.dataset.rules.text import jaccard
from gitune.hashing import canonical_json
from gitune.spec import RuleId, Severity

LONG = "My card was declined at the supermarket this morning and I do not understand why, can you help me"
OFF: dict[RuleId, Severity] = dict.fromkeys(get_args(RuleId), "off")


def chat(user: str, assistant: str = "card_declined", line: int = 1, system: str = "Name the intent.") -> Example:
    turns = (Message("system", system), Message("user", user), Message("assistant", assistant))
    return Example(turns, "train.jsonl", line)


def lines(*pairs: tuple[str, str] | str) -> list[Example]:
    rows = [(pair, "card_declined") if isinstance(pair, str) else pair for pair in pairs]
    return [chat(user, assistant, line) for line, (user, assistant) in enumerate(rows, start=1)]


def only(rule: RuleId, examples: Sequence[Example], severity: Severity = "error", **more: Any) -> Cleaned:
    cases: Sequence[Case] = more.pop("cases", ())
    return apply(examples, cases, Settings(severities={**OFF, rule: severity}, **more))


def case(user: str) -> Case:
    return Case("c1", (Message("system", "Another."), Message("user", user)), "card_declined", 7)


def test_every_rule_has_a_default_and_an_implementation() -> None:
    assert set(RULES) == set(DEFAULTS) == set(get_args(RuleId))


# Put together here, so that no scanner takes this file for a leak.
_RANDOM = random.Random(4)


def _token(prefix: str, length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return prefix + "".join(_RANDOM.choices(alphabet, k=length))


KEYS = {
    "OpenAI": _token("sk-" + "proj-", 48),
    "AWS": _token("AK" + "IA", 16, string.ascii_uppercase + string.digits),
    "GitHub": _token("gh" + "p_", 36),
    "GitLab": _token("glp" + "at-", 20),
    "Slack": _token("xo" + "xb-", 24),
    "Google": _token("AI" + "za", 35),
    "Stripe": _token("sk_" + "live_", 24),
    "Hugging Face": _token("h" + "f_", 34),
    "JWT": ".".join([_token("ey" + "J", 20), _token("ey" + "J", 30), _token("", 40)]),
    "private key": "-----BEGIN " + "RSA PRIVATE KEY-----",
    "URL": "postgres://admin:" + _token("", 12) + "@db.internal",
    "assignment": "api_key = '" + _token("7a", 30) + "'",
    "prose": "the password is: " + _token("7a", 20),
    "bearer": "Authorization: Bearer " + _token("7a", 40),
}
PERSONAL: dict[RuleId, list[str]] = {
    "email": ["jane.doe@acme-corp.com", "j+x@mail.acme.co.uk", "jörg@müller.de"],
    "phone": [
        "+1 415 523 2671",
        "+49 30 901820",
        "+44 (0)20 7183 8750",
        "(415) 523-2671",
        "415-523-2671",
        "030/9018200",
        "06 12 34 56 78",
        "+14155232671",
    ],
    "credit-card": ["4539 1488 0343 6467", "4539148803436467", "371449635398431", "5555-5555-5555-4444"],
}
INNOCENT = [
    "write to support@example.com or jane@shop.test, the handle @jane, 5 apples @ 3 dollars",
    "call 555-0100 or (212) 555-0142 on 2026-11-22 at 12:30, order 4711-0815, 01.02.2026 12:30",
    "48/2 = 24, 48+24 = 72, 1,234,567.89, version 10.0.19045.3803, ISBN 978-3-16-148410-0, 192.168.100.200",
    "card 1234 5678 9012 3456, id 0000 0000 0000 0000, 16 digits: 4539 1488 0343 6468",
    "AKIAIOSFODNN7EXAMPLE, token: xxxxxxxxxxxxxxxxxxxxxxxx, password: the_password_you_chose",
    "sk-learn-is-a-library-for-machine-learning and sk-ai-jump, task-" + "force-" * 9,
    "the key is to practise, a secret: internationalisation_of_everything, https://host:443/path@2x.png",
    "an api key is written api_key=<your-key-here>; a hash is 5d41402abc4b2a76b9719d911017c592",
]


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_is_found_and_never_repeated(kind: str) -> None:
    cleaned = only("api-key", [*lines(LONG), chat(f"please use {KEYS[kind]} for it", line=2)])
    (finding,) = cleaned.findings
    assert (finding.line, "messages[1] at character" in finding.message) == (2, True)
    report = findings_jsonl(cleaned) + str(cleaned.problems())
    secret = KEYS[kind]
    pieces = [secret[i : i + 8] for i in range(len(secret) - 7)]
    assert [piece for piece in pieces if piece in report] == []
    assert len(cleaned.problems()) == 1


@pytest.mark.parametrize(("rule", "value"), [(rule, value) for rule, values in PERSONAL.items() for value in values])
def test_personal_data_is_found_and_never_repeated(rule: RuleId, value: str) -> None:
    cleaned = only(rule, [chat(f"please reach me: {value}, thanks"), chat(LONG, f"Sure ({value}).", 2)], "drop")
    assert [f.line for f in cleaned.findings] == [1, 2]
    assert cleaned.kept == ()
    assert value not in findings_jsonl(cleaned)


@pytest.mark.parametrize("text", INNOCENT)
def test_what_only_looks_like_personal_data_or_a_key(text: str) -> None:
    found = {
        "email": list(emails(text)),
        "phone": list(phones(text)),
        "card": list(cards(text)),
        "key": list(secrets(text)),
    }
    assert found == {"email": [], "phone": [], "card": [], "key": []}


@given(st.text(), st.text(alphabet=" +-.()/@0123456789ab_:=", max_size=200))
def test_finders_take_any_text(one: str, other: str) -> None:
    for text in (one, other, one + other):
        for finder in (emails, phones, cards):
            assert all(0 <= start < end <= len(text) for start, end in finder(text))
        assert all(0 <= s.start < s.end <= len(text) for s in secrets(text))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", ["a" * 500_000, "a." * 250_000, "a@" * 250_000, "1 " * 250_000, "token = " * 60_000])
def test_long_lines_take_linear_time(text: str) -> None:
    for finder in (emails, phones, cards, secrets):
        list(finder(text))


@given(st.integers(10**14, 10**15 - 1), st.integers(1, 9))
def test_luhn_catches_every_single_wrong_digit(number: int, added: int) -> None:
    right = next(f"{number}{check}" for check in range(10) if luhn(f"{number}{check}"))
    for place in (0, 7, 15):
        wrong = right[:place] + str((int(right[place]) + added) % 10) + right[place + 1 :]
        assert not luhn(wrong)


def test_exact_duplicates() -> None:
    examples = lines("a", "b", "a", ("a", "other"), "a")
    cleaned = only("exact-duplicate", examples, "drop")
    assert [f.line for f in cleaned.findings] == [3, 5]
    assert cleaned.findings[0].message == "the same example as train.jsonl:1"
    assert [e.line for e in cleaned.kept] == [1, 2, 4]


def test_near_duplicates() -> None:
    near, far = LONG.replace("cannot", "can not") + "!", LONG.replace("card", "transfer").replace("declined", "late")
    assert jaccard(LONG, near) >= 0.9 > jaccard(LONG, far)
    cleaned = only("near-duplicate", lines(LONG, far, near, "short"), "drop")
    (finding,) = cleaned.findings
    assert finding.line in (1, 3)
    assert finding.message.startswith("nearly the same example as train.jsonl:")
    assert len(cleaned.kept) == 3


def test_a_shared_system_message_makes_nothing_near() -> None:
    system = "You are a careful assistant. " * 20
    examples = [chat("a b c d", "yes", 1, system), chat("w x y z", "no", 2, system), chat("a b c d", "yes", 3, "Else.")]
    assert only("near-duplicate", examples).findings == ()


@given(st.randoms(use_true_random=False))
@settings(max_examples=20)
def test_what_is_kept_does_not_depend_on_the_order(order: random.Random) -> None:
    examples = lines(*[f"{LONG} {i // 5} {'please' if i % 5 else ''}" for i in range(20)])
    shuffled = list(examples)
    order.shuffle(shuffled)
    for rule in ("near-duplicate", "contradiction"):
        one, other = only(rule, examples, "drop"), only(rule, shuffled, "drop")
        assert sorted(e.line for e in one.kept) == sorted(e.line for e in other.kept)


def test_contradictions() -> None:
    examples = lines(("Why?", "a"), ("why? ", "b"), ("WHY?", "A"), ("how", "a"), ("how", "b"), ("what", "x"), "else")
    cleaned = only("contradiction", examples, "drop")
    assert [f.line for f in cleaned.findings] == [2, 4, 5]  # the minority; both where nobody has a majority
    assert cleaned.findings[0].message == "another answer to the same question as train.jsonl:1"


def test_leaks_are_told_at_the_case() -> None:
    examples = lines("something else", "MY  card was declined")
    cleaned = only("leak", examples, cases=[case("my card was declined")], cases_file="cases.jsonl")
    assert str(cleaned.problems()[0]).startswith(
        "cases.jsonl:7: case 'c1' is also a training example (train.jsonl:2)\n  hint: remove it from one of them"
    )
    assert only("leak", examples, cases=[case("another")]).findings == ()
    assert only("leak", examples).findings == ()


def test_near_leaks() -> None:
    examples = lines("something else", LONG + "?", LONG)
    cleaned = only("near-leak", examples, "drop", cases=[case(LONG)])
    assert [f.line for f in cleaned.findings] == [2]  # line 3 is exact: the other rule's
    assert only("near-leak", examples, cases=[case("something different")]).findings == ()


def test_too_long() -> None:
    count = lambda examples: Counts([len(e.messages[1].content) for e in examples], "counted by letters")  # noqa: E731
    cleaned = only("too-long", lines("x" * 10, "x" * 11), max_tokens=10, count_tokens=count)
    assert [f.message for f in cleaned.findings] == ["11 tokens, more than the 10 that fit; counted by letters"]
    assert only("too-long", lines("x" * 11)).findings == ()


def test_language() -> None:
    german = "Meine Karte wurde heute im Supermarkt abgelehnt, und ich verstehe nicht, warum das so ist."
    examples = lines(LONG, german, "Hallo du")
    assert [f.line for f in only("language", examples, language="en").findings] == [2]
    assert [f.line for f in only("language", examples, language="de-DE").findings] == [1]
    assert only("language", examples).findings == ()


def test_encoding() -> None:
    examples = lines("CafÃ© crÃ¨me, trÃ¨s bon", "Café crème, tout à fait 👍 日本語", "caf\ufffd", "plain")
    found = only("encoding", examples).findings
    assert [f.line for f in found] == [1, 3]
    assert "U+FFFD" in found[1].message


@pytest.mark.parametrize(
    "roles",
    [("user",), ("assistant",), ("assistant", "user"), ("user", "system", "assistant"), ("system",), ("user", "user")],
)
def test_schema(roles: tuple[Any, ...]) -> None:
    bad = Example(tuple(Message(role, "x") for role in roles), "train.jsonl", 1)
    assert len(only("schema", [bad, chat("x")]).findings) == 1
    assert only("schema", [chat("x")]).findings == ()
    empty = Example((Message("user", "x"), Message("assistant", " ")), "train.jsonl", 1)
    assert len(only("schema", [empty]).findings) == 1


def test_a_rule_can_be_off_warn_drop_or_error() -> None:
    examples = lines("a", "a")
    for severity, kept, found, problems in (("off", 2, 0, 0), ("warn", 2, 1, 0), ("drop", 1, 1, 0), ("error", 2, 1, 1)):
        cleaned = only("exact-duplicate", examples, severity)  # type: ignore[arg-type]
        assert (len(cleaned.kept), len(cleaned.findings), len(cleaned.problems())) == (kept, found, problems)


def test_many_problems_are_cut_short_but_all_are_reported(tmp_path: Path) -> None:
    cleaned = only("email", lines(*[f"I am jane{i}@acme.com" for i in range(50)]))
    problems = cleaned.problems()
    assert len(problems) == 21
    assert problems[-1].message == "30 more findings of rule email"
    write_report(cleaned, tmp_path)
    assert len((tmp_path / FINDINGS_FILE).read_text().splitlines()) == 50
    assert json.loads((tmp_path / SUMMARY_FILE).read_text()) == {
        "read": 50,
        "kept": 50,
        "dropped": {},
        "errors": {"email": 50},
        "warnings": {},
    }


WORDS = st.sampled_from(["card", "lost", "jane@acme.com", "415-523-2671", "why", "refund", KEYS["GitHub"], "Ã©Ã¨"])
EXAMPLES = st.lists(st.tuples(st.lists(WORDS, min_size=1, max_size=6), st.sampled_from("ab")), max_size=25)
SEVERITIES = st.dictionaries(st.sampled_from(get_args(RuleId)), st.sampled_from(get_args(Severity)))


@given(EXAMPLES, SEVERITIES, st.lists(WORDS, min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_nothing_vanishes(pairs: list[tuple[list[str], str]], severities: Any, asked: list[str]) -> None:
    examples = lines(*[(" ".join(words), answer) for words, answer in pairs])
    cleaned = apply(examples, [case(" ".join(asked))], Settings(severities=severities, language="en"))
    dropped = [f.line for f in cleaned.findings if f.dropped]
    assert sorted([*dropped, *(e.line for e in cleaned.kept)]) == [e.line for e in examples]
    assert summarise(cleaned).read == len(examples)
    report = findings_jsonl(cleaned)
    assert not any(secret in report for secret in ("jane@acme.com", "415-523-2671", KEYS["GitHub"]))
    again = apply(cleaned.kept, [case(" ".join(asked))], Settings(severities=severities, language="en"))
    assert not any(f.dropped for f in again.findings)  # cleaning what is clean drops nothing


@given(st.lists(st.tuples(st.text(), st.integers(0, 2**63 - 1), st.text(), st.text(), st.booleans()), max_size=5))
def test_findings_are_canonical_json(found: list[tuple[str, int, str, str, bool]]) -> None:
    findings = tuple(Finding("schema", "warn", *finding) for finding in found)
    lines = findings_jsonl(Cleaned((), findings)).split("\n")[:-1]
    assert lines == [canonical_json(json.loads(line)) for line in lines]
    assert [json.loads(line)["reason"] for line in lines] == [finding.message for finding in findings]
