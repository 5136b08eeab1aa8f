#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""seqtopk.vllm in vLLM itself, on the CPU, where it is installed: check_vllm.py

Its router class by each scheme, and the engine with a small Qwen3-MoE of random weights: TopK gives the tokens that vLLM gives
without, SeqTopK those of transformers with seqtopk.hf, however the prompts are cut.
"""

import os
import tempfile

# vLLM reads these when it is imported. One process, so that an error is seen here.
os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_CPU_KVCACHE_SPACE="1", VLLM_CPU_OMP_THREADS_BIND="nobind",
                  VLLM_NO_USAGE_STATS="1", HF_HUB_OFFLINE="1", VLLM_LOGGING_LEVEL="ERROR", VLLM_PLUGINS="")
for name in ("SEQTOPK_ROUTER", "SEQTOPK_MIN", "SEQTOPK_MAX", "SEQTOPK_CACHE"):
    os.environ.pop(name, None)

import harness
from harness import check, raises

torch, transformers, vllm = harness.need("torch", "transformers", "vllm")
import seqtopk.hf
import seqtopk.vllm

NEW = 16
SCHEMES = ({}, {"renormalize": False},
           {"use_grouped_topk": True, "num_expert_group": 4, "topk_group": 2, "routed_scaling_factor": 1.5},
           {"use_grouped_topk": True, "num_expert_group": 4, "topk_group": 2, "scoring_func": "sigmoid",
            "e_score_correction_bias": torch.randn(32, generator=torch.Generator().manual_seed(3)) * 0.1,
            "routed_scaling_factor": 2.5},
           {"scoring_func": "sqrtsoftplus", "routed_scaling_factor": 1.5,
            "e_score_correction_bias": torch.randn(256, generator=torch.Generator().manual_seed(4)) * 0.1})


def by_id(weights, ids):
    order = ids.argsort(-1)
    return weights.gather(1, order), ids.gather(1, order)


def check_routers():
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.model_executor.layers.fused_moe.router.router_factory import create_fused_moe_router

    torch.manual_seed(0)
    for words in SCHEMES:
        experts = len(words.get("e_score_correction_bias", range(32)))  # vLLM's sqrtsoftplus has kernels for some E and K only
        logits, found = torch.randn(50, experts), []
        for router in ("off", "topk"):
            with set_current_vllm_config(VllmConfig(additional_config={"seqtopk": {"router": router}})):
                made = create_fused_moe_router(top_k=8, global_num_experts=experts, **words)
            check(("SeqTopK" in type(made).__name__) == (router != "off"), f"{words}: {type(made).__name__}")
            found.append(by_id(*made.select_experts(hidden_states=logits, router_logits=logits)))
        (weights, ids), (wanted, wanted_ids) = found
        check(torch.equal(ids, wanted_ids) and torch.allclose(weights, wanted, rtol=2e-6, atol=1e-7), f"router: {words}")


def model_at(path):
    torch.manual_seed(0)
    config = transformers.Qwen3MoeConfig(
        vocab_size=512, hidden_size=128, intermediate_size=128, moe_intermediate_size=64, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=32, num_experts=32, num_experts_per_tok=4, norm_topk_prob=True,
        max_position_embeddings=512, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    model = transformers.Qwen3MoeForCausalLM(config).float().eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3 if "gate.weight" in name else 0.08)
    model.save_pretrained(path)
    return model


def by_transformers(model, prompts):
    out = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False)
        out.append(made[0, len(prompt):].tolist())
    return out


def by_vllm(path, prompts, settings, **more):
    words = {"max_model_len": 256, "max_num_seqs": 3, "enforce_eager": True, "enable_prefix_caching": False, **more}
    engine = vllm.LLM(model=path, skip_tokenizer_init=True, dtype="float32", seed=0,
                      additional_config={"seqtopk": settings}, **words)
    how = vllm.SamplingParams(temperature=0, max_tokens=NEW, ignore_eos=True, detokenize=False)
    done = engine.generate([{"prompt_token_ids": prompt} for prompt in prompts], how, use_tqdm=False)
    return [list(each.outputs[0].token_ids) for each in done]


def check_engine():
    random = torch.Generator().manual_seed(1)
    prompts = [torch.randint(3, 512, (n,), generator=random).tolist() for n in (5, 40, 17, 90, 33)]
    with tempfile.TemporaryDirectory() as path:
        model = model_at(path)
        stock = by_transformers(model, prompts)
        seqtopk.hf.patch(model, scope="online", min=1, max="k+2")
        online = by_transformers(model, prompts)
        check(online != stock, "the model's tokens do not depend on its router")
        check(by_vllm(path, prompts, {"router": "off"}) == stock, "off")
        check(by_vllm(path, prompts, {"router": "topk"}) == stock, "TopK")
        check(by_vllm(path, prompts, {"router": "seqtopk"}) == online, "SeqTopK")
        check(by_vllm(path, prompts, {"router": "seqtopk"}, max_num_batched_tokens=24) == online, "SeqTopK, prompts in chunks")
        check(by_vllm(path, prompts, {"router": "seqtopk"}, enforce_eager=False) == online, "SeqTopK, compiled")
        raises(ValueError, ["--no-enable-prefix-caching"],
               lambda: by_vllm(path, prompts, {"router": "seqtopk"}, enable_prefix_caching=True))


def main():
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        print("skipped: this vLLM is not for CPUs")
        raise SystemExit(77)
    seqtopk.vllm.register()
    check_routers()
    check_engine()
    harness.report()


if __name__ == "__main__":  # vLLM may start this again
    main()
