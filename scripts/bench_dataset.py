"""A million chat examples → five mixed, stratified samples of 5,000: gitune beside what one would write oneself.

Every entrant does the same work in a fresh process: read all examples of five agents, check their schema, drop exact
duplicates, and write for each agent 5,000 examples, 60 % its own and 10 % of each other, in proportion to their
category. They choose by a hash or by a seeded shuffle, as each library does best. `read` is the floor: the bytes alone.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

AGENTS = ("analyst", "content", "legal", "qa", "support")
CATEGORIES = 20
SAMPLE = 5_000
OWN, OTHER = 0.6, 0.1
DUPLICATES = 0.01
TARGETS = {"datasets": 5.0, "json": 4.0, "polars": 1.0}


def generate(folder: Path, examples: int) -> int:
    """Five files of chat JSONL, the same for the same number. Returns bytes."""
    order = random.Random(4)
    words = ["".join(order.choices("abcdefghijklmnopqrstuvwxyz", k=order.randint(2, 9))) for _ in range(4_000)]
    size = 0
    for number, agent in enumerate(AGENTS):
        order = random.Random(number)
        lines: list[str] = []
        path = folder / "agents" / agent / "data" / "train.jsonl"
        path.parent.mkdir(parents=True)
        with path.open("w", encoding="utf-8") as file:
            for i in range(examples // len(AGENTS)):
                if lines and order.random() < DUPLICATES:
                    line = order.choice(lines)
                else:
                    line = _line(order, words, agent, i)
                lines.append(line)
                if len(lines) == 10_000:
                    file.write("".join(lines))
                    lines = []
            file.write("".join(lines))
        size += path.stat().st_size
    return size


def _line(order: random.Random, words: Sequence[str], agent: str, number: int) -> str:
    category = f"{agent}-{min(int(order.expovariate(0.2)), CATEGORIES - 1)}"
    turns = (
        ("system", f"You are the {agent} agent. Answer in one line."),
        ("user", f"{number}: {' '.join(order.choices(words, k=28))}?"),
        ("assistant", f"{' '.join(order.choices(words, k=4))}."),
    )
    messages = [{"role": role, "content": content} for role, content in turns]
    return json.dumps({"messages": messages, "category": category}) + "\n"


def files(folder: Path) -> dict[str, Path]:
    return {agent: folder / "agents" / agent / "data" / "train.jsonl" for agent in AGENTS}


def quota(agent: str, source: str) -> int:
    return round(SAMPLE * (OWN if agent == source else OTHER))


def deal(total: int, sizes: dict[str, int]) -> dict[str, int]:
    """Largest remainder, for the entrants that have none."""
    whole = sum(sizes.values())
    counts = {name: total * size // whole for name, size in sizes.items()}
    rest = sorted(sizes, key=lambda name: (-(total * sizes[name] % whole), name))
    for name in rest[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def good(messages: Any) -> bool:
    """The schema: roles in turns, and content that is text and not empty."""
    if not isinstance(messages, list) or not messages:
        return False
    turns = messages[1:] if messages[0].get("role") == "system" else messages
    if not turns or len(turns) % 2:
        return False
    for place, message in enumerate(turns):
        if message.get("role") != ("user", "assistant")[place % 2]:
            return False
    return all(isinstance(m.get("content"), str) and m["content"].strip() for m in messages)


def canonical(messages: Any) -> str:
    return json.dumps({"messages": messages}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def write(folder: Path, name: str, agent: str, lines: Iterable[str]) -> int:
    path = folder / "out" / name / f"{agent}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = list(lines)
    path.write_text("".join(f"{line}\n" for line in chosen), encoding="utf-8")
    return len(chosen)


def run_read(folder: Path) -> int:
    for path in files(folder).values():
        with path.open("rb", buffering=0) as file:
            while file.read(8 << 20):
                pass
    return 0


def run_gitune(folder: Path) -> int:
    from gitune.dataset import build_dataset, write_dataset
    from gitune.dataset.rules import DEFAULTS
    from gitune.spec import load_agents

    rules = {**dict.fromkeys(DEFAULTS, "off"), "exact-duplicate": "drop"}
    for agent in AGENTS:
        mix = {other: OWN if other == agent else OTHER for other in AGENTS}
        spec = {
            "dataset": {
                "sources": [{"path": "data/train.jsonl"}],
                "validation": 0.0,
                "examples": SAMPLE,
                "stratify_by": "category",
                "mix": mix,
                "rules": rules,
            },
            "benchmark": {"cases": "cases.jsonl"},
        }
        (folder / "agents" / agent / "agent.yaml").write_text(json.dumps(spec))
        (folder / "agents" / agent / "cases.jsonl").write_text("")
    written = 0
    for spec in load_agents(folder):
        dataset = build_dataset(spec, folder)
        write_dataset(spec, dataset, folder)
        written += len(dataset.train)
    return written


def run_json(folder: Path) -> int:
    pools: dict[str, dict[str, list[tuple[bytes, str]]]] = {}
    for agent, path in files(folder).items():
        seen: set[bytes] = set()
        strata: dict[str, list[tuple[bytes, str]]] = defaultdict(list)
        with path.open(encoding="utf-8") as file:
            for raw in file:
                row = json.loads(raw)
                if not good(row["messages"]):
                    raise SystemExit(f"bad line: {raw}")
                line = canonical(row["messages"])
                digest = hashlib.sha256(line.encode()).digest()
                if digest not in seen:
                    seen.add(digest)
                    strata[row["category"]].append((digest, line))
        pools[agent] = strata
    for strata in pools.values():
        for rows in strata.values():
            rows.sort()
    return _write_pools(folder, "json", pools)


def _write_pools(folder: Path, name: str, pools: dict[str, dict[str, list[tuple[bytes, str]]]]) -> int:
    written = 0
    for agent in AGENTS:
        chosen: list[str] = []
        for source, strata in pools.items():
            counts = deal(quota(agent, source), {stratum: len(rows) for stratum, rows in strata.items()})
            chosen += [line for stratum, rows in strata.items() for _, line in rows[: counts[stratum]]]
        written += write(folder, name, agent, chosen)
    return written


def run_pandas(folder: Path) -> int:
    import pandas as pd

    frames = {}
    for agent, path in files(folder).items():
        frame = pd.read_json(path, lines=True, dtype=False)
        if not frame["messages"].map(good).all():
            raise SystemExit("bad line")
        frame["line"] = frame["messages"].map(canonical)
        frames[agent] = frame.drop(columns="messages").drop_duplicates("line")
    written = 0
    for agent in AGENTS:
        chosen: list[str] = []
        for source, frame in frames.items():
            counts = deal(quota(agent, source), frame["category"].value_counts().to_dict())
            for category, rows in frame.groupby("category"):
                chosen += rows.sample(counts[str(category)], random_state=0)["line"].tolist()
        written += write(folder, "pandas", agent, chosen)
    return written


def _read_batch(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {"line": [canonical(m) for m in batch["messages"]], "good": [good(m) for m in batch["messages"]]}


def run_datasets(folder: Path) -> int:
    os.environ["HF_HOME"] = str(folder / "hf")
    os.environ["HF_HUB_OFFLINE"] = "1"
    import datasets

    datasets.disable_progress_bars()
    tables: dict[str, Any] = {}
    by_category: dict[str, dict[str, list[int]]] = {}
    for agent, path in files(folder).items():
        table = datasets.load_dataset("json", data_files=str(path), split="train")
        table = table.map(_read_batch, batched=True, num_proc=os.cpu_count())
        if not all(table["good"]):
            raise SystemExit("bad line")
        seen: set[str] = set()
        keep = []
        strata: dict[str, list[int]] = defaultdict(list)
        for i, (line, category) in enumerate(zip(table["line"], table["category"], strict=True)):
            if line not in seen:
                seen.add(line)
                strata[category].append(len(keep))
                keep.append(i)
        tables[agent], by_category[agent] = table.select(keep), strata
    written = 0
    order = random.Random(0)
    for agent in AGENTS:
        parts = []
        for source, table in tables.items():
            counts = deal(quota(agent, source), {name: len(rows) for name, rows in by_category[source].items()})
            chosen = [i for name, rows in by_category[source].items() for i in order.sample(rows, counts[name])]
            parts.append(table.select(chosen))
        written += write(folder, "datasets", agent, datasets.concatenate_datasets(parts)["line"])
    return written


def run_polars(folder: Path) -> int:
    import polars as pl

    message = pl.Struct({"role": pl.String, "content": pl.String})
    schema = {"messages": pl.List(message), "category": pl.String}
    roles = pl.col("messages").list.eval(pl.element().struct.field("role")).list.join(",")
    empty = pl.col("messages").list.eval(pl.element().struct.field("content").str.strip_chars().str.len_bytes() == 0)
    pools = {}
    for agent, path in files(folder).items():
        frame = (
            pl.scan_ndjson(path, schema=schema)
            .with_columns(
                good=roles.str.contains(r"^(system,)?(user,assistant)(,user,assistant)*$") & ~empty.list.any(),
                line=pl.struct("messages").struct.json_encode(),
            )
            .select("category", "good", "line")
            .unique("line")
            .collect(engine="streaming")
        )
        if not frame["good"].all():
            raise SystemExit("bad line")
        pools[agent] = frame.with_columns(key=pl.col("line").hash(0)).sort("key")
    written = 0
    for agent in AGENTS:
        chosen: list[str] = []
        for source, frame in pools.items():
            sizes = dict(frame.group_by("category").len().iter_rows())
            counts = deal(quota(agent, source), sizes)
            limit = pl.col("category").replace_strict(counts, return_dtype=pl.Int64)
            chosen += frame.filter(pl.int_range(pl.len()).over("category") < limit)["line"].to_list()
        written += write(folder, "polars", agent, chosen)
    return written


ENTRANTS: dict[str, tuple[Callable[[Path], int], str]] = {
    "read": (run_read, ""),
    "gitune": (run_gitune, ""),
    "polars": (run_polars, "polars"),
    "json": (run_json, ""),
    "pandas": (run_pandas, "pandas"),
    "datasets": (run_datasets, "datasets"),
}


def measure(name: str, folder: Path) -> dict[str, Any]:
    """One entrant in a process of its own. Memory is that of the largest moment of the process and its children."""
    import psutil

    start = time.perf_counter()
    command = [sys.executable, __file__, "--entrant", name, "--folder", str(folder)]
    process = psutil.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, _memory(process))
        time.sleep(0.05)
    seconds = time.perf_counter() - start
    output, errors = process.communicate()
    if process.returncode:
        return {"name": name, "failed": (errors.strip().splitlines() or ["no output"])[-1]}
    told = json.loads(output.splitlines()[-1])
    return {"name": name, "seconds": seconds, "peak": max(peak, told["peak"]), "written": told["written"]}


def _memory(process: Any) -> int:
    """Resident bytes of the process and its children; what they share counts once for each.

    Not PSS, which is fairer: asking for that stops the process, and made it twice as slow.
    """
    import psutil

    total = 0
    for one in (process, *_children(process)):
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def _children(process: Any) -> list[Any]:
    import psutil

    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="*", choices=sorted(ENTRANTS), help="only these")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--entrant", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.entrant:
        written = ENTRANTS[arguments.entrant][0](arguments.folder)
        scale = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB on Linux
        print(json.dumps({"written": written, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale}))
        return 0
    with tempfile.TemporaryDirectory(prefix="gitune-bench-") as name:
        folder = Path(name)
        print(f"generating {arguments.examples:,} examples", file=sys.stderr)
        size = generate(folder, arguments.examples)
        time.sleep(2.5)  # nobody's data is younger than that, and gitune trusts no clock with less
        found = []
        for entrant, (_, package) in ENTRANTS.items():
            if arguments.only and entrant not in arguments.only:
                continue
            if package and importlib.util.find_spec(package) is None:
                found.append({"name": entrant, "missing": package})
                continue
            print(f"{entrant} ...", file=sys.stderr)
            found.append(measure(entrant, folder))
    report(found, size, arguments.examples, as_json=arguments.json)
    return 1 if any("failed" in row for row in found) else 0


def report(found: Sequence[dict[str, Any]], size: int, examples: int, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"examples": examples, "bytes": size, "entrants": found}, indent=2))
        return
    ours = next((row["seconds"] for row in found if row["name"] == "gitune" and "seconds" in row), None)
    print(f"{examples:,} examples, {size / 1e6:.0f} MB, {os.cpu_count()} cores → 5 samples of {SAMPLE:,}")
    print(f"{'':10}{'seconds':>9}{'x gitune':>10}{'MB/s':>8}{'peak MB':>9}  {'written':>7}")
    for row in found:
        if "seconds" not in row:
            why = f"{row['missing']} is not installed" if "missing" in row else f"failed: {row['failed']}"
            print(f"{row['name']:10}{why}")
            continue
        ratio = f"{row['seconds'] / ours:.1f}" if ours else ""
        target = TARGETS.get(row["name"])
        wanted = f"  wanted: more than {target:g}" if target and ratio else ""
        print(
            f"{row['name']:10}{row['seconds']:9.2f}{ratio:>10}{size / 1e6 / row['seconds']:8.0f}"
            f"{row['peak'] / 1e6:9.0f}  {row['written']:7,}{wanted}"
        )


if __name__ == "__main__":
    sys.exit(main())
