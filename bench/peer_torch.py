#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""torch.topk on softmaxed rows, on one thread, as figures.py wants it: peer_torch.py [--seconds S]

`topk` is torch.topk alone, over probabilities that stand ready; `softmax + topk` makes them first. The figures of a
shape are interleaved medians.
"""

import argparse
import json
import statistics
import time

import torch

SHAPES = ((4096, 64, 8), (4096, 128, 8), (4096, 256, 8), (1, 128, 8))  # those of figures.cpp's section token


def timed(work, calls):
    start = time.perf_counter_ns()
    for _ in range(calls):
        work()
    return (time.perf_counter_ns() - start) / calls


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1, help="for each shape")
    seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    torch.manual_seed(1)
    for tokens, experts, top_k in SHAPES:
        logits = torch.randn(tokens, experts)
        probabilities = torch.softmax(logits, -1)
        works = {
            "torch:topk": lambda: torch.topk(probabilities, top_k),
            "torch:softmax + topk": lambda: torch.topk(torch.softmax(logits, -1), top_k),
        }
        samples = {name: [] for name in works}
        with torch.inference_mode():
            calls = {name: max(1, int(100e3 / max(timed(work, 3), timed(work, 3)))) for name, work in works.items()}
            end = time.perf_counter() + seconds
            while time.perf_counter() < end or len(samples["torch:topk"]) < 3:
                for name, work in works.items():
                    samples[name].append(timed(work, calls[name]))
        for name, times in samples.items():
            low, median, high = statistics.quantiles(times, n=4)
            print(json.dumps({"section": "token", "tokens": tokens, "experts": experts, "top_k": top_k, "what": name,
                              "ns": median, "low": low, "high": high, "samples": len(times),
                              "version": torch.__version__}), flush=True)


if __name__ == "__main__":
    main()
