#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What routing costs in Python, beside transformers' own routers in the same process: bench/python.py

Needs the package (pip install .) with torch and transformers. Their classes are called as they are, less the product that
makes logits (F.linear is replaced by what hands them over). Prints a table in Markdown, in microseconds, of the least of
several rounds: transformers, and seqtopk with as many threads, the call by itself and the call with token_offsets,
expert_ids and weights taken as tensors.
"""

import argparse
import functools
import importlib
import time
import types

import seqtopk
import torch

def microseconds(call, seconds):
    """The least of rounds of a millisecond, or of one call: shorter than what a busy machine gives a program at a time."""
    call()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin, now, n = time.perf_counter(), 0.0, 0
        while now < 0.001:
            call()
            n += 1
            now = time.perf_counter() - begin
        best = min(best, now / n)
    return best * 1e6


# preset: (module of transformers, the router's class, experts, K, what else its class asks the configuration for)
SIGMOID = {"n_group": 1, "topk_group": 1, "norm_topk_prob": True}
ROUTERS = {
    "olmoe": ("olmoe", "OlmoeTopKRouter", 64, 8, {"norm_topk_prob": False}),
    "qwen3-moe": ("qwen3_moe", "Qwen3MoeTopKRouter", 128, 8, {"norm_topk_prob": True}),
    "mixtral": ("mixtral", "MixtralTopKRouter", 8, 2, {}),
    "deepseek-v3": ("deepseek_v3", "DeepseekV3TopkRouter", 256, 8,
                    {**SIGMOID, "n_group": 8, "topk_group": 4, "routed_scaling_factor": 2.5}),
    "gpt-oss": ("gpt_oss", "GptOssTopKRouter", 128, 4, {}),
    "glm-4.5": ("glm4_moe", "Glm4MoeTopkRouter", 160, 8, {**SIGMOID, "routed_scaling_factor": 2.5}),
}


def make(preset):
    """The module, whose F is to be replaced, the router, and what seqtopk.route is told."""
    folder, name, experts, k, more = ROUTERS[preset]
    module = importlib.import_module(f"transformers.models.{folder}.modeling_{folder}")
    config = types.SimpleNamespace(hidden_size=experts, num_experts=experts, num_local_experts=experts,
                                   num_experts_per_tok=k, **more)
    router = getattr(module, name)(config)
    words = {"preset": preset}
    if hasattr(router, "e_score_correction_bias"):
        words["bias"] = router.e_score_correction_bias.normal_(0, 0.01)
    return module, router, experts, words


def lists(logits, words):
    routing = seqtopk.route(logits, **words)
    return routing.token_offsets, routing.expert_ids, routing.weights


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=0.5, help="for each figure")
    parser.add_argument("--threads", type=int, default=1, help="torch's, and seqtopk's (default: 1)")
    arguments = parser.parse_args()
    seconds = arguments.seconds
    torch.set_num_threads(arguments.threads)
    seqtopk.set_num_threads(arguments.threads)
    print("| router | T | transformers | TopK: the call | with lists | times | SeqTopK [1, K + 2]: the call | with lists | "
          "times |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for preset in ROUTERS:
        module, router, experts, words = make(preset)
        functional = module.F
        for tokens in (1, 512, 4096):
            logits = torch.randn(tokens, experts)
            module.F = types.SimpleNamespace(linear=lambda *given: logits)
            theirs = microseconds(lambda: router(logits), seconds)
            module.F = functional
            row = f"| {preset} | {tokens} | {theirs:.1f} |"
            for more in ({"scope": "token"}, {"min": 1, "max": "k+2"}):
                call = microseconds(functools.partial(seqtopk.route, logits, **words, **more), seconds)
                taken = microseconds(lambda: lists(logits, {**words, **more}), seconds)
                row += f" {call:.1f} | {taken:.1f} | {theirs / call:.0f}, {theirs / taken:.0f} |"
            print(row, flush=True)


if __name__ == "__main__":
    main()
