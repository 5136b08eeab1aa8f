#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""seqtopk.route(team=): processes of torch.distributed (Gloo) against one: check_team.py"""

import os
import socket
import subprocess
import sys

import harness
from harness import check

torch, np = harness.need("torch", "numpy")
import seqtopk
import seqtopk.torch

RANKS = (2, 4)
CASES = [({"k": 8, "min": 1, "max": "k+2", "norm": "sum"}, 700, 128), ({"k": 2, "score": "sigmoid"}, 90, 16),
         ({"k": 3}, 4000, 32)]


def logits_of(tokens, experts, ties):
    values = np.random.default_rng(tokens).standard_normal((tokens, experts)).astype(np.float32)
    return np.round(values) if ties else values


def misleading(tokens, experts, ranks):
    """Logits whose sampled rows (src/team/rank.c) are larger than all others; for up to 1,024 rows of each rank."""
    logits = logits_of(tokens, experts, False)
    for r in range(ranks):
        own = np.arange(tokens * r // ranks, tokens * (r + 1) // ranks)
        for i in range(16):
            stratum, x = own[len(own) * i // 16 : len(own) * (i + 1) // 16], i
            x = (x ^ x >> 16) * 0x7FEB352D % 2**32
            x = (x ^ x >> 15) * 0x846CA68B % 2**32
            logits[stratum[(x ^ x >> 16) % len(stratum)]] += 8
    return logits


def rounds(team, logits, **options):
    """How many all-reduces a route takes, and its lists."""
    called, add = [], team.allreduce_sum
    team.allreduce_sum = lambda words: (called.append(len(words)), add(words))
    routing = seqtopk.route(logits, **options, team=team)
    return routing, len(called)


def rank():
    """One process: its part of each case, compared with that of the whole."""
    torch.distributed.init_process_group("gloo")
    team = seqtopk.torch.team()
    for options, tokens, experts in CASES:
        for ties in (False, True):
            logits = logits_of(tokens, experts, ties)
            first, last = tokens * team.rank // team.size, tokens * (team.rank + 1) // team.size
            whole, own = seqtopk.route(logits, **options), seqtopk.route(logits[first:last], **options, team=team)
            pairs = slice(whole.token_offsets[first], whole.token_offsets[last])
            check(np.array_equal(own.token_offsets, whole.token_offsets[first : last + 1] - pairs.start), "offsets")
            check(np.array_equal(own.expert_ids, whole.expert_ids[pairs]), "ids")
            check(np.array_equal(own.weights, whole.weights[pairs]), "weights")
    logits = misleading(1200, 32, team.size)
    first, last = 1200 * team.rank // team.size, 1200 * (team.rank + 1) // team.size
    options = {"k": 4, "min": 1, "max": 6, "score": "logits"}
    sample, few = rounds(seqtopk.torch.team(), logits[first:last], **options)
    counted, least = rounds(seqtopk.torch.team(count_all=True), logits[first:last], **options)
    check(few > 3 >= least, f"{few} all-reduces where a sample misleads, {least} with count_all")
    check(np.array_equal(sample.expert_ids, counted.expert_ids), "the same lists with count_all")
    logits = logits_of(100, 16, False)
    logits[61, 3] = np.nan  # all are told, by the token's place in the whole
    try:
        seqtopk.route(logits[100 * team.rank // team.size : 100 * (team.rank + 1) // team.size], 2, team=team)
        check(False, "a NaN")
    except seqtopk.NonfiniteError as error:
        check(error.token == 61, f"token {error.token}")

    class Broken:
        rank, size = 0, 2

        def allreduce_sum(self, words):
            raise RuntimeError("the line is cut")

        exscan_sum = allreduce_sum

    try:
        seqtopk.route(logits[:10], 2, team=Broken())
        check(False, "an exception of a team")
    except RuntimeError as error:
        check("the line is cut" in str(error), str(error))
    torch.distributed.destroy_process_group()
    harness.report()


def main():
    for size in RANKS:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        common = dict(os.environ, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE=str(size),
                      OMP_NUM_THREADS="1")
        processes = [subprocess.Popen([sys.executable, __file__, "--rank"], env=dict(common, RANK=str(r)))
                     for r in range(size)]
        check(not any([process.wait(timeout=400) for process in processes]), f"{size} processes")
        print(f"{size} processes: what one gives their tokens")
    harness.report()


if __name__ == "__main__":
    rank() if "--rank" in sys.argv else main()
