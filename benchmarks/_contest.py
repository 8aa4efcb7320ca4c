"""Contestants in turn: each in a process of its own, A B C A B C, so that a drift of the machine's speed
touches all."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Contestant:
    run: Callable[[argparse.Namespace], list[float]]
    """Options to measurements."""
    backend: str
    """KERAS_BACKEND of its process."""


def timed(draw: Callable[[int], object], draws: int) -> list[float]:
    """Seconds of each `draw(seed)`, after one that does not count."""
    draw(0)
    found = []
    for seed in range(draws):
        started = time.perf_counter()
        draw(seed)
        found.append(time.perf_counter() - started)
    return found


def contest(
    module: str,
    contestants: dict[str, Contestant],
    parser: argparse.ArgumentParser,
    unit: str,
    peers: list[str],
    higher: bool,
    rounds: int = 3,
) -> None:
    """Run all contestants, and print their medians beside that of the best peer.

    Args:
        module: This benchmark's, which the processes run.
        parser: With the benchmark's own options, which travel to the processes.
        higher: More is better.
    """
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--only", choices=list(contestants), help="one contestant, in this process")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(contestants[options.only].run(options)))
        return
    results: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(options.rounds):
        for name, contestant in contestants.items():
            results[name] += _measured(module, name, contestant.backend)
    medians = {name: statistics.median(values) for name, values in results.items()}
    best = (max if higher else min)(medians[name] for name in peers)
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    print(f"| | median {unit} | min | max | against the fastest peer |\n|---|---|---|---|---|")
    for name, values in results.items():
        gain = medians[name] / best if higher else best / medians[name]
        numbers = " | ".join(f"{v:.4g}" for v in (medians[name], min(values), max(values)))
        print(f"| {name} | {numbers} | {gain:.2f}x |")


def _measured(module: str, name: str, backend: str) -> list[float]:
    """One contestant's numbers, from a new process with the same arguments."""
    done = subprocess.run(
        [sys.executable, "-m", module, *sys.argv[1:], "--only", name],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])
