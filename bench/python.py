#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What routing costs in Python, beside transformers' own routers in the same process: bench/python.py

Needs the package (pip install .) with torch and transformers. Their classes are called as they are, less the product that
makes logits (F.linear is replaced by what hands them over). Prints a table in Markdown, in microseconds, of the least of
several rounds: transformers with one thread of torch's and with all, whichever is faster; seqtopk with one, the call by
itself, and the call with token_offsets, expert_ids and weights taken as tensors.
"""

import argparse
import functools
import time
import types

import seqtopk
import torch
from transformers.models.deepseek_v3 import modeling_deepseek_v3
from transformers.models.olmoe import modeling_olmoe


def microseconds(call, seconds):
    call()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin, n = time.perf_counter(), 0
        while n < 3 or time.perf_counter() - begin < seconds / 20:
            call()
            n += 1
        best = min(best, (time.perf_counter() - begin) / n)
    return best * 1e6


def olmoe():
    """64 experts, K 8, softmax."""
    config = types.SimpleNamespace(num_experts_per_tok=8, num_experts=64, norm_topk_prob=False, hidden_size=64)
    return modeling_olmoe, modeling_olmoe.OlmoeTopKRouter(config), 64, {"preset": "olmoe"}


def deepseek_v3():
    """256 experts in 8 groups of which 4 stay, K 8, sigmoid, bias."""
    config = types.SimpleNamespace(num_experts_per_tok=8, num_local_experts=256, hidden_size=256, n_group=8, topk_group=4,
                                   norm_topk_prob=True, routed_scaling_factor=2.5)
    router = modeling_deepseek_v3.DeepseekV3TopkRouter(config)
    router.e_score_correction_bias.normal_(0, 0.01)
    return modeling_deepseek_v3, router, 256, {"preset": "deepseek-v3", "bias": router.e_score_correction_bias}


def lists(logits, words):
    routing = seqtopk.route(logits, **words)
    return routing.token_offsets, routing.expert_ids, routing.weights


def by_torch(call, seconds):
    """With one thread, and with as many as torch takes by itself."""
    most = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = microseconds(call, seconds)
    finally:
        torch.set_num_threads(most)
    return min(alone, microseconds(call, seconds))


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=0.5, help="for each figure")
    seconds = parser.parse_args().seconds
    print("| router | T | transformers | TopK: the call | with lists | times | SeqTopK [1, K + 2]: the call | with lists | "
          "times |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for make in (olmoe, deepseek_v3):
        module, router, experts, words = make()
        functional = module.F
        for tokens in (1, 512, 4096):
            logits = torch.randn(tokens, experts)
            module.F = types.SimpleNamespace(linear=lambda hidden, weight: logits)
            theirs = by_torch(lambda: router(logits), seconds)
            module.F = functional
            row = f"| {make.__name__.replace('_', '-')} | {tokens} | {theirs:.1f} |"
            for more in ({"scope": "token"}, {"min": 1, "max": "k+2"}):
                call = microseconds(functools.partial(seqtopk.route, logits, **words, **more), seconds)
                taken = microseconds(lambda: lists(logits, {**words, **more}), seconds)
                row += f" {call:.1f} | {taken:.1f} | {theirs / call:.0f}, {theirs / taken:.0f} |"
            print(row, flush=True)


if __name__ == "__main__":
    main()
