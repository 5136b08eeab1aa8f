#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How much of a Mixture-of-Experts layer is routing, in an engine on one thread: as the engine has it, and by seqtopk.

    bench/routing_share.py transformers
    bench/routing_share.py vllm

A model of one layer, of real sizes and random bfloat16 weights, reads a prompt of 512 tokens and decodes 32 more, again and
again, the three kinds in turn. Medians of the thread's CPU time, inside the layer, where a token's routing finds nothing of its
own in the CPU's caches. Routing is what comes between the router's logits and the experts; the layer has the product that makes
logits too.
"""

import argparse
import collections
import functools
import os
import statistics
import tempfile
import time

MODELS = {
    "OLMoE": ("Olmoe", dict(hidden_size=2048, intermediate_size=1024, num_attention_heads=16, num_key_value_heads=16,
                            num_experts=64, num_experts_per_tok=8, norm_topk_prob=False)),
    "Qwen3-30B-A3B": ("Qwen3Moe", dict(hidden_size=2048, intermediate_size=6144, moe_intermediate_size=768, head_dim=128,
                                       num_attention_heads=32, num_key_value_heads=4, num_experts=128, num_experts_per_tok=8,
                                       norm_topk_prob=True)),
}
SHARED = dict(vocab_size=512, num_hidden_layers=1, max_position_embeddings=1024, bos_token_id=1, eos_token_id=2, pad_token_id=0)
KINDS = ("stock", "TopK", "SeqTopK")
PROMPT, NEW = 512, 32


class Clock:
    """The thread's time in functions, by name and by rows of their first array."""

    def __init__(self):
        self.kind, self.seen = None, collections.defaultdict(list)
        self.outside = 0  # what was spent inside and belongs to another

    def add(self, what, rows, seconds):
        if self.kind is not None:
            self.seen[self.kind, what, rows].append(seconds * 1e6)

    def around(self, function, what, rows):
        @functools.wraps(function)
        def timed(*args, **kwargs):
            begin, self.outside = time.thread_time(), 0
            result = function(*args, **kwargs)
            self.add(what, rows(*args, **kwargs), time.thread_time() - begin - (self.outside if what == "routing" else 0))
            return result
        return timed

    def left_out(self, function):
        """Of routing: the product that makes logits."""
        @functools.wraps(function)
        def timed(*args, **kwargs):
            begin = time.thread_time()
            result = function(*args, **kwargs)
            self.outside += time.thread_time() - begin
            return result
        return timed


def config_of(name):
    import transformers

    kind, words = MODELS[name]
    return kind, getattr(transformers, kind + "Config")(**SHARED, **words)


def run_transformers(name, rounds, clock):
    import torch
    import transformers

    import seqtopk.hf

    kind, config = config_of(name)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    model = getattr(transformers, kind + "Model")(config).eval()
    torch.set_default_dtype(torch.float32)
    model.set_experts_implementation("grouped_mm")
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.02)
    layer = model.layers[0].mlp
    layer.forward = clock.around(layer.forward, "layer", lambda hidden: hidden.shape[0] * hidden.shape[1])
    rows = lambda hidden: hidden.numel() // config.hidden_size
    ids = torch.randint(3, 512, (1, PROMPT + NEW))
    linear = torch.nn.functional.linear
    with torch.no_grad():
        for i in range(rounds + 1):
            for which in KINDS:
                if which != "stock":
                    seqtopk.hf.patch(model, scope="token" if which == "TopK" else "online")
                # Of the router's class, which patch() changes.
                layer.gate.__dict__["forward"] = clock.around(type(layer.gate).forward.__get__(layer.gate), "routing", rows)
                clock.kind = which if i else None
                torch.nn.functional.linear = linear
                gate = layer.gate.forward

                def route(hidden):
                    torch.nn.functional.linear = clock.left_out(linear)
                    try:
                        return gate(hidden)
                    finally:
                        torch.nn.functional.linear = linear

                layer.gate.__dict__["forward"] = route
                past = transformers.DynamicCache(config=config)
                model(ids[:, :PROMPT], past_key_values=past)
                for t in range(PROMPT, PROMPT + NEW):
                    model(ids[:, t:t + 1], past_key_values=past)
                del layer.gate.__dict__["forward"]
                if which != "stock":
                    seqtopk.hf.unpatch(model)


