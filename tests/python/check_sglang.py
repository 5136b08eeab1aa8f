#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""seqtopk.sglang with SGLang's own hooks and its own select_experts, where they can be imported: check_sglang.py

Its CPU kernels are not needed: selections are compared with those of its PyTorch code.
"""

import os
import types

os.environ["SEQTOPK_ROUTER"] = "topk"

import harness
from harness import check

torch, topk, hook_registry, _ = harness.need("torch", "sglang.srt.layers.moe.topk", "sglang.srt.plugins.hook_registry",
                                             "sglang.srt.model_executor.model_runner")
import seqtopk
import seqtopk.serving as serving
import seqtopk.sglang

BIAS = torch.randn(32, generator=torch.Generator().manual_seed(3)) * 0.1
SCHEMES = ({"torch_native": True}, {"torch_native": True, "renormalize": False},
           {"torch_native": True, "routed_scaling_factor": 1.5, "apply_routed_scaling_factor_on_output": True},
           {"use_grouped_topk": True, "num_expert_group": 4, "topk_group": 2},
           {"use_grouped_topk": True, "num_expert_group": 4, "topk_group": 2, "correction_bias": BIAS,
            "scoring_func": "sigmoid", "routed_scaling_factor": 2.5, "apply_routed_scaling_factor_on_output": True})


def by_id(output):
    order = output.topk_ids.long().argsort(-1)
    return output.topk_weights.gather(1, order), output.topk_ids.gather(1, order).int()


def main():
    torch.manual_seed(0)
    logits, hidden = torch.randn(40, 32), torch.randn(40, 8)
    configs = [topk.TopKConfig(top_k=4, **words) for words in SCHEMES]
    stock = [by_id(topk.select_experts(hidden, logits, config, layer_id=0)) for config in configs]

    seqtopk.sglang.register()
    hook_registry.HookRegistry.apply_hooks()
    targets = {seqtopk.sglang.SELECT, seqtopk.sglang.FORWARD}
    check(targets <= hook_registry.HookRegistry._patched, f"hooks: {hook_registry.HookRegistry._patched}")
    for layer, (config, (wanted, wanted_ids)) in enumerate(zip(configs, stock)):
        weights, ids = by_id(topk.select_experts(hidden, logits, config, layer_id=layer))
        check(torch.equal(ids, wanted_ids) and torch.allclose(weights, wanted, rtol=2e-6, atol=1e-7), f"TopK: {SCHEMES[layer]}")

    # SeqTopK: two requests, in chunks and decoding, as whole routes give it.
    plugin = seqtopk.sglang.Plugin(serving.Settings("seqtopk"))
    original = topk.select_experts.__wrapped__
    runner = types.SimpleNamespace(server_args=types.SimpleNamespace(disable_radix_cache=True),
                                   req_to_token_pool=types.SimpleNamespace(size=4))
    rows = {"a": slice(0, 20), "b": slice(20, 40)}
    for step in ([("a", 0, 12), ("b", 0, 3)], [("b", 3, 16), ("a", 12, 7)], [("a", 19, 1), ("b", 19, 1)]):
        chunk = torch.cat([logits[rows[name]][start:start + n] for name, start, n in step])
        batch = types.SimpleNamespace(
            rids=[name for name, _, _ in step], req_pool_indices=torch.tensor([1 + (name == "b") for name, _, _ in step]),
            positions=torch.cat([torch.arange(start, start + n) for _, start, n in step]),
            extend_seq_lens=torch.tensor([n for _, _, n in step]), forward_mode=types.SimpleNamespace(is_decode=lambda: False))
        got = plugin.forward(lambda *_: plugin.select_experts(original, hidden[:len(chunk)], chunk, configs[0], layer_id=0),
                             runner, batch)
        i = 0
        for name, start, n in step:
            for t in range(start, start + n):
                want = seqtopk.route(logits[rows[name]][:t + 1], 4, min=1, max="k+2", norm="sum", want="padded",
                                     padding="first")
                check(torch.equal(got.topk_ids[i].int(), want.padded_ids[-1]) and
                      torch.equal(got.topk_weights[i], want.padded_weights[-1]), f"SeqTopK: {name}, token {t}")
                i += 1
    harness.report()


main()
