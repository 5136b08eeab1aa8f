# SPDX-License-Identifier: MIT
"""A plug-in for SGLang on the CPU: its MoE routers by seqtopk. docs/engines/sglang.md says how to use it.

SGLang loads it by the entry point `sglang.srt.plugins` in each of its processes. It does nothing unless SEQTOPK_ROUTER says
'topk' or 'seqtopk'. Read with SGLang 0.5.23.
"""

import dataclasses

from .serving import Engine, settings

SELECT = "sglang.srt.layers.moe.topk.select_experts"
FORWARD = "sglang.srt.model_executor.model_runner.ModelRunner.forward"


def words(config) -> dict:
    """seqtopk.route's words for what a TopKConfig asks for; None: it is not one that seqtopk has."""
    if config.custom_routing_function is not None:
        return None
    is_biased = config.correction_bias is not None
    how = {"k": config.top_k, "score": config.scoring_func, "norm": "sum" if config.renormalize else "none"}
    if config.use_grouped_topk:
        if is_biased:
            how["score"] = "sigmoid"  # whatever scoring_func says
        if config.num_expert_group > 1:
            how |= {"groups": config.num_expert_group, "group_top_k": config.topk_group,
                    "group_score": "top2" if is_biased else "max"}
    return how


class Plugin:
    """The hooks, and the routers that they have met. One model routes: the first that runs."""

    def __init__(self, how):
        self.settings, self.engine = how, Engine(how)
        self.routers = {}  # by layer
        self.owners = {}  # slot -> request
        self.runner = None

    def select_experts(self, original, hidden_states, router_logits, topk_config, *, layer_id=None, **kwargs):
        """Around SGLang's: all that it does after a selection (replicas, padding, scale, records) it still does."""
        how = words(topk_config)
        if how is None and self.settings.router == "topk" or kwargs.get("dynamic_expert_bias") is not None:
            return original(hidden_states, router_logits, topk_config, layer_id=layer_id, **kwargs)
        if how is None:
            raise ValueError("seqtopk: the model has a routing function of its own, which is not known by a score and a norm: "
                             f"{topk_config.custom_routing_function}")
        if topk_config.num_shared_topk_slots:
            raise ValueError("seqtopk: shared experts are fused into the selection: start SGLang with "
                             "--disable-shared-experts-fusion")
        key = layer_id if layer_id is not None else id(topk_config)
        if key not in self.routers:
            self.routers[key] = self.engine.router(router_logits.shape[-1], how)
        router = self.routers[key]

        def route(hidden_states, gating_output, topk, renormalize):
            return router.route(gating_output, topk_config.correction_bias)

        config = dataclasses.replace(topk_config, custom_routing_function=route, use_grouped_topk=False, torch_native=False,
                                     top_k=router.width)
        return original(hidden_states, router_logits, config, layer_id=layer_id, **kwargs)

    def forward(self, original, runner, forward_batch, *args, **kwargs):
        """Around a forward: whose its rows are."""
        if self.settings.router != "seqtopk" or getattr(runner, "is_draft_worker", False):
            return original(runner, forward_batch, *args, **kwargs)
        if self.runner is not runner:
            self._start(runner)
        if forward_batch.rids:
            self.engine.begin(self._requests(forward_batch))
        try:
            return original(runner, forward_batch, *args, **kwargs)
        finally:
            self.engine.end()

    def _start(self, runner):
        if self.runner is not None:
            raise ValueError("seqtopk: a second model is run in this process")
        if not runner.server_args.disable_radix_cache:
            raise ValueError("seqtopk: SeqTopK has to route every token of a request, and a cache of prefixes leaves some out: "
                             "start SGLang with --disable-radix-cache")
        self.runner = runner
        self.engine.reserve(runner.req_to_token_pool.size + 1)

    def _requests(self, batch):
        slots = batch.req_pool_indices.tolist()
        if batch.forward_mode.is_decode():
            starts, counts = batch.positions.tolist(), [1] * len(slots)
        elif batch.extend_seq_lens is None:
            raise ValueError(f"seqtopk: a forward of {batch.forward_mode} does not say how many rows each request has")
        else:
            counts = batch.extend_seq_lens.tolist()
            firsts = [sum(counts[:i]) for i in range(len(counts))]
            starts = batch.positions[firsts].tolist()
        for slot, name in zip(slots, batch.rids):
            if self.owners.get(slot) != name:
                self.owners[slot] = name
                self.engine.forget(slot)
        return list(zip(batch.rids, slots, starts, counts))


def register() -> None:
    """The entry point. SGLang applies the hooks once all plug-ins are loaded."""
    how = settings()
    if how.router == "off":
        return
    try:
        from sglang.srt.plugins.hook_registry import HookRegistry, HookType
    except ImportError as missing:
        raise RuntimeError(f"seqtopk: this SGLang has no hooks for plug-ins; 0.5.23 has: {missing}") from missing
    plugin = Plugin(how)
    HookRegistry.register(SELECT, lambda original, *args, **kwargs: plugin.select_experts(original, *args, **kwargs),
                          HookType.AROUND)
    HookRegistry.register(FORWARD, lambda original, *args, **kwargs: plugin.forward(original, *args, **kwargs),
                          HookType.AROUND)