def run_vllm(name, rounds, clock):
    import torch
    import vllm
    from vllm.model_executor.layers.fused_moe.router.fused_moe_router import FusedMoERouter
    from vllm.model_executor.models import olmoe, qwen3_moe

    import seqtopk.vllm

    seqtopk.vllm.register()
    FusedMoERouter.select_experts = clock.around(FusedMoERouter.select_experts, "routing",
                                                 lambda self, hidden_states, *args, **kwargs: len(hidden_states))
    for block in (olmoe.OlmoeMoE, qwen3_moe.Qwen3MoeSparseMoeBlock):
        block.forward = clock.around(block.forward, "layer", lambda self, hidden_states, *args, **kwargs: len(hidden_states))
    kind, config = config_of(name)
    with tempfile.TemporaryDirectory() as path:
        config.architectures = [kind + "ForCausalLM"]
        config.save_pretrained(path)
        engines = {which: vllm.LLM(
            model=path, load_format="dummy", skip_tokenizer_init=True, dtype="bfloat16", max_model_len=1024, max_num_seqs=1,
            max_num_batched_tokens=1024, enforce_eager=True, enable_prefix_caching=False, seed=0,
            additional_config={"seqtopk": {"router": "off" if which == "stock" else which.lower()}}) for which in KINDS}
    how = vllm.SamplingParams(temperature=0, max_tokens=NEW, ignore_eos=True, detokenize=False)
    prompt = torch.randint(3, 512, (PROMPT,), generator=torch.Generator().manual_seed(0)).tolist()
    for i in range(rounds + 1):
        for which, engine in engines.items():
            clock.kind = which if i else None
            engine.generate([{"prompt_token_ids": prompt}], how, use_tqdm=False)
            clock.kind = None


HEADS = ("engine", "model", "tokens", "layer", *(f"{which}{more}" for which in ("its routing", "TopK here", "SeqTopK here")
                                                 for more in ("", ", share")), "SeqTopK adds", "layer with SeqTopK")


def report(engine, name, clock):
    for rows in (1, PROMPT):
        layer, routing = ({which: statistics.median(clock.seen[which, what, rows]) for which in KINDS}
                          for what in ("layer", "routing"))
        cells = [engine, name, rows, f"{layer['stock']:,.0f}"]
        for which in KINDS:
            cells += [f"{routing[which]:,.1f}", f"{100 * routing[which] / layer['stock']:.2f} %"]
        more = (routing["SeqTopK"] - routing["stock"]) / layer["stock"]
        cells += [f"{100 * more:+.2f} %", f"{layer['SeqTopK'] / layer['stock']:.2f}"]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=("transformers", "vllm"))
    parser.add_argument("--model", choices=MODELS, action="append", help="default: all")
    parser.add_argument("--rounds", type=int, default=5, help="of each kind (default: %(default)s)")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds is {args.rounds}: at least 1")
    os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_CPU_KVCACHE_SPACE="1", VLLM_CPU_OMP_THREADS_BIND="nobind",
                      VLLM_PLUGINS="", VLLM_LOGGING_LEVEL="ERROR", VLLM_NO_USAGE_STATS="1", HF_HUB_OFFLINE="1",
                      OMP_NUM_THREADS="1")
    import torch

    torch.set_num_threads(1)
    print("Microseconds; shares are of the layer as the engine has it, which is given first.\n")
    print("| " + " | ".join(HEADS) + " |")
    print("|---|---|" + "--:|" * (len(HEADS) - 2))
    for name in args.model or MODELS:
        clock = Clock()
        {"transformers": run_transformers, "vllm": run_vllm}[args.engine](name, args.rounds, clock)
        report(args.engine, name, clock)


if __name__ == "__main__":
    main()
