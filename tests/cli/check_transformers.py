#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Presets against the router classes of transformers: check_transformers.py SEQTOPK [NAME ...]

Every preset whose source is a class of transformers is routed twice, by `seqtopk route --model` and by that class, made
with the preset's numbers: on random logits, and where the number of experts is theirs on recorded ones. The class's
weights are the identity, so that its hidden states are the logits. Ids must be the same where float32 has no tie at the
cut, and weights the same within the bound. Exits with 77 where torch or transformers 5.24 are not installed:

    python3 -m venv venv && venv/bin/pip install torch transformers==5.24.0
    venv/bin/python tests/cli/check_transformers.py build/seqtopk
"""

import argparse
import importlib
import inspect
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import types

try:
    import numpy as np
except ImportError:
    np = None

sys.dont_write_bytecode = True  # the source tree stays as it is
VERSION = "5.24"
TRACE = pathlib.Path(__file__).resolve().parent.parent / "data" / "trained-e64-k8-layer1.npy"
TOKENS = 48

# What a configuration calls a preset's numbers.
NAMES = {
    "experts": ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts",
                "ffn_num_experts"),
    "top_k": ("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk", "top_k", "top_k_experts", "moe_top_k",
              "num_selected_experts", "moe_num_experts_per_tok"),
    "hidden": ("hidden_size", "d_model", "n_embd"),
    "groups": ("n_group", "num_expert_group", "n_groups"),
    "group_top_k": ("topk_group",),
    "scale": ("routed_scaling_factor", "route_scale", "moe_router_scaling_factor", "router_scaling_factor",
              "moe_routed_scaling_factor", "routed_scale"),
}
# Whose scale multiplies what the experts put out, in another class.
OUTSIDE = {"beam-1", "minimax-m3", "step-3.7-flash", "laguna"}
# Where the class stands if the source of the numbers is a function above it.
CLASSES = {"phi-3.5-moe": 463}
LEFT = {"zaya1": "its router is a network of its own, with a state that goes from layer to layer"}


class Config:
    """A model's default configuration with a preset's numbers in it."""

    def __init__(self, module, row, hidden):
        package = module.__name__.rsplit(".", 1)[0]
        configuration = importlib.import_module(module.__name__.replace(".modeling_", ".configuration_"))
        self.__dict__["defaults"] = []
        classes = [c for n, c in inspect.getmembers(configuration, inspect.isclass)
                   if n.endswith("Config") and c.__module__.startswith(package)]
        for one in sorted(classes, key=lambda c: ("Vision" in c.__name__, "Text" not in c.__name__)):
            try:
                self.defaults.append(one())
            except Exception:  # one that cannot be made without arguments
                continue
        shared = row["shared_experts"]
        values = {"experts": row["experts"] - shared, "top_k": row["top_k"], "hidden": hidden, "groups": row["groups"],
                  "group_top_k": row["group_top_k"], "scale": row["scale"]}
        self.__dict__["own"] = {name: values[what] for what, names in NAMES.items() for name in names}
        null = row["null_experts"]
        self.own.update(norm_topk_prob=row["norm"] == "sum", route_norm=True, moe_renormalize=True, n_shared_experts=shared,
                        zero_expert_num=null, n_zero_experts=null,
                        topk_method="group_limited_greedy" if row["groups"] > 1 else "greedy", _attn_implementation="eager")
        if null:  # counted apart there
            for name in NAMES["experts"]:
                self.own[name] = row["experts"] - null

    def __getattr__(self, name):
        if name in self.own:
            return self.own[name]
        for one in self.defaults:
            if hasattr(one, name):
                return getattr(one, name)
        raise AttributeError(name)


def class_at(module, line):
    """The class that stands at a line of a module, or around it."""
    classes = [c for _, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == module.__name__]
    starts = {inspect.getsourcelines(c)[1]: c for c in classes}
    return starts[max(start for start in starts if start <= line)]


def router_of(torch, row, module, line):
    """A router of a class with the preset's numbers; its logits are its hidden states."""
    kind = class_at(module, CLASSES.get(row["name"], line))
    if kind.__name__ == "DbrxFFN":  # its router makes logits, and it routes itself
        own = types.SimpleNamespace(moe_normalize_expert_weights=1.0, top_k=row["top_k"])
        return lambda x: kind.route_tokens_to_experts(own, x)
    hidden = row["experts"]
    config = Config(module, row, hidden)
    takes = list(inspect.signature(kind.__init__).parameters)[1:]
    router = kind(config) if takes[:1] == ["config"] or takes == ["args"] else kind(
        **{"input_size": hidden, "num_experts": row["experts"], "top_k": row["top_k"]})
    router = router.float().eval()
    for name, one in list(router.named_parameters()) + list(router.named_buffers()):
        one.data = one.data.float()
        if one.dim() == 2 and tuple(one.shape) == (row["experts"], hidden):
            one.data = torch.eye(hidden)
        elif "bias" in name or "correction" in name:
            one.data = torch.zeros_like(one.data)
        else:
            one.data = torch.ones_like(one.data)
    if hasattr(router, "scalar_root_size"):  # Gemma 4 norms and scales what comes in
        router.norm, router.scalar_root_size = torch.nn.Identity(), 1.0
    return router


