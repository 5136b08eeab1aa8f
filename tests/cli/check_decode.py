#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`seqtopk decode` against `seqtopk route`: check_decode.py SEQTOPK [--wrapper CMD]

Token m of a sequence must be given, to the bit, what a route over tokens 1 to m gives it; tokens taken jointly, what a
route over them gives them. What the command says of itself is compared with the files that it writes.
"""

import argparse
import json
import pathlib
import shlex
import subprocess
import sys
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
TRAINED = HERE.parent / "data" / "trained-e64-k8-layer1.npy"
FILES = ("token_offsets", "expert_ids", "weights", "expert_offsets", "expert_tokens", "expert_slots")

count = {"passed": 0, "failed": 0}


def check(fine, what):
    count["passed" if fine else "failed"] += 1
    if not fine:
        print("FAILED:", what)


def run(command, *arguments):
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)


def lists(folder):
    return {name: np.load(folder / (name + ".npy")) for name in FILES}


def token(of, t):
    here = slice(of["token_offsets"][t], of["token_offsets"][t + 1])
    return of["expert_ids"][here].tolist(), of["weights"][here].tobytes()


def route(command, folder, logits, flags):
    np.save(folder / "prefix.npy", logits)
    done = run(command, "route", folder / "prefix.npy", "--out", folder / "offline", *flags)
    if done.returncode:
        sys.exit(done.stderr)
    return lists(folder / "offline")


def follow(command, folder, logits, flags, joint=0):
    """Decodes logits [T, E], and routes every prefix of them."""
    np.save(folder / "logits.npy", logits)
    more = ("--joint", joint) if joint else ()
    done = run(command, "decode", folder / "logits.npy", "--out", folder / "online", "--json", *flags, *more)
    check(done.returncode == 0, done.stderr)
    if done.returncode:
        return
    online, told = lists(folder / "online"), json.loads(done.stdout)
    for m in [*range(max(joint, 1), min(joint + 12, len(logits)) + 1), len(logits) // 2, len(logits)]:
        if m < max(joint, 1):
            continue
        offline = route(command, folder, logits[:m], flags)
        first = 0 if m == joint else m - 1
        for t in range(first, m):
            check(token(online, t) == token(offline, t), f"token {t} of {m}: {flags} joint {joint}")
    check(told["selected"] == online["token_offsets"][-1], "selected")
    check(sum(r["experts"] * (r["last"] - r["first"] + 1) for r in told["ranges"]) - told["selected"] < 1e-6, "ranges")
    slots = online["expert_slots"]
    check(np.array_equal(np.sort(slots), np.arange(len(slots))), "every slot once")
    check(np.array_equal(np.repeat(np.arange(len(online["expert_offsets"]) - 1), np.diff(online["expert_offsets"])),
                         online["expert_ids"][slots]), "by expert")


def refuse(command, words, *arguments):
    done = run(command, "decode", *arguments)
    check(done.returncode != 0 and words in done.stderr, f"{arguments}: {done.stderr}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("seqtopk")
    parser.add_argument("--wrapper", default="", help="run the command by way of this one (an emulator)")
    args = parser.parse_args()
    command = shlex.split(args.wrapper) + [args.seqtopk]
    rng = np.random.default_rng(7)
    trained = np.load(TRAINED)
    trained = trained.reshape(-1, trained.shape[-2], trained.shape[-1])[0][:200]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        bounds = ("--min", 1, "--max", 10)
        follow(command, folder, trained, ("--top-k", 8, *bounds))
        follow(command, folder, trained, ("--top-k", 8, *bounds, "--norm", "sum"), joint=50)
        follow(command, folder, trained, ("--top-k", 4, "--score", "sigmoid", "--order", "rank"))
        random = rng.standard_normal((150, 40)).astype(np.float32)
        bias = rng.standard_normal(40).astype(np.float32) / 8
        np.save(folder / "bias.npy", bias)
        follow(command, folder, random, ("--top-k", 6, "--min", 2, "--max", 8, "--score", "sigmoid", "--bias",
                                         folder / "bias.npy", "--groups", 4, "--group-topk", 2))
        follow(command, folder, rng.integers(0, 4, (120, 16)).astype(np.float32),
               ("--top-k", 3, "--max", 5, "--score", "logits"))

        np.save(folder / "logits.npy", random)
        logits = folder / "logits.npy"
        plot = folder / "plot.svg"
        done = run(command, "decode", logits, "--top-k", 6, *bounds, "--ledger", "--plot", plot)
        check(done.returncode == 0 and "ledger" in done.stdout, done.stderr)
        check(plot.read_text().rstrip().endswith("</svg>"), "the picture is whole")
        done = run(command, "decode", logits, "--top-k", 6, *bounds, "--ledger", "--out", folder / "ledger")
        spent = np.load(folder / "ledger" / "token_offsets.npy")
        check((spent[1:] <= 6 * np.arange(1, len(spent))).all(), "a ledger never spends more than there was")
        done = run(command, "decode", logits, "--top-k", 6, *bounds, "--score", "logits", "--threshold", 0.5, "--out",
                   folder / "threshold")
        given = np.diff(np.load(folder / "threshold" / "token_offsets.npy"))
        check(np.array_equal(given, np.clip((random >= 0.5).sum(1), 1, 10)), "a threshold")

        grid = (np.round(random * 64) / 64).astype(np.float32)
        np.save(folder / "grid.npy", grid)
        of_mode = {}
        for mode in ("exact", "compact"):
            done = run(command, "decode", folder / "grid.npy", "--top-k", 6, *bounds, "--score", "logits", "--mode", mode,
                       "--json", "--out", folder / mode)
            check(done.returncode == 0 and json.loads(done.stdout)["mode"] == mode, done.stderr)
            of_mode[mode] = lists(folder / mode)
        check(all(np.array_equal(of_mode["exact"][name], of_mode["compact"][name]) for name in FILES),
              "on the grid compact is exact")

        refuse(command, "--top-k is missing", logits)
        refuse(command, "--mode says nothing", logits, "--top-k", 2, "--mode", "compact", "--threshold", 1)
        refuse(command, "--scope token", logits, "--top-k", 2, "--scope", "token")
        refuse(command, "--joint does not go with --ledger", logits, "--top-k", 2, "--joint", 5, "--ledger")
        refuse(command, "--threads", logits, "--top-k", 2, "--threads", 2)
        refuse(command, "--top-k 41", logits, "--top-k", 41)
        random[3, 5] = np.nan
        np.save(logits, random)
        refuse(command, "3", logits, "--top-k", 2)
    print(f"{count['passed']} passed, {count['failed']} failed")
    return count["failed"] > 0


if __name__ == "__main__":
    sys.exit(main())
