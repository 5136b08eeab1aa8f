#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""seqtopk.serving, and the plug-ins for vLLM and SGLang against stubs of what they replace: check_serving.py

What the engines themselves do with the plug-ins is check_vllm.py's.
"""

import contextlib
import dataclasses
import importlib.metadata
import os
import sys
import types
import warnings
from typing import Any, Callable, Optional

import harness
from harness import check, raises

torch, np = harness.need("torch", "numpy")
import seqtopk
import seqtopk.serving as serving
import seqtopk.sglang
import seqtopk.vllm

E, K = 16, 3
WORDS = {"k": K, "score": "softmax", "norm": "sum"}
SEQTOPK = serving.Settings("seqtopk")


@contextlib.contextmanager
def environment(**words):
    names = ("SEQTOPK_ROUTER", "SEQTOPK_MIN", "SEQTOPK_MAX", "SEQTOPK_CACHE")
    before = {name: os.environ.pop(name, None) for name in names}
    os.environ.update(words)
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
            if before[name] is not None:
                os.environ[name] = before[name]


def check_settings():
    with environment():
        check(serving.settings() == serving.Settings("off", 1, "k+2", "exact"), "no settings: off")
        check(serving.settings({"router": "topk", "max": 7}) == serving.Settings("topk", 1, 7), "an engine's own")
    with environment(SEQTOPK_ROUTER="seqtopk", SEQTOPK_MIN="2", SEQTOPK_MAX="9", SEQTOPK_CACHE="compact"):
        check(serving.settings() == serving.Settings("seqtopk", 2, 9, "compact"), "by the environment")
        check(serving.settings({"router": "off"}).router == "off", "an engine's own comes first")
    for words, given, told in (({"SEQTOPK_ROUTER": "best"}, None, "router is 'best'"),
                               ({"SEQTOPK_MIN": "x"}, None, "min is 'x'"),
                               ({"SEQTOPK_MAX": "k+3"}, None, "max is 'k+3'"), ({}, {"min": "k+2"}, "min is 'k+2'"),
                               ({}, {"cache": "lru"}, "cache is 'lru'"), ({}, {"routr": "topk"}, "no setting 'routr'"),
                               ({}, "seqtopk", "must be a dict"), ({}, {"min": True}, "min is True")):
        with environment(**words):
            raises(ValueError, [told], lambda: serving.settings(given))
    engine = serving.Engine(serving.Settings("seqtopk", 9, "k+2"))
    raises(seqtopk.Error, ["min"], lambda: engine.router(E, WORDS))


def prefix_routes(logits, words=WORDS, bias=None):
    """What online SeqTopK gives each token by definition: a route over all tokens up to it."""
    for m in range(1, len(logits) + 1):
        want = seqtopk.route(logits[:m], min=1, max="k+2", bias=bias, want="padded", padding="first", **words)
        yield want.padded_ids[-1], want.padded_weights[-1]


def same(got, want):
    weights, ids = got
    return all(torch.equal(ids[i], w[0]) and torch.equal(weights[i], w[1]) for i, w in enumerate(want))


def check_requests():
    """Requests in chunks, mixed with decode steps of others, preempted, ended; the slot is another's afterwards."""
    torch.manual_seed(0)
    engine = serving.Engine(SEQTOPK)
    routers = [engine.router(E, WORDS), engine.router(E, {**WORDS, "score": "sigmoid"})]
    engine.reserve(3)
    bias = torch.randn(E) * 0.1
    data = {name: [torch.randn(n, E) * 2 for _ in routers] for name, n in (("a", 12), ("b", 9), ("c", 5), ("d", 6))}
    wanted = {name: (list(prefix_routes(rows[0])), list(prefix_routes(rows[1], routers[1].words, bias)))
              for name, rows in data.items()}
    steps = ([("a", 0, 0, 5), ("b", 1, 0, 1)], [("b", 1, 1, 3), ("a", 0, 5, 1), ("c", 2, 0, 5)],
             [("a", 0, 6, 4), ("b", 1, 4, 5)],
             [("a", 0, 8, 4)],  # two tokens were drafts
             [("b", 1, 0, 9)],  # preempted: from the beginning
             [("d", 2, 0, 6), ("a", 0, 11, 1)])
    for i, requests in enumerate(steps):
        if i == 5:
            engine.forget(2)
        engine.begin(requests)
        for layer, router in enumerate(routers):
            rows = torch.cat([data[name][layer][start:start + n] for name, _, start, n in requests])
            want = [wanted[name][layer][t] for name, _, start, n in requests for t in range(start, start + n)]
            check(same(router.route(rows, bias if layer else None), want), f"step {i}, layer {layer}")
        engine.end()
    raises(ValueError, ["token 3 of request e", "after 0", "cache of prefixes"],
           lambda: (engine.forget(1), engine.begin([("e", 1, 3, 2)])))
    engine.begin([("d", 2, 6, 1)])
    row = torch.randn(1, E)
    weights, ids = routers[0].route(torch.cat([row, row]))
    check(weights.shape == (2, K + 2) and not weights[1].any() and ids.dtype == torch.int32, "an engine's padding")
    check(weights.is_contiguous() and ids.is_contiguous(), "contiguous")
    raises(RuntimeError, ["0 rows of a forward of 1"], lambda: routers[0].route(row[:0]))
    engine.end()
    # No request's: TopK, as wide.
    weights, ids = routers[0].route(row)
    topk = seqtopk.route(row, scope="token", want="padded", **WORDS)
    check(ids.shape == (1, K + 2) and torch.equal(weights[:, :K], topk.padded_weights), "a warm-up")
    raises(TypeError, ["float64"], lambda: routers[0].route(row.double()))


