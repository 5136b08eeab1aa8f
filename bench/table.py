#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs a benchmark of this folder and prints a Markdown table of medians.

    bench/table.py build/bench/bench-route --filter 'sequence/8192x256'

Repetitions of all benchmarks are interleaved at random, so that a change of the machine's speed meets all of them.
ns/token, Melem/s (logits): of the median. spread: interquartile range over the median. floors: times the fastest score
kernel of the same shape over f32 logits. peers: how many times as fast as the best peer of the same group.
"""
import argparse
import json
import statistics
import subprocess
import sys


def measure(arguments):
    command = [
        arguments.binary,
        "--benchmark_format=json",
        "--benchmark_enable_random_interleaving=true",
        f"--benchmark_repetitions={arguments.repetitions}",
        f"--benchmark_min_time={arguments.min_time}",
        f"--benchmark_filter={arguments.filter}",
    ]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if not answer.stdout.strip():
        sys.exit(f"{arguments.binary}: exit {answer.returncode}, no output; does the filter match anything?")
    return json.loads(answer.stdout)["benchmarks"], answer.returncode


def summarise(runs):
    """name -> median ns, spread, tokens, elements."""
    times, work = {}, {}
    # Interleaving shuffles them; a family is one registered benchmark.
    for run in sorted(runs, key=lambda run: run["family_index"]):
        if run["run_type"] != "iteration":
            continue
        name = run["run_name"]
        for suffix in ("/real_time", "/manual_time"):
            name = name.removesuffix(suffix)
        if run.get("error_occurred"):
            print(f"{name}: {run['error_message']}", file=sys.stderr)
            continue
        scale = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}[run["time_unit"]]
        times.setdefault(name, []).append(run["real_time"] * scale)
        work[name] = (run["tokens"], run["elements"])
    rows = {}
    for name, samples in times.items():
        median = statistics.median(samples)
        quartiles = statistics.quantiles(samples, n=4) if len(samples) > 1 else [median] * 3
        rows[name] = (median, (quartiles[2] - quartiles[0]) / median, *work[name])
    return rows


def split(name):
    """op or scope, shape, what."""
    head, shape, budget, what = name.split("/")
    return head, f"{shape} {budget}", what


def is_floor(head, what):
    return what.startswith("floor:") or (head == "lse" and "_f32__" in what)


def print_table(rows):
    floors, peers = {}, {}
    for name, (median, *_) in rows.items():
        head, shape, what = split(name)
        if is_floor(head, what):
            # Kernels share the floor of their shape; a whole route has its own, measured beside it.
            key = (head if what.startswith("floor:") else None, shape)
            floors[key] = min(floors.get(key, median), median)
        if what.startswith("peer:"):
            peers[head, shape] = min(peers.get((head, shape), median), median)

    print("| stage | shape | what | us | spread | ns/token | Melem/s | floors | peers |")
    print("|---|---|---|--:|--:|--:|--:|--:|--:|")
    for name, (median, spread, tokens, elements) in rows.items():
        head, shape, what = split(name)
        floor = floors.get((head, shape), floors.get((None, shape)))
        peer = None if what == "read" or what.startswith("floor:") else peers.get((head, shape))
        cells = [
            head, shape, what,
            f"{median / 1e3:.1f}", f"{spread:.1%}", f"{median / tokens:.1f}", f"{elements / median * 1e3:.0f}",
            f"{median / floor:.2f}" if floor else "", f"{peer / median:.2f}" if peer else "",
        ]
        print("| " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", help="bench-route or bench-kernels in the build directory")
    parser.add_argument("--filter", default=".", help="regular expression on names (default: all)")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--min-time", type=float, default=0.05, help="seconds for each repetition (default: 0.05)")
    arguments = parser.parse_args()
    runs, status = measure(arguments)
    print_table(summarise(runs))
    return status


if __name__ == "__main__":
    sys.exit(main())
