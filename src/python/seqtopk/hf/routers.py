# SPDX-License-Identifier: MIT
"""The routers of transformers: how the classes of version 5.24 make logits and weights, by class.

Each form was read from the classes that it names, whose `forward` is the same to the letter. All of them return
(logits, weights, ids) to a block that hands weights and ids to its experts as they are.
"""

import dataclasses
from typing import Callable

import torch.nn.functional as F


@dataclasses.dataclass(frozen=True)
class Form:
    logits: Callable  # (router, hidden [N, H]) -> [N, E]
    describe: Callable  # router -> seqtopk.route's words
    weights: Callable  # (weights float32, logits, hidden) -> in the type that the class returns
    bias: Callable = lambda router: None  # router -> [E], added to the scores for the selection
    skips: bool = True  # whether the eager experts leave out id E


def _linear(router, hidden):
    return F.linear(hidden, router.weight)


def _linear32(router, hidden):
    return F.linear(hidden.float(), router.weight.float())


def _as_logits(weights, logits, hidden):
    return weights.to(logits.dtype)


def _as_hidden(weights, logits, hidden):
    return weights.to(hidden.dtype)


def _float(weights, logits, hidden):
    return weights


def _deepseek_v3(router):
    grouped = {} if router.num_group == 1 else {"groups": router.num_group, "group_top_k": router.topk_group,
                                                "group_score": "top2"}
    return {"score": "sigmoid", "norm": "sum" if router.norm_topk_prob else "none",
            "norm_eps": 1e-20 if router.norm_topk_prob else 0.0, "scale": router.routed_scaling_factor, **grouped}


def _deepseek_v2(router):
    if router.topk_method not in ("greedy", "group_limited_greedy"):
        raise ValueError(f"topk_method is '{router.topk_method}', which seqtopk.hf does not know")
    grouped = {} if router.topk_method == "greedy" else {"groups": router.num_group, "group_top_k": router.topk_group,
                                                         "group_score": "max"}
    return {"score": "softmax", "norm": "none", "scale": router.routed_scaling_factor, **grouped}


FORMS: dict[str, Form] = {}


def _form(names, *args, **kwargs):
    FORMS.update(dict.fromkeys(names.split(), Form(*args, **kwargs)))


_form("OlmoeTopKRouter Qwen2MoeTopKRouter Qwen3MoeTopKRouter Qwen3NextTopKRouter FlexOlmoTopKRouter MellumTopKRouter "
      "Qwen3OmniMoeThinkerTextTopKRouter Qwen3OmniMoeTalkerTextTopKRouter Qwen4ExpTextTopKRouter",
      _linear, lambda router: {"score": "softmax", "norm": "sum" if router.norm_topk_prob else "none"}, _as_logits)
_form("Qwen3_5MoeTopKRouter Qwen3OmniMoeTextTopKRouter Qwen3VLMoeTextTopKRouter",
      _linear, lambda router: {"score": "softmax", "norm": "sum"}, _as_logits)
_form("MixtralTopKRouter MiniMaxTopKRouter",
      _linear, lambda router: {"score": "softmax", "norm": "sum"}, _float)
_form("DeepseekV3TopkRouter DeepseekV32TopkRouter Glm4MoeTopkRouter Glm4MoeLiteTopkRouter Glm4vMoeTextTopkRouter "
      "GlmMoeDsaTopkRouter Glm5NextTextTopkRouter Dots1TopkRouter ExaoneMoeTopkRouter KimiLinearTopkRouter "
      "MiMoV2FlashTopkRouter NemotronHTopkRouter SolarOpenTopkRouter AXK1TopkRouter BailingHybridTopkRouter "
      "HYV4TopkRouter HYV4VLTopkRouter Dots3NoteTextTopkRouter",
      _linear32, _deepseek_v3, _float, bias=lambda router: router.e_score_correction_bias)
_form("DeepseekV2TopkRouter", _linear32, _deepseek_v2, _float)
_form("GptOssTopKRouter", lambda router, hidden: F.linear(hidden, router.weight, router.bias),
      lambda router: {"score": "logits", "norm": "softmax"}, _as_logits, skips=False)
_form("GraniteMoeTopKRouter GraniteMoeSharedTopKRouter GraniteMoeHybridTopKRouter GraniteMoeSWATopKRouter",
      lambda router, hidden: _linear(router, hidden).float(), lambda router: {"score": "logits", "norm": "softmax"},
      _as_hidden)