def check_compiled():
    """One operator of the graph, in which shapes do not depend on data; the state is stepped once a call."""
    engine = serving.Engine(SEQTOPK)
    router = engine.router(E, WORDS)
    engine.reserve(1)
    step = torch.compile(lambda x: router.route(x * 2), fullgraph=True, dynamic=True, backend="aot_eager")
    rows = torch.randn(9, E)
    want = list(prefix_routes(rows * 2))
    for start, n in ((0, 4), (4, 1), (5, 4)):
        engine.begin([("a", 0, start, n)])
        check(same(step(rows[start:start + n]), want[start:start + n]), f"compiled, from {start} on")
        engine.end()
    check(router.cache.length() == 9, "compiled: a step a call")


# ------------------------------------------------------------------- vLLM --


class StockRouter:
    """CPURouter's attributes, as vLLM 0.32 has them."""

    def __init__(self, top_k, global_num_experts, use_grouped_topk=False, num_expert_group=None, topk_group=None,
                 renormalize=True, scoring_func="softmax", routed_scaling_factor=1.0, e_score_correction_bias=None,
                 custom_routing_function=None, hash_indices_table=None, eplb_state=None):
        for name, value in list(locals().items()):
            if name not in ("self", "hash_indices_table"):
                setattr(self, name, value)
        self._hash_indices_table = hash_indices_table

    def _compute_routing(self, hidden_states, router_logits, indices_type, *, input_ids=None):
        return "stock"


def vllm_config(**more):
    return types.SimpleNamespace(additional_config=more, cache_config=types.SimpleNamespace(enable_prefix_caching=False),
                                 scheduler_config=types.SimpleNamespace(max_num_seqs=2))


class StockRunner:
    """What a GPUModelRunner does about routing."""

    def __init__(self, config, layers):
        self.vllm_config, self.layers = config, layers
        self.input_batch = types.SimpleNamespace(req_ids=[], num_computed_tokens_cpu=np.zeros(2, np.int32))
        self.logits = {}

    def _prepare_inputs(self, scheduler_output, num_scheduled_tokens):
        return "prepared"

    def execute_model(self, scheduler_output, intermediate_tensors=None):
        names, counts = scheduler_output.batch, np.array([n for _, _, n in scheduler_output.rows])
        self.input_batch.req_ids = names + ["left over"]
        self.input_batch.num_computed_tokens_cpu[:len(names)] = [start for _, start, _ in scheduler_output.rows]
        check(self._prepare_inputs(scheduler_output, counts) == "prepared", "vLLM: what was there is done")
        rows = torch.cat([self.logits[name][start:start + n] for name, start, n in scheduler_output.rows])
        return [layer._compute_routing(rows, rows, None) for layer in self.layers]