def give_bias(torch, router, bias):
    """Puts it where the class keeps it; or it is a second argument of the call."""
    if len(inspect.signature(router.forward).parameters) > 1:
        return True
    for name, one in list(router.named_buffers()) + list(router.named_parameters()):
        if one.numel() == len(bias) and ("bias" in name or "correction" in name or "balancing" in name):
            one.data = torch.from_numpy(bias.copy()).reshape(one.shape)
            return True
    return False


def flat(torch, found):
    if torch.is_tensor(found):
        return [found]
    return [t for one in (found if isinstance(found, (tuple, list)) else []) for t in flat(torch, one)]


def call(torch, router, x, bias):
    x = torch.from_numpy(x.copy())
    takes = inspect.signature(getattr(router, "forward", router)).parameters
    more = [torch.from_numpy(bias)] if bias is not None and len(takes) > 1 else []
    with torch.no_grad():
        try:
            return router(x, *more)
        except (ValueError, IndexError):  # it wants batches of sequences
            return router(x[None], *more)


def answer(torch, router, x, top_k, bias):
    """Ids and weights [T, K] of the class."""
    found = call(torch, router, x, bias)
    if type(router).__name__ == "JetMoeTopKGating":  # pairs by expert
        order, token, gates, sizes, _ = found
        expert = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        by_token = torch.argsort(token, stable=True)
        return (expert[by_token].reshape(-1, top_k).numpy(),
                gates[by_token].reshape(-1, top_k).numpy().astype(np.float64))
    found = flat(torch, found)
    found = [t.reshape(len(x), -1) for t in found if t.numel() % len(x) == 0]
    ids = [t for t in found if not t.dtype.is_floating_point and t.shape[1] == top_k]
    dense = [t for t in found if t.dtype.is_floating_point and ((t != 0).sum(dim=1) == top_k).all()]
    if not ids and dense:
        ids = [dense[0].topk(top_k, dim=1)[1]]
        found = [dense[0].gather(1, ids[0])]
    if not ids:
        raise LookupError("no ids among what it returns")
    weights = [t for t in found if t.dtype.is_floating_point and t.shape[1] == top_k]
    if not weights:  # dense rows
        weights = [t.gather(1, ids[-1]) for t in found if t.dtype.is_floating_point and t.shape[1] == x.shape[1]][-1:]
    return ids[-1].numpy(), weights[0].float().numpy().astype(np.float64)


