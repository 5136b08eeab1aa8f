#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""TopK, SeqTopK, BatchTopK, top-p and min-p at equal budget: run.py [--quick] [--out DIR]

Trains small models of bytes from scratch, and on from TopK's, with each router; measures bits per byte of held-out text
offline and online. results.json in DIR grows run by run; report.py makes tables and a plot of it, here at the end.
"""

import argparse
import json
import pathlib
import platform
import sys
import time

import data
import model as models
import report
import routers
import torch
import train

SHAPES = ((128, 2), (64, 8))  # E, K


def by_count(evaluation, others):
    """Tokens by their experts (the layers' mean): [experts, share of tokens, bits, the other evaluation's bits of the same]."""
    mean = evaluation.counts.double().mean(0)
    rows = []
    for n in mean.unique().tolist():
        mine = mean == n
        rows.append([n, float(mine.double().mean()), float(evaluation.losses[mine].mean()), float(others.losses[mine].mean())])
    return rows


def figures(evaluation):
    return {"bits": evaluation.bits, "experts": evaluation.experts}


class Bench:
    def __init__(self, steps, pieces, out):
        self.texts, self.steps, self.path = data.read(), steps, out / "results.json"
        self.pieces = data.held_out(self.texts, models.Config.length, pieces)
        self.results = {"steps": steps, "python": platform.python_version(), "torch": torch.__version__,
                        "threads": torch.get_num_threads(), "cpu": report.cpu(),
                        "bytes": self.pieces[:, 1:].size, "seconds": 0.0, "runs": []}
        self.begin = time.perf_counter()

    def write(self, run):
        self.results["runs"].append(run)
        self.results["seconds"] = time.perf_counter() - self.begin
        self.path.write_text(json.dumps(self.results) + "\n")

    def run(self, config, router, seed, topk, start):
        """One model: trained, measured, noted. start: None, or the model to train on from. topk: an Evaluation to set against."""
        name = f"E {config.experts}, K {config.k}, seed {seed}, {'on from TopK' if start else 'from scratch'}, {router}"
        steps = max(1, self.steps // 4) if start else self.steps
        trained = train.train(config, router, self.texts, steps, seed, start, 2e-3 if start else 6e-3,
                              lambda step, bits: print(f"  {name}: step {step} of {steps}, {bits:.3f}", flush=True))
        offline, online = (train.evaluate(trained, router, self.pieces, is_online) for is_online in (False, True))
        print(f"{name}: {offline.bits:.4f} bits per byte offline, {online.bits:.4f} online; experts a token "
              f"{offline.experts:.3f}, {online.experts:.3f}", flush=True)
        self.write({"experts": config.experts, "k": config.k, "seed": seed, "start": "topk" if start else "scratch",
                    "router": router, "steps": steps, "offline": figures(offline), "online": figures(online),
                    "by_count": [] if router == "topk" else by_count(online, topk)})
        return trained, offline

    def seed(self, config, seed, names):
        base, topk = self.run(config, "topk", seed, None, None)
        for router in names[1:]:
            self.run(config, router, seed, topk, None)
        topk = None
        for router in names:
            _, measured = self.run(config, router, seed, topk, base)
            topk = topk or measured


def _shape(text):
    try:
        experts, k = map(int, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not two numbers, E,K") from None
    if not 1 <= k <= experts <= 65536:
        raise argparse.ArgumentTypeError(f"{text}: K is 1 to E, and E at most 65536")
    return experts, k


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="40 steps, one seed, below a minute: that all works, no figures")
    parser.add_argument("--steps", type=int, help="of training from scratch (default: 800); training on takes a quarter")
    parser.add_argument("--seeds", type=int, help="runs of each kind (default: 3)")
    parser.add_argument("--shape", type=_shape, action="append", help="E,K, such as 128,2; may be given again (default: "
                        "128,2 and 64,8)")
    parser.add_argument("--router", choices=routers.NAMES[1:], action="append", help="beside topk; may be given again "
                        "(default: all)")
    parser.add_argument("--threads", type=int, default=2, help="of torch (default: %(default)s)")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("build/quality"), help="(default: %(default)s)")
    args = parser.parse_args()
    args.steps = args.steps if args.steps is not None else 40 if args.quick else 800
    args.seeds = args.seeds if args.seeds is not None else 1 if args.quick else 3
    for name in ("steps", "seeds", "threads"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} is {getattr(args, name)}: at least 1")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out: {error}")
    return args


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    try:
        bench = Bench(args.steps, 32 if args.quick else 128, args.out)
    except FileNotFoundError as error:
        sys.exit(f"run.py: {error}")
    names = [name for name in routers.NAMES if name == "topk" or name in (args.router or routers.NAMES)]
    for seed in range(args.seeds):
        for experts, k in args.shape or SHAPES:
            bench.seed(models.Config(experts=experts, k=k), seed, names)
    report.write(bench.path)


if __name__ == "__main__":
    main()