def scheduled(*rows, finished=(), preempted=None):
    return types.SimpleNamespace(batch=[name for name, _, _ in rows], rows=rows, finished_req_ids=set(finished),
                                 preempted_req_ids=preempted)


@contextlib.contextmanager
def modules(**named):
    """Modules of these names, with all that they are in."""
    made = {}
    for name, members in named.items():
        parts = name.split("__")
        for i in range(1, len(parts) + 1):
            made.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i]))).__path__ = []
        vars(made[".".join(parts)]).update(members)
    for name, module in made.items():
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(made[parent], last, module)
    before = {name: sys.modules.get(name) for name in made}
    sys.modules.update(made)
    try:
        yield made
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


FACTORY, RUNNER = "vllm.model_executor.layers.fused_moe.router.router_factory", "vllm.v1.worker.gpu_model_runner"


def check_vllm():
    current = []
    stock_runner = type("GPUModelRunner", (StockRunner,), {name: vars(StockRunner)[name] for name in
                                                           ("_prepare_inputs", "execute_model")})
    platform = types.SimpleNamespace(is_cpu=lambda: True)
    stubs = {"vllm__config": {"get_current_vllm_config": lambda: current[-1]},
             "vllm__platforms": {"current_platform": platform},
             FACTORY.replace(".", "__"): {"CPURouter": StockRouter},
             RUNNER.replace(".", "__"): {"GPUModelRunner": stock_runner}}
    with modules(**stubs) as made, environment():
        seqtopk.vllm.register()
        make = made[FACTORY].CPURouter
        seqtopk.vllm.register()
        check(made[FACTORY].CPURouter is make, "vLLM: registered twice")

        current.append(vllm_config())
        router = make(top_k=K, global_num_experts=E)
        check(type(router) is StockRouter and current[-1].additional_config == {}, "vLLM: off")

        # SeqTopK: two layers, requests that come, are preempted, end, and one that takes a free slot.
        current.append(vllm_config(seqtopk={"router": "seqtopk"}))
        layers = [make(top_k=K, global_num_experts=E) for _ in range(2)]
        check(current[-1].additional_config["seqtopk"] == dataclasses.asdict(SEQTOPK), "vLLM: what names a compiled graph")
        runner = stock_runner(current[-1], layers)
        torch.manual_seed(1)
        runner.logits = {name: torch.randn(8, E) for name in "abcd"}
        want = {name: list(prefix_routes(rows)) for name, rows in runner.logits.items()}
        for i, step in enumerate((scheduled(("a", 0, 3), ("b", 0, 2)), scheduled(("b", 2, 1), ("a", 3, 2)),
                                  scheduled(("c", 0, 8), ("b", 3, 5), finished="a"), scheduled(("b", 0, 2), preempted={"c"}),
                                  scheduled(("c", 0, 1), ("b", 2, 1)), scheduled(("d", 0, 8), ("c", 1, 7), finished="b"))):
            rows = [want[name][t] for name, start, n in step.rows for t in range(start, start + n)]
            for got in runner.execute_model(step):
                check(same(got, rows), f"vLLM: step {i}")
        raises(RuntimeError, ["request a is one more than max_num_seqs, 2"],
               lambda: runner.execute_model(scheduled(("a", 0, 3))))
        runner.execute_model(scheduled(("c", 7, 1), finished="d"))
        raises(ValueError, ["token 2 of request a"], lambda: runner.execute_model(scheduled(("a", 2, 1))))
        ids = layers[0]._compute_routing(rows, runner.logits["a"], None)[1]
        check(ids.shape == (8, K + 2), "vLLM: a forward of no request")

        # TopK is each scheme's own.
        current.append(vllm_config(seqtopk={"router": "topk"}))
        logits, bias = torch.randn(7, E), torch.randn(E)
        for words, how in (({}, {"norm": "sum"}), ({"renormalize": False}, {"norm": "none"}),
                           ({"use_grouped_topk": True, "num_expert_group": 4, "topk_group": 2, "scoring_func": "sigmoid",
                             "routed_scaling_factor": 2.5, "e_score_correction_bias": bias},
                            {"score": "sigmoid", "norm": "sum", "scale": 2.5, "groups": 4, "group_top_k": 2,
                             "group_score": "top2", "bias": bias}),
                           ({"use_grouped_topk": True, "num_expert_group": 1, "topk_group": 1, "routed_scaling_factor": 2.0},
                            {"norm": "sum", "scale": 2.0}),
                           ({"scoring_func": "sqrtsoftplus", "e_score_correction_bias": bias, "routed_scaling_factor": 1.5},
                            {"score": "sqrtsoftplus", "norm": "sum", "scale": 1.5, "bias": bias})):
            got = make(top_k=K, global_num_experts=E, **words)._compute_routing(logits, logits, None)
            wanted = seqtopk.route(logits, K, scope="token", want="padded", **how)
            check(torch.equal(got[0], wanted.padded_weights) and torch.equal(got[1], wanted.padded_ids), f"vLLM: {words}")
        for words in ({"custom_routing_function": print}, {"scoring_func": "sqrtsoftplus", "hash_indices_table": bias}):
            router = make(top_k=K, global_num_experts=E, **words)
            check(router._compute_routing(logits, logits, None) == "stock", f"vLLM: {words} is left as it is")

        current.append(vllm_config(seqtopk={"router": "seqtopk"}))
        raises(ValueError, ["a routing function of its own"], lambda: make(top_k=K, global_num_experts=E,
                                                                           custom_routing_function=print))
        current.append(vllm_config(seqtopk={"router": "seqtopk"}))
        current[-1].cache_config.enable_prefix_caching = True
        raises(ValueError, ["--no-enable-prefix-caching"], lambda: make(top_k=K, global_num_experts=E))
    with modules(**stubs), environment(SEQTOPK_ROUTER="topk"), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        platform.is_cpu = lambda: False
        seqtopk.vllm.register()
        check(any("routes on the CPU" in str(each.message) for each in told), "vLLM: not on a CPU")
    with modules(vllm__config={}):
        with environment():
            seqtopk.vllm.register()  # another vLLM, which nobody wants changed
        with environment(SEQTOPK_ROUTER="topk"):
            raises(RuntimeError, ["0.32"], seqtopk.vllm.register)


