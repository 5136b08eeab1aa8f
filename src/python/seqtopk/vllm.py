# SPDX-License-Identifier: MIT
"""A plug-in for vLLM on the CPU: its MoE routers by seqtopk. docs/engines/vllm.md says how to use it.

vLLM loads it by the entry point `vllm.general_plugins` in each of its processes. It does nothing unless SEQTOPK_ROUTER, or
"seqtopk" in vLLM's additional_config, says 'topk' or 'seqtopk'. Read with vLLM 0.32.
"""

import dataclasses
import functools
import warnings

from .serving import Engine, settings

_engines: dict[int, Engine] = {}  # by the id of a VllmConfig, which the engine keeps


def words(router) -> dict:
    """seqtopk.route's words for what a CPURouter computes; None: it is not one that seqtopk has (a function of the model's own,
    or experts looked up by token)."""
    if router.custom_routing_function is not None or router._hash_indices_table is not None:
        return None
    how = {"k": router.top_k, "score": router.scoring_func, "norm": "sum" if router.renormalize else "none"}
    if router.use_grouped_topk:
        how["scale"] = router.routed_scaling_factor
        if router.num_expert_group > 1:
            how |= {"groups": router.num_expert_group, "group_top_k": router.topk_group,
                    "group_score": "max" if router.e_score_correction_bias is None else "top2"}
    elif router.scoring_func == "sqrtsoftplus":
        how["scale"] = router.routed_scaling_factor
    return how


def engine_of(config) -> Engine:
    """The Engine of a model's VllmConfig, which is made with its first router."""
    if id(config) not in _engines:
        given = config.additional_config if isinstance(config.additional_config, dict) else {}
        how = settings(given.get("seqtopk"))
        if how.router == "seqtopk" and config.cache_config is not None and config.cache_config.enable_prefix_caching:
            raise ValueError("seqtopk: SeqTopK has to route every token of a request, and a cache of prefixes leaves some out: "
                             "start vLLM with --no-enable-prefix-caching (enable_prefix_caching=False)")
        engine = _engines[id(config)] = Engine(how)
        engine.config, engine.slots = config, {}
        engine.reserve(config.scheduler_config.max_num_seqs)
        if how.router != "off" and isinstance(config.additional_config, dict):
            # What vLLM names its compiled graphs by, so that a graph of another router is not taken from its disk cache.
            config.additional_config["seqtopk"] = dataclasses.asdict(how)
    return _engines[id(config)]


def _router_class(stock):
    class SeqTopKRouter(stock):
        """vLLM's router of CPUs, which still is what maps ids to replicas and records them."""

        def __init__(self, *args, seqtopk_engine, **kwargs):
            super().__init__(*args, **kwargs)
            how = words(self)
            if how is None and seqtopk_engine.settings.router == "seqtopk" and self._hash_indices_table is None:
                raise ValueError("seqtopk: the model has a routing function of its own, which is not known by a score and a "
                                 f"norm: {self.custom_routing_function}")
            self._seqtopk = None if how is None else seqtopk_engine.router(self.global_num_experts, how)

        def _compute_routing(self, hidden_states, router_logits, indices_type, *, input_ids=None):
            if self._seqtopk is None:
                return super()._compute_routing(hidden_states, router_logits, indices_type, input_ids=input_ids)
            return self._seqtopk.route(router_logits, self.e_score_correction_bias)

    return SeqTopKRouter


def _begin(runner, counts):
    """What a forward's rows are: requests in the batch's order, each from its first token that is not computed yet."""
    engine = _engines.get(id(runner.vllm_config))
    if engine is None or engine.settings.router != "seqtopk":
        return
    names = runner.input_batch.req_ids[:len(counts)]
    requests = []
    for i, name in enumerate(names):
        if name not in engine.slots:
            free = set(range(len(engine.lengths))) - set(engine.slots.values())
            if not free:
                raise RuntimeError(f"seqtopk: request {name} is one more than max_num_seqs, {len(engine.lengths)}")
            engine.slots[name] = min(free)
            engine.forget(engine.slots[name])
        requests.append((name, engine.slots[name], int(runner.input_batch.num_computed_tokens_cpu[i]), int(counts[i])))
    engine.begin(requests)


def _patch_runner(kind):
    if hasattr(kind, "_seqtopk"):
        return
    kind._seqtopk = True
    prepare, execute = kind._prepare_inputs, kind.execute_model

    @functools.wraps(prepare)
    def _prepare_inputs(self, scheduler_output, num_scheduled_tokens, *args, **kwargs):
        _begin(self, num_scheduled_tokens)
        return prepare(self, scheduler_output, num_scheduled_tokens, *args, **kwargs)

    @functools.wraps(execute)
    def execute_model(self, scheduler_output, *args, **kwargs):
        engine = _engines.get(id(self.vllm_config))
        if engine is None:
            return execute(self, scheduler_output, *args, **kwargs)
        # A request that is preempted starts again.
        for name in (*scheduler_output.finished_req_ids, *(scheduler_output.preempted_req_ids or ())):
            engine.slots.pop(name, None)
        try:
            return execute(self, scheduler_output, *args, **kwargs)
        finally:
            engine.end()

    kind._prepare_inputs, kind.execute_model = _prepare_inputs, execute_model


def register() -> None:
    """The entry point. May be called again."""
    try:
        from vllm.config import get_current_vllm_config
        from vllm.model_executor.layers.fused_moe.router import router_factory
        from vllm.platforms import current_platform
        from vllm.v1.worker.gpu_model_runner import GPUModelRunner

        stock = router_factory.CPURouter
    except (ImportError, AttributeError) as missing:
        if settings().router == "off":
            return
        raise RuntimeError("seqtopk: this vLLM has not what the plug-in replaces, which was read with 0.32: "
                           f"{missing}") from missing
    if settings().router != "off" and not current_platform.is_cpu():
        warnings.warn("seqtopk routes on the CPU, and this vLLM does not run there: SEQTOPK_ROUTER changes nothing")
    if hasattr(stock, "_seqtopk_stock"):
        return
    patched = _router_class(stock)

    def make(*args, **kwargs):
        engine = engine_of(get_current_vllm_config())
        if engine.settings.router == "off":
            return stock(*args, **kwargs)
        return patched(*args, seqtopk_engine=engine, **kwargs)

    make._seqtopk_stock = stock
    router_factory.CPURouter = make
    _patch_runner(GPUModelRunner)