class Comparison:
    def __init__(self, command, folder, parity="hf"):
        self.command, self.folder, self.parity = command, folder, parity

    def route(self, row, x, bias, given=None):
        np.save(self.folder / "x.npy", x)
        more = ["--parity", self.parity]
        if given is not None:
            np.save(self.folder / "g.npy", given)
            more += ["--given", str(self.folder / "g.npy")]
        if bias is not None:
            np.save(self.folder / "b.npy", bias)
            more += ["--bias", str(self.folder / "b.npy")]
        subprocess.run(self.command + ["route", str(self.folder / "x.npy"), "--model", row["name"], "--scope", "token",
                                       "--out", str(self.folder / "out"), *more], check=True, stdout=subprocess.DEVNULL)
        load = lambda name: np.load(self.folder / "out" / f"{name}.npy")
        offsets, ids, weights = load("token_offsets"), load("expert_ids"), load("weights")
        lists = [dict(zip(ids[a:b].tolist(), weights[a:b].tolist())) for a, b in zip(offsets, offsets[1:])]
        return lists, load("null_weights") if row["null_experts"] else np.zeros(len(x))

    def margins(self, row, x, bias):
        """How far the last that was selected is above the next, in scores; 0 near a tie of groups too."""
        s = {"softmax": lambda z: np.exp(z - z.max(1, keepdims=True)) / np.exp(z - z.max(1, keepdims=True)).sum(
                1, keepdims=True), "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
             "sqrtsoftplus": lambda z: np.sqrt(np.log1p(np.exp(z))), "logits": lambda z: z}[row["score"]]
        x = x[:, :x.shape[1] - row["shared_experts"]].astype(np.float64)
        by_logit = row["key"] == "logit" or (row["score"] == "softmax" and bias is None)  # orders the same
        key = (x if by_logit else s(x * row["logit_scale"])) + (0 if bias is None else bias)
        best = -np.sort(-key, axis=1)
        near = np.abs(np.diff(best, axis=1)).min(axis=1) if row["groups"] > 1 else (
            best[:, row["top_k"] - 1] - best[:, row["top_k"]])
        return near

    def compare(self, torch, row, router, x):
        bias = None
        if row["bias"]:
            competing = row["experts"] - row["shared_experts"]
            bias = np.random.default_rng(7).normal(0, 0.05, competing).astype(np.float32)
            if not give_bias(torch, router, bias):
                return "no buffer for the bias"
        ids, weights = answer(torch, router, x, row["top_k"], bias)
        ours, absent = self.route(row, x, bias)
        near = self.margins(row, x, bias)
        scale = row["scale"] if row["name"] in OUTSIDE else row["top_k"] if row["name"] == "privacy-filter" else 1.0
        compared = 0
        for t in range(len(x)):
            if near[t] < 1e-6:  # float32 may say either
                continue
            theirs = {int(e): w * scale for e, w in zip(ids[t], weights[t])}
            null = sum(w for e, w in theirs.items() if e >= row["experts"] - row["null_experts"])
            theirs = {e: w for e, w in theirs.items() if e < row["experts"] - row["null_experts"]}
            routed = {e: w for e, w in ours[t].items() if e < row["experts"] - row["shared_experts"]}
            if routed.keys() != theirs.keys():
                return f"token {t}: ids {sorted(routed)}, the class's {sorted(theirs)}"
            for e, w in theirs.items():
                if abs(routed[e] - w) > 1e-5 * abs(w) + 1e-7:
                    return f"token {t}, expert {e}: weight {routed[e]:.8g}, the class's {w:.8g}"
            if abs(absent[t] - null) > 1e-5 * abs(null) + 1e-7:
                return f"token {t}: null weight {absent[t]:.8g}, the class's {null:.8g}"
            compared += 1
        return None if compared > len(x) // 4 else f"only {compared} tokens without a tie"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seqtopk")
    parser.add_argument("names", nargs="*", metavar="NAME", help="these presets only")
    args = parser.parse_args()
    try:
        if np is None:
            raise ImportError("no NumPy")
        import torch
        import transformers
        if not transformers.__version__.startswith(VERSION):
            raise ImportError(f"transformers is {transformers.__version__}, and the presets are of {VERSION}")
    except ImportError as why:
        print(f"skipped: {why}\n0 passed, 0 failed")
        return 77
    command = shlex.split(args.seqtopk)
    rows = json.loads(subprocess.run(command + ["models", "--json"], capture_output=True, text=True, check=True).stdout)
    passed, failed, left = 0, 0, []
    with tempfile.TemporaryDirectory() as folder:
        comparison = Comparison(command, pathlib.Path(folder))
        for row in rows["models"]:
            if args.names and row["name"] not in args.names:
                continue
            source = re.match(r"transformers \S+ (\w+):(\d+)", row["source"].replace(
                "auto/modeling_auto.py:958, DeepSeek-V3's class", "deepseek_v3:120").replace(
                "auto/modeling_auto.py:958, GLM-4.5's class", "glm4_moe:269"))
            if not source or row["name"] in LEFT:
                left.append(f"{row['name']} ({LEFT.get(row['name'], row['source'])})")
                continue
            try:
                module = importlib.import_module(f"transformers.models.{source[1]}.modeling_{source[1]}")
                router = router_of(torch, row, module, int(source[2]))
                rng = np.random.default_rng(row["experts"])
                x = rng.normal(0, 1.5, (TOKENS, row["experts"])).astype(np.float32)
                why = comparison.compare(torch, row, router, x)
                if not why and row["experts"] == 64:
                    why = comparison.compare(torch, row, router, np.load(TRACE).reshape(-1, 64)[::16])
            except Exception as trouble:
                why = f"{type(trouble).__name__}: {trouble}"
            passed, failed = passed + (not why), failed + bool(why)
            if why:
                print(f"FAILED {row['name']}: {why}", flush=True)
    if left:
        print(f"left out: {', '.join(left)}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
