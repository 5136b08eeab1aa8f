#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""seqtopk.hf on small models of transformers with random weights: check_hf.py [MODEL...]

TopK must be what the models do without; SeqTopK what the oracle in float64 selects; online SeqTopK what a loop without any
cache gives that routes each prefix anew.
"""

import argparse
import ast
import copy
import gc
import pathlib
import weakref

import harness
from harness import check, raises

torch, transformers, np = harness.need("torch", "transformers", "numpy")
import models
import oracle
import seqtopk
import seqtopk.hf

BOUNDS = dict(min=1, max="k+2")


def ids_of(*shape, seed=1):
    return torch.randint(1, 61, shape, generator=torch.Generator().manual_seed(seed))


def near(a, b, what, tolerance=2e-4):
    check(a.shape == b.shape and bool(torch.allclose(a, b, rtol=tolerance, atol=tolerance)),
          f"{what}: off by {(a - b).abs().max():.2g}")


class Watch:
    """What a patched model's routers answer: [layer] of (logits, weights, ids)."""

    def __init__(self, made):
        self.seen = [None] * len(made.routers)
        self.handles = [router.register_forward_hook(self._keep(layer)) for layer, router in enumerate(made.routers)]

    def _keep(self, layer):
        def keep(module, args, output):
            self.seen[layer] = tuple(t.detach() for t in output)
        return keep

    def stop(self):
        for handle in self.handles:
            handle.remove()


def check_topk(kind, model):
    ids = ids_of(2, 9)
    for how in ("eager", "grouped_mm", "batched_mm"):
        model.set_experts_implementation(how)
        want = model(ids, labels=ids)
        want.loss.backward()
        grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()
        seqtopk.hf.patch(model, scope="token")
        got = model(ids, labels=ids)
        got.loss.backward()
        near(got.logits, want.logits, f"{kind} {how}: TopK")
        check(grads.keys() == {name for name, p in model.named_parameters() if p.grad is not None}, f"{kind} {how}: grads")
        for name, p in model.named_parameters():
            if name in grads:
                near(p.grad, grads[name], f"{kind} {how}: gradient of {name}", 2e-3)
        model.zero_grad()
        # The three ways of the experts agree on SeqTopK too.
        seqtopk.hf.patch(model, scope="sequence")
        out = model(ids, labels=ids)
        out.loss.backward()
        if how == "eager":
            eager = out.logits
        near(out.logits, eager, f"{kind} {how}: SeqTopK")
        check(all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None), f"{kind} {how}: finite")
        model.zero_grad()
        seqtopk.hf.unpatch(model)
    model.set_experts_implementation("grouped_mm")
    check(torch.equal(model(ids).logits, model(ids).logits) and not any(hasattr(m, "_seqtopk") for m in model.modules()),
          f"{kind}: unpatched")


def check_sequence(kind, model):
    """What is selected, against the oracle; padding on the left changes nothing."""
    ids = ids_of(2, 14)
    made = seqtopk.hf.patch(model, scope="sequence", **BOUNDS)
    watch = Watch(made)
    whole = model(ids).logits
    for layer, (logits, weights, chosen) in enumerate(watch.seen):
        words, router = made.words[layer], made.routers[layer]
        bias = getattr(router, "e_score_correction_bias", None)
        problem = oracle.Problem(
            logits.float().numpy(), top_k=2, score=words["score"], norm=words["norm"], min=1, max=4,
            groups=words.get("groups", 1), group_top_k=words.get("group_top_k", 1),
            group_score=words.get("group_score", "max"), lengths=[14, 14], bias=None if bias is None else bias.numpy())
        got = np.zeros(logits.shape, bool)
        rows, places = np.nonzero(np.arange(chosen.shape[1]) < made.counts[layer].reshape(-1, 1).numpy())
        got[rows, chosen[rows, places]] = True
        verdict = oracle.judge(problem, got)
        check(verdict in ("exact", "near tie"), f"{kind}, layer {layer}: {verdict}")
        check(int(made.counts[layer].sum()) == 2 * 14 * 2, f"{kind}, layer {layer}: the budget")
    watch.stop()
    padded = torch.cat([torch.zeros(2, 3, dtype=ids.dtype), ids], 1)
    mask = (torch.arange(17) >= 3).long().expand(2, 17).clone()
    near(model(padded, attention_mask=mask).logits[:, 3:], whole, f"{kind}: padded on the left")
    check(bool((made.counts[0][:, :3] == 0).all()), f"{kind}: padding has experts")
    seqtopk.hf.unpatch(model)