# ----------------------------------------------------------------- SGLang --


@dataclasses.dataclass
class TopKConfig:
    """The fields of SGLang's that matter."""

    top_k: int
    use_grouped_topk: bool = False
    topk_group: Optional[int] = None
    num_expert_group: Optional[int] = None
    renormalize: bool = True
    num_shared_topk_slots: int = 0
    custom_routing_function: Optional[Callable] = None
    correction_bias: Any = None
    torch_native: bool = False
    scoring_func: str = "softmax"


def stock_select(hidden_states, router_logits, topk_config, *, layer_id=None):
    if topk_config.custom_routing_function is None:
        return "stock"
    check(not topk_config.use_grouped_topk and not topk_config.torch_native, "SGLang: what comes before a function is off")
    return topk_config.custom_routing_function(hidden_states=hidden_states, gating_output=router_logits, topk=topk_config.top_k,
                                               renormalize=topk_config.renormalize)


def check_sglang():
    hooks = {}
    registry = types.SimpleNamespace(register=lambda target, hook, kind: hooks.update({target: (hook, kind)}))
    with modules(sglang__srt__plugins__hook_registry={"HookRegistry": registry,
                                                      "HookType": types.SimpleNamespace(AROUND="around")}):
        with environment():
            seqtopk.sglang.register()
            check(not hooks, "SGLang: off")
        with environment(SEQTOPK_ROUTER="seqtopk"):
            seqtopk.sglang.register()
    check(set(hooks) == {seqtopk.sglang.SELECT, seqtopk.sglang.FORWARD} and all(kind == "around" for _, kind in hooks.values()),
          "SGLang: hooks")
    select, forward = hooks[seqtopk.sglang.SELECT][0], hooks[seqtopk.sglang.FORWARD][0]
    config = TopKConfig(K, use_grouped_topk=True, num_expert_group=4, topk_group=2, correction_bias=torch.randn(E))
    words = {"k": K, "score": "sigmoid", "norm": "sum", "groups": 4, "group_top_k": 2, "group_score": "top2"}
    torch.manual_seed(2)
    logits = {name: torch.randn(8, E) for name in "abc"}
    want = {name: list(prefix_routes(rows, words, config.correction_bias)) for name, rows in logits.items()}
    check(select(stock_select, torch.zeros(4, 2), logits["a"][:4], config, layer_id=0)[1].shape == (4, K + 2),
          "SGLang: a warm-up before any forward")
    runner = types.SimpleNamespace(server_args=types.SimpleNamespace(disable_radix_cache=True),
                                   req_to_token_pool=types.SimpleNamespace(size=2))

    def model(runner, batch):
        rows = torch.cat([logits[name][start:start + n] for name, start, n in batch.rows])
        return [select(stock_select, hidden_states=rows, router_logits=rows, topk_config=config, layer_id=i) for i in (0, 3)]

    def run(rows, slots, is_decode=False):
        positions = torch.cat([torch.arange(start, start + n) for _, start, n in rows])
        counts = None if is_decode else torch.tensor([n for _, _, n in rows])
        batch = types.SimpleNamespace(rows=rows, rids=[name for name, _, _ in rows], req_pool_indices=torch.tensor(slots),
                                      positions=positions, extend_seq_lens=counts,
                                      forward_mode=types.SimpleNamespace(is_decode=lambda: is_decode))
        for got in forward(model, runner, batch):
            check(same(got, [want[name][t] for name, start, n in rows for t in range(start, start + n)]), f"SGLang: {rows}")

    run([("a", 0, 3), ("b", 0, 5)], [2, 1])
    run([("b", 5, 1), ("a", 3, 1)], [1, 2], is_decode=True)
    run([("c", 0, 8), ("a", 4, 4)], [1, 2])
    raises(ValueError, ["token 2 of request b"], lambda: run([("b", 2, 1)], [1]))
    raises(ValueError, ["does not say how many rows"], lambda: forward(model, runner, types.SimpleNamespace(
        rids=["a"], req_pool_indices=torch.tensor([1]), extend_seq_lens=None,
        forward_mode=types.SimpleNamespace(is_decode=lambda: False))))
    raises(ValueError, ["a second model"], lambda: forward(model, types.SimpleNamespace(**vars(runner)), None))
    raises(ValueError, ["--disable-shared-experts-fusion"], lambda: select(
        stock_select, None, logits["a"], dataclasses.replace(config, num_shared_topk_slots=1), layer_id=9))
    raises(ValueError, ["a routing function of its own"], lambda: select(
        stock_select, None, logits["a"], dataclasses.replace(config, custom_routing_function=print), layer_id=9))
    other = seqtopk.sglang.Plugin(SEQTOPK)
    runner.server_args.disable_radix_cache = False
    raises(ValueError, ["--disable-radix-cache"], lambda: other.forward(model, runner, types.SimpleNamespace(rids=["a"])))

    topk = seqtopk.sglang.Plugin(serving.Settings("topk"))
    for how, words in ((TopKConfig(K), {"norm": "sum"}),
                       (TopKConfig(K, renormalize=False, scoring_func="sigmoid"), {"score": "sigmoid"}),
                       (config, {**words, "bias": config.correction_bias})):
        wanted = seqtopk.route(logits["a"], scope="token", want="padded", **{"k": K, **words})
        got = topk.select_experts(stock_select, None, logits["a"], how, layer_id=id(how))
        check(torch.equal(got[0], wanted.padded_weights) and torch.equal(got[1], wanted.padded_ids), f"SGLang: {how}")
    own = dataclasses.replace(config, custom_routing_function=lambda **words: "own")
    got = topk.select_experts(lambda *args, **more: "stock", None, logits["a"], own)
    check(got == "stock", "SGLang: its own function stays")


def check_entry_points():
    """Names that the project declares are what there is."""
    try:
        import tomllib
    except ImportError:
        return print("no tomllib: entry points were not checked")
    project = tomllib.loads((harness.HERE.parents[1] / "pyproject.toml").read_text())["project"]
    for group, module in (("vllm.general_plugins", seqtopk.vllm), ("sglang.srt.plugins", seqtopk.sglang)):
        point = importlib.metadata.EntryPoint("seqtopk", project["entry-points"][group]["seqtopk"], group)
        check(point.load() is module.register, f"entry point of {group}")


def main():
    for part in (check_settings, check_requests, check_compiled, check_vllm, check_sglang, check_entry_points):
        part()
    harness.report()


main()
