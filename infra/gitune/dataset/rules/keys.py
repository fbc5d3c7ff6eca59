"""API keys, passwords and other credentials. A finding names the kind and the place, never a character of the key.

detect-secrets 1.5 was measured first: 670 microseconds a line, and twelve findings in each line of plain prose, because
it judges files of code. Prefixes below are the vendors' own, most of them also in gitleaks' rules.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gitune.dataset.chat import Example
from gitune.dataset.rules.base import Context, Hit
from gitune.dataset.rules.text import texts

_HINT = "remove it, and revoke it: whoever can read the file has it"


class _Kind(NamedTuple):
    guard: str  # searching for a literal costs a fortieth of searching for a pattern
    name: str
    pattern: re.Pattern[str]


class Secret(NamedTuple):
    """Where a credential stands, and what kind it is."""

    start: int
    end: int
    name: str


def _kind(guard: str, name: str, pattern: str) -> _Kind:
    return _Kind(guard, name, re.compile(rf"(?<![A-Za-z0-9]){pattern}"))


_KINDS = (
    _kind("sk-", "an OpenAI or Anthropic key", r"sk-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{20,}"),
    *(_kind(p, "an AWS access key", rf"{p}[A-Z0-9]{{16}}(?![A-Z0-9])") for p in ("AKIA", "ASIA")),
    *(_kind(p, "a GitHub token", rf"{p}[A-Za-z0-9]{{36,}}") for p in ("ghp_", "gho_", "ghu_", "ghs_", "ghr_")),
    _kind("github_pat_", "a GitHub token", r"github_pat_[A-Za-z0-9_]{22,}"),
    _kind("glpat-", "a GitLab token", r"glpat-[\w-]{20,}"),
    _kind("xox", "a Slack token", r"xox[abeprs]-[A-Za-z0-9-]{10,}"),
    _kind("AIza", "a Google key", r"AIza[\w-]{35}"),
    _kind("_live_", "a Stripe key", r"[rsp]k_live_[A-Za-z0-9]{16,}"),
    _kind("_test_", "a Stripe key", r"[rsp]k_test_[A-Za-z0-9]{16,}"),
    _kind("hf_", "a Hugging Face token", r"hf_[A-Za-z0-9]{30,}"),
    _kind("SG.", "a SendGrid key", r"SG\.[\w-]{16,}\.[\w-]{16,}"),
    _kind("npm_", "an npm token", r"npm_[A-Za-z0-9]{36}"),
    _kind("pypi-", "a PyPI token", r"pypi-[\w-]{50,}"),
    _kind("pul-", "a Pulumi token", r"pul-[0-9a-f]{40}"),
    _kind("dop_v1_", "a DigitalOcean token", r"dop_v1_[0-9a-f]{64}"),
    _kind("dapi", "a Databricks token", r"dapi[0-9a-f]{32}"),
    _kind("gsk_", "a Groq key", r"gsk_[A-Za-z0-9]{40,}"),
    _kind("nvapi-", "an NVIDIA key", r"nvapi-[\w-]{40,}"),
    _kind("eyJ", "a JSON web token", r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
    _kind("PRIVATE KEY-", "a private key", r"-----BEGIN (?:[A-Z]{2,10} ){0,3}PRIVATE KEY-----"),
    _kind("://", "a URL with a password", r"[a-z][a-z0-9+.-]{1,20}://[^\s:/@]{1,100}:[^\s:/@]{3,100}@"),
)
_WORDS = ("key", "token", "secret", "passw", "credential", "bearer", "auth")
_ASSIGNMENT = re.compile(
    r"""(?:api[ _-]?key|access[ _-]?key|secret|token|passw(?:or)?d|credentials?|auth(?:orization)?)\w{0,20}
        ["']?\s{0,3}(?:is\b\s{0,3}:?|[:=])\s{0,3}(?:bearer\s|basic\s)?["'`]?
        ([A-Za-z0-9+/_.~-]{16,200})={0,2}""",
    re.VERBOSE | re.IGNORECASE,
)
_BITS = 3.5
"""Shannon entropy, bits a character, from which an assigned value is taken for random. Sixteen random letters and
digits have 3.5 to 4; English words run together, of the same length, 2.8 to 3.5, and hold no digit."""


def secrets(text: str) -> Iterator[Secret]:
    """Every credential in the text; one that stands in an assignment and has a known prefix is found twice."""
    for guard, name, pattern in _KINDS:
        if guard in text:
            for match in pattern.finditer(text):
                if not _placeholder(match[0]):
                    yield Secret(*match.span(), name)
    lower = text.casefold()
    if any(word in lower for word in _WORDS):
        for match in _ASSIGNMENT.finditer(text):
            if _random(match[1]) and not _placeholder(match[1]):
                yield Secret(*match.span(1), "a secret")


def api_key(examples: Sequence[Example], _context: Context) -> Iterator[Hit]:
    """Examples that hold a credential."""
    for index, example in enumerate(examples):
        found = [(name, secret) for name, text in texts(example) for secret in secrets(text)]
        if found:
            name, secret = found[0]
            yield Hit(index, f"{secret.name} in {name} at character {secret.start + 1}", _HINT)


def entropy(text: str) -> float:
    """Shannon entropy of the characters, in bits a character: -sum p log2 p (Shannon 1948)."""
    counts = Counter(text).values()
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts)


def _random(value: str) -> bool:
    mixed = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    return mixed and entropy(value) >= _BITS


def _placeholder(value: str) -> bool:
    """Written for documentation: AWS's own ...EXAMPLE, a row of x, one character repeated."""
    return value.endswith("EXAMPLE") or "xxxx" in value.casefold() or "****" in value or len(set(value[8:])) <= 2