def check_training(kind, model):
    """Some steps of it."""
    model = copy.deepcopy(model).train()
    ids = ids_of(4, 16)
    for scope in ("sequence", "online"):
        seqtopk.hf.patch(model, scope=scope)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        losses = []
        for _ in range(6):
            losses.append(model(ids, labels=ids).loss)
            optimizer.zero_grad()
            losses[-1].backward()
            optimizer.step()
        gates = [p.grad for name, p in model.named_parameters() if name.endswith(("gate.weight", "router.weight"))]
        check(losses[-1] < losses[0], f"{kind} {scope}: loss {losses[0]:.3f} -> {losses[-1]:.3f}")
        check(gates and all(g is not None and bool(g.abs().sum() > 0) for g in gates), f"{kind} {scope}: gates learn")


class Reference(torch.nn.Module):
    """Online SeqTopK as it is defined: token m of each row gets what a route over tokens 1 to m gives it. No state."""

    def __init__(self, router, form, words):
        super().__init__()
        self.router, self.form, self.words = router, form, words

    def forward(self, hidden):
        hidden = hidden.reshape(-1, hidden.shape[-1])
        logits, bias = self.form.logits(self.router, hidden), self.form.bias(self.router)
        rows = logits.view(self.batch, -1, logits.shape[-1])
        ids, weights = [], []
        for row in rows:
            for m in range(len(row)):
                r = seqtopk.route(row[:m + 1], bias=bias, want="padded64", padding="first", **self.words)
                ids.append(r.padded_ids64[m])
                weights.append(r.padded_weights[m])
        return logits, self.form.weights(torch.stack(weights), logits, hidden), torch.stack(ids)


def with_references(model):
    """The model routed by Reference, in a copy."""
    model = copy.deepcopy(model)
    references = []
    for name, router in list(model.named_modules()):
        form = seqtopk.hf.FORMS.get(type(router).__name__)
        if form:
            parent, _, last = name.rpartition(".")
            references.append(Reference(router, form, {"k": router.top_k, **form.describe(router), **BOUNDS}))
            setattr(model.get_submodule(parent), last, references[-1])

    def run(ids):
        for reference in references:
            reference.batch = len(ids)
        return model(ids, use_cache=False).logits
    return run


@torch.no_grad()
def greedy(run, ids, steps):
    for _ in range(steps):
        ids = torch.cat([ids, run(ids)[:, -1:].argmax(-1)], 1)
    return ids


GREEDY = dict(do_sample=False, pad_token_id=0)


