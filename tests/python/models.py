# SPDX-License-Identifier: MIT
"""Models of transformers as small as they come, with random weights, for the checks of seqtopk.hf."""

import torch
import transformers

SHAPE = dict(vocab_size=61, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=128, bos_token_id=None, eos_token_id=None, pad_token_id=0, initializer_range=0.3)
LATENT = dict(q_lora_rank=16, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8)
DEEPSEEK = dict(intermediate_size=48, moe_intermediate_size=16, n_routed_experts=8, num_experts_per_tok=2,
                n_shared_experts=1, first_k_dense_replace=1)

KINDS = {
    "Olmoe": dict(intermediate_size=24, num_experts=8, num_experts_per_tok=2),
    "Qwen2Moe": dict(intermediate_size=48, moe_intermediate_size=24, shared_expert_intermediate_size=24, num_experts=8,
                     num_experts_per_tok=2, norm_topk_prob=True),
    "Qwen3Moe": dict(intermediate_size=48, moe_intermediate_size=24, num_experts=8, num_experts_per_tok=2, head_dim=8,
                     norm_topk_prob=True),
    "Mixtral": dict(intermediate_size=24, num_local_experts=8, num_experts_per_tok=2),
    "DeepseekV3": dict(n_group=4, topk_group=2, num_key_value_heads=4, routed_scaling_factor=2.5, **DEEPSEEK, **LATENT),
    "DeepseekV2": dict(n_group=2, topk_group=1, num_key_value_heads=4, topk_method="group_limited_greedy",
                       routed_scaling_factor=1.0, **DEEPSEEK, **LATENT),
    "GptOss": dict(intermediate_size=24, num_local_experts=8, num_experts_per_tok=2, head_dim=8),
    "Glm4Moe": dict(n_group=1, topk_group=1, head_dim=8, routed_scaling_factor=1.0, **DEEPSEEK),
    "GraniteMoe": dict(intermediate_size=24, num_local_experts=8, num_experts_per_tok=2),
}


def make(kind, seed=0, **more):
    torch.manual_seed(seed)
    config = getattr(transformers, kind + "Config")(**{**SHAPE, **KINDS[kind], **more})
    model = getattr(transformers, kind + "ForCausalLM")(config).eval()
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.copy_(torch.randn(buffer.shape) * 0.1)
    for name, parameter in model.named_parameters():
        if name.endswith(("gate.weight", "router.weight")):
            torch.nn.init.normal_(parameter, std=0.3)
    return model