@torch.no_grad()
def check_online(kind, model):
    ids = ids_of(3, 7)
    run = with_references(model)
    made = seqtopk.hf.patch(model, scope="online", **BOUNDS)
    near(model(ids).logits, run(ids), f"{kind}: a forward")
    want = greedy(run, ids, 12)
    got = model.generate(ids, max_new_tokens=12, **GREEDY)
    check(torch.equal(got, want), f"{kind}: generate\n{got}\n{want}")
    check(made.counts[0].shape == (3, 1), f"{kind}: counts {made.counts[0].shape}")
    check(torch.equal(model.generate(ids, max_new_tokens=12, use_cache=False, **GREEDY), want), f"{kind}: without a cache")

    # Padding on the left: what each row gets alone.
    padded = torch.cat([torch.zeros(3, 4, dtype=ids.dtype), ids], 1)
    padded[1, :2] = ids_of(2, seed=5)
    padded[1, 2:4] = ids_of(2, seed=6)
    mask = torch.ones_like(padded)
    mask[0, :4] = mask[2, :4] = 0
    got = model.generate(padded, attention_mask=mask, max_new_tokens=10, **GREEDY)
    alone = model.generate(padded[1:2], max_new_tokens=10, **GREEDY)
    check(torch.equal(got[0, 4:], want[0, :17]) and torch.equal(got[2, 4:], want[2, :17]), f"{kind}: padded rows")
    check(torch.equal(got[1:2], alone), f"{kind}: the row without padding")

    # Beams: reordered with a cache, made anew without.
    beams = dict(num_beams=3, max_new_tokens=12, **GREEDY)
    check(torch.equal(model.generate(ids, **beams), model.generate(ids, use_cache=False, **beams)), f"{kind}: beams")

    # Drafts of another model, most of which are rejected, and of the same, most of which are not.
    assistant = models.make(kind, seed=9)
    noisy = copy.deepcopy(model)
    for p in noisy.lm_head.parameters():
        p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(2)) * p.std())
    for name, draft in (("another", assistant), ("a noisy", noisy)):
        crops = []
        original = transformers.DynamicCache.crop

        def crop(self, n):
            crops.append(n)
            return original(self, n)
        transformers.DynamicCache.crop = crop
        try:
            got = model.generate(ids[:1], assistant_model=draft, max_new_tokens=12, **GREEDY)
        finally:
            transformers.DynamicCache.crop = original
        check(torch.equal(got, want[:1]), f"{kind}: {name} assistant")
        check(any(n < 0 for n in crops), f"{kind}: {name} assistant was never wrong: {crops}")
    seqtopk.hf.unpatch(model)


@torch.no_grad()
def check_cache(model):
    """What becomes of a KV cache, in a loop of one's own."""
    ids = ids_of(2, 10)
    seqtopk.hf.patch(model, scope="online", **BOUNDS)
    whole = model(ids).logits

    def step(cache, rows, where):
        return model(rows[:, where], cache=cache, use_cache=True).logits

    out = model(ids[:, :4], use_cache=True)  # a cache that the model makes for itself
    near(step(out.cache, ids, slice(4, 10)), whole[:, 4:], "continued")
    out.cache.crop(-3)
    near(step(out.cache, ids, slice(7, 10)), whole[:, 7:], "cropped")
    out.cache.crop(-3)
    fork = copy.deepcopy(out.cache)
    near(step(out.cache, ids, slice(7, 10)), whole[:, 7:], "after a copy was made")
    near(step(fork, ids, slice(7, 10)), whole[:, 7:], "a copy")
    out.cache.crop(-3)
    out.cache.batch_repeat_interleave(3)
    near(step(out.cache, ids.repeat_interleave(3, 0), slice(7, 9)), whole.repeat_interleave(3, 0)[:, 7:9], "repeated")
    out.cache.batch_select_indices(torch.tensor([5, 0]))
    near(step(out.cache, ids.flip(0), slice(9, 10)), whole.flip(0)[:, 9:], "selected")
    out.cache.reorder_cache(torch.tensor([1, 1]))
    out.cache.crop(-2)
    near(step(out.cache, ids[[0, 0]], slice(8, 10)), whole[[0, 0]][:, 8:], "reordered and cropped")
    out.cache.reset()
    near(step(out.cache, ids, slice(0, 10)), whole, "reset")
    check(isinstance(out.cache, transformers.DynamicCache) and type(out.cache).__name__ == "DynamicCache", "its class")

    # Two caches at once.
    a, b = transformers.DynamicCache(config=model.config), transformers.DynamicCache(config=model.config)
    parts = [(step(a, ids, slice(i, i + 5)), step(b, ids.flip(1), slice(i, i + 5))) for i in (0, 5)]
    near(torch.cat([p[0] for p in parts], 1), whole, "the first of two")
    near(torch.cat([p[1] for p in parts], 1), model(ids.flip(1)).logits, "the second of two")

    seqtopk.hf.patch(model, scope="online", prefill="joint", **BOUNDS)
    joint = model(ids).logits
    seqtopk.hf.patch(model, scope="sequence", **BOUNDS)
    near(joint, model(ids).logits, "prefill='joint' is SeqTopK offline")

    seqtopk.hf.unpatch(model)
    plain = model(ids[:, :4], use_cache=True)
    seqtopk.hf.patch(model, scope="online")
    raises(ValueError, ["has 4 tokens", "empty"], lambda: step(plain.cache, ids, slice(4, 5)))
    out = model(ids, use_cache=True)
    raises(ValueError, ["2 rows", "3"], lambda: model(ids_of(3, 1), cache=out.cache))
    seqtopk.hf.unpatch(model)


@torch.no_grad()
def check_generate(model):
    """Other ways through generate."""
    ids = ids_of(2, 9)
    seqtopk.hf.patch(model, scope="online", **BOUNDS)
    want = model.generate(ids, max_new_tokens=12, **GREEDY)
    words = dict(max_new_tokens=12, **GREEDY)
    check(torch.equal(model.generate(ids[:1], prompt_lookup_num_tokens=3, **words), want[:1]), "prompt lookup")
    check(torch.equal(model.generate(ids, prefill_chunk_size=4, **words), want), "a prompt in chunks")
    first = model.generate(ids, max_new_tokens=5, return_dict_in_generate=True, **GREEDY)
    second = torch.cat([first.sequences, ids_of(2, 3, seed=7)], 1)
    check(torch.equal(model.generate(second, cache=first.cache, **words), model.generate(second, **words)), "a second turn")
    copied = copy.deepcopy(model)  # with its patch
    seqtopk.hf.patch(copied, scope="sequence", **BOUNDS)
    copied(ids)
    seqtopk.hf.patch(copied, scope="online", **BOUNDS)
    check(torch.equal(copied.generate(ids, **words), want), "a copy, patched anew")
    out = model.generate(ids, return_dict_in_generate=True, **words)
    kept = weakref.ref(out.cache)
    del out
    gc.collect()
    check(kept() is None, "a KV cache is kept alive")
    raises(TypeError, ["float64", "float32"], lambda: copied.double()(ids))
    mask = torch.ones_like(ids)
    ids[0, :4] = mask[0, :4] = 0
    for beams in (1, 3):
        padded = dict(attention_mask=mask, num_beams=beams, **words)
        check(torch.equal(model.generate(ids, cache_implementation="static", disable_compile=True, **padded),
                          model.generate(ids, use_cache=False, **padded)), f"a static cache, {beams} beams")
    seqtopk.hf.unpatch(model)


@torch.no_grad()
def check_sliding():
    """A window that the prompt is longer than."""
    model, ids = models.make("Mixtral", sliding_window=6), ids_of(3, 11)
    mask = torch.ones_like(ids)
    ids[0, :3] = mask[0, :3] = 0
    seqtopk.hf.patch(model, scope="online", **BOUNDS)
    words = dict(attention_mask=mask, max_new_tokens=9, **GREEDY)
    want = model.generate(ids, use_cache=False, **words)
    check(torch.equal(model.generate(ids, **words), want), "a sliding window")
    check(torch.equal(model.generate(ids, num_beams=2, **words),
                      model.generate(ids, num_beams=2, use_cache=False, **words)), "a sliding window, beams")


def check_compile(model):
    """torch.compile goes around routers."""
    ids = ids_of(2, 9)
    for scope in ("sequence", "online"):
        seqtopk.hf.patch(model, scope=scope, **BOUNDS)
        grads = []
        for run in (model, torch.compile(model, backend="aot_eager")):
            model.zero_grad()
            out = run(ids, labels=ids, use_cache=False)
            out.loss.backward()
            grads.append((out.logits, *(p.grad.clone() for p in model.parameters())))
        check(all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(*grads)), f"{scope}: torch.compile")
    model.zero_grad()
    seqtopk.hf.unpatch(model)


def check_forms_of_rows(model):
    """Packed rows, checkpointing, embeddings, half precision, a model that was copied."""
    ids = ids_of(1, 20)
    seqtopk.hf.patch(model, scope="sequence", **BOUNDS)
    with torch.no_grad():
        places = torch.cat([torch.arange(12), torch.arange(8)])[None]
        for scope in ("sequence", "online"):
            seqtopk.hf.patch(model, scope=scope, **BOUNDS)
            want = torch.cat([model(ids[:, :12]).logits, model(ids[:, 12:]).logits], 1)
            near(model(ids, position_ids=places, use_cache=False).logits, want, f"{scope}: packed, by position_ids")
            two = model(ids.repeat(2, 1), position_ids=places, use_cache=False).logits
            near(two, want.repeat(2, 1, 1), f"{scope}: two packed rows")
        seqtopk.hf.patch(model, scope="sequence", **BOUNDS)
        want = model(ids[:, :12]).logits
        near(model(inputs_embeds=model.get_input_embeddings()(ids[:, :12])).logits, want, "embeddings")
        near(copy.deepcopy(model)(ids[:, :12]).logits, want, "a copy of a patched model")
        half = copy.deepcopy(model).bfloat16()
        made = seqtopk.hf.patch(half, scope="sequence", **BOUNDS)
        check(half(ids).logits.dtype == torch.bfloat16 and int(made.counts[0].sum()) == 40, "bfloat16")
    model.train()
    model(ids, labels=ids).loss.backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    model.gradient_checkpointing_enable()
    for scope in ("sequence", "online"):
        seqtopk.hf.patch(model, scope=scope, prefill="joint", **BOUNDS)
        model(ids, labels=ids, use_cache=False).loss.backward()
        for name, p in model.named_parameters():
            near(p.grad, grads[name], f"{scope}: checkpointed gradient of {name}", 2e-3)
        model.zero_grad()
    model.gradient_checkpointing_disable()
    model.eval()
    seqtopk.hf.unpatch(model)


def check_classes():
    """The routers of one form have the same code, in the version that is installed."""
    code, found = {}, set()
    for path in pathlib.Path(transformers.__file__).parent.glob("models/*/modeling_*.py"):
        text = path.read_text()
        if not any(f"class {name}(" in text for name in seqtopk.hf.FORMS):
            continue
        for node in ast.parse(text).body:
            form = seqtopk.hf.FORMS.get(node.name) if isinstance(node, ast.ClassDef) else None
            if form:
                forward = next(ast.unparse(m) for m in node.body if isinstance(m, ast.FunctionDef) and m.name == "forward")
                found.add(node.name)
                check(code.setdefault(id(form), forward) == forward, f"{node.name} has code of its own")
    check(found == set(seqtopk.hf.FORMS), f"not in transformers: {set(seqtopk.hf.FORMS) - found}")


def check_errors(model):
    other = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=9))
    raises(ValueError, ["GPT2LMHeadModel", "OlmoeTopKRouter"], lambda: seqtopk.hf.patch(other))
    raises(ValueError, ["scope is 'seq'"], lambda: seqtopk.hf.patch(model, scope="seq"))
    raises(ValueError, ["prefill is 'all'"], lambda: seqtopk.hf.patch(model, prefill="all"))
    raises(seqtopk.Error, ["max is 2", "min (5)"], lambda: seqtopk.hf.patch(model, k=6, min=5, max=2))
    raises(seqtopk.Error, ["k is 99"], lambda: seqtopk.hf.patch(model, k=99))
    raises(TypeError, ["'modes'"], lambda: seqtopk.hf.patch(model, scope="online", modes="exact"))
    check(not any(hasattr(m, "_seqtopk") for m in model.modules()), "an error patches nothing")
    seqtopk.hf.patch(model, scope="sequence")
    raises(ValueError, ["scope='online'"], lambda: model.generate(ids_of(1, 4), max_new_tokens=3, **GREEDY))
    raises(ValueError, ["attention_mask"], lambda: model(ids_of(1, 4), attention_mask=torch.zeros(1, 1, 4, 3)))
    raises(ValueError, ["attention_mask"], lambda: model(ids_of(1, 4), attention_mask={"sliding_attention": None}))
    raises(RuntimeError, ["7 rows"], lambda: model.model.layers[0].mlp.gate(torch.zeros(7, 32)))
    seqtopk.hf.unpatch(model)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=list(models.KINDS))
    check_classes()
    for kind in parser.parse_args().models:
        model = models.make(kind)
        check_topk(kind, model)
        check_sequence(kind, model)
        check_training(kind, model)
        check_online(kind, model)
        if kind == "Olmoe":
            check_cache(model)
            check_generate(model)
            check_compile(model)
            check_sliding()
            check_forms_of_rows(model)
            check_errors(model)
    harness.report()


main()
