#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""bench/quality: that its routers train, spend equal budgets and are causal online, and that the kept model is as its file
says: check_quality.py"""

import argparse
import contextlib
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest.mock

import harness
from harness import check

torch, np = harness.need("torch", "numpy")
QUALITY = harness.HERE.parents[1] / "bench" / "quality"
sys.path.insert(0, str(QUALITY))
import data
import keep
import model as models
import report
import routers
import run
import seqtopk
import train

TINY = models.Config(experts=16, k=2, width=16, hidden=8, layers=2, heads=2, length=32)
SAMPLE = np.frombuffer(data.SAMPLE.read_bytes(), np.uint8)
TEXTS = {kind: (SAMPLE, SAMPLE) for kind in data.KINDS}


def check_step():
    """One step of training moves every parameter, by a budget that is the same for all."""
    torch.manual_seed(0)
    start = models.Model(TINY)
    pieces = data.cut(SAMPLE, TINY.length, 32)
    for router in routers.NAMES:
        trained = train.train(TINY, router, TEXTS, 1, 0, start)
        for (name, before), after in zip(start.named_parameters(), trained.parameters()):
            check(bool(after.isfinite().all()) and not torch.equal(before, after), f"{router}: {name} after a step")
        measured = train.evaluate(trained, router, pieces, False)
        exact = router not in routers.THRESHOLDS
        near = 0 if exact else 1.1 * routers.TOLERANCE * TINY.k
        check(abs(measured.experts - TINY.k) <= near, f"{router}: {measured.experts} experts a token")
        bounds = int(measured.counts.min()), int(measured.counts.max())
        check(bounds == (2, 2) if router == "topk" else 1 <= bounds[0] < 2 < bounds[1] <= 4, f"{router}: {bounds} experts")
        # Each budget is spent within what shares it.
        counts = measured.counts.view(TINY.layers, -1, train.SEQUENCES, TINY.length)
        shared = {"topk": 0, "seqtopk": TINY.length, "batchtopk": train.SEQUENCES * TINY.length}.get(router)
        if shared:
            sums = counts.reshape(TINY.layers, -1, shared).sum(-1)
            check(bool((sums == shared * TINY.k).all()), f"{router}: budgets {sums.unique()}")
        if router == "batchtopk":
            sums = train.evaluate(trained, router, pieces, True).counts.view_as(counts).sum(2)
            check(bool((sums == train.SEQUENCES * TINY.k).all()), f"batchtopk online: budgets {sums.unique()}")


@torch.no_grad()
def check_causal():
    """Online no byte changes what is said of those before it; offline SeqTopK's and BatchTopK's do."""
    torch.manual_seed(1)
    model = models.Model(TINY)
    for layer in model.layers:
        layer.experts.threshold.fill_(0.15)
    text = torch.from_numpy(data.cut(SAMPLE, TINY.length, train.SEQUENCES)[:, :-1])
    other = text.clone()
    other[:, 20:] = 65
    for router in routers.NAMES:
        same = [torch.allclose(model(text, router, is_online)[:, :20], model(other, router, is_online)[:, :20], atol=1e-5)
                for is_online in (True, False)]
        check(same[0], f"{router} online: later bytes change earlier predictions")
        if router in ("seqtopk", "batchtopk"):
            check(not same[1], f"{router} offline: later tokens do not compete with earlier ones")


def check_online():
    """SeqTopK online is TopK over the tokens so far, token by token, and trains."""
    torch.manual_seed(2)
    logits = torch.randn(24, 16, requires_grad=True)
    words = {**routers.BOUNDS, **routers.WEIGHTS}
    got = routers.route("seqtopk", logits, 2, (2, 12), True, None)
    for row in range(24):
        first = row // 12 * 12
        want = seqtopk.route(logits.detach()[first:row + 1], 2, want="padded64", padding="experts", **words)
        n = int(got.counts[row])
        same = n == int(want.token_offsets[-1] - want.token_offsets[-2])
        check(same and torch.equal(got.ids[row, :n], want.padded_ids64[-1, :n]), f"online: token {row}")
    got.weights.square().sum().backward()
    check(bool(logits.grad.abs().sum() > 0), "online: gradients")


def check_kept():
    """The file's figures are those of its weights, to what another order of sums may change."""
    model, router, figures = models.load(keep.KEPT)
    check(router == "seqtopk" and (model.config.experts, model.config.k) == (128, 2), "the kept model's router and shape")
    measured = keep.measure(model, router)
    for name, value in measured.items():
        check(abs(value - figures[name]) <= 2e-3, f"kept model: {name} is {value:.5f}, its file says {figures[name]:.5f}")
    check(measured["experts_offline"] == model.config.k, "kept model: the budget offline")
    check(0.001 < measured["differ"] < 0.5 and measured["bits_offline"] != measured["bits_online"],
          f"kept model: offline and online do not differ as they should: {measured}")
    size = sum(path.stat().st_size for path in (keep.KEPT, data.SAMPLE))
    check(size <= 4 << 20, f"kept model and text: {size} bytes")


def check_data():
    if not data.LICENCES.is_dir():
        return print(f"no {data.LICENCES}: what is held out was not checked")
    texts = data.read()
    for kind, (trained, held) in texts.items():
        check(len(held) > 30000, f"{kind}: {len(held)} bytes held out")
        inside = sum(bytes(piece) in bytes(trained) for piece in data.cut(held, 256))
        check(inside <= len(held) // 256 // 50, f"{kind}: {inside} held-out pieces were trained on")
    read = [(data.LICENCES / name).read_bytes() for name in data.HELD_OUT_LICENCES]
    check(data.SAMPLE.read_bytes() == b"\n".join(read), "sample.txt is the licences that are held out")


def check_report():
    """Means, differences to TopK of the same seed, tokens weighed by their shares."""
    def noted(router, seed, bits, rows):
        measured = {"bits": bits, "experts": 2.0}
        return {"experts": 128, "k": 2, "seed": seed, "start": "scratch", "router": router, "steps": 5, "offline": measured,
                "online": measured, "by_count": rows}

    runs = [noted("topk", 0, 2.0, []), noted("seqtopk", 0, 1.75, [[1, 0.5, 1.0, 1.5], [3, 0.5, 2.5, 2.5]]),
            noted("topk", 1, 3.0, []), noted("seqtopk", 1, 2.25, [[1, 0.25, 2.0, 3.0], [3, 0.75, 2.5, 3.5]])]
    with tempfile.TemporaryDirectory() as where:
        path = pathlib.Path(where) / "results.json"
        path.write_text(json.dumps({"cpu": "none", "threads": 1, "torch": "0", "python": "3", "seconds": 60, "bytes": 9,
                                    "runs": runs}))
        done = subprocess.run([sys.executable, QUALITY / "report.py", path], capture_output=True, text=True, check=False)
        check(done.returncode == 0, done.stderr)
        check("2.0000 ± 0.3536 | -0.5000 ± 0.3536 | 2.000" in done.stdout, f"the table: {done.stdout}")
        check("| 1 | 37.5 % | 1.333 | 2.000 |" in done.stdout, f"by experts: {done.stdout}")
        check("</svg>" in path.with_name("quality.svg").read_text(), "the plot")
    check([row[0] for row in report.by_experts(runs[1::2])] == [1, 3], "by_experts")


def check_refused():
    """Wrong flags and files, by name."""
    with tempfile.TemporaryDirectory() as where:
        path = pathlib.Path(where) / "results.json"
        path.write_text("{}")
        for main, words, names in ((report.main, [path], "results.json"), (report.main, [where + "/none"], "No such file"),
                                   (run.main, ["--steps", "0"], "--steps is 0"), (run.main, ["--seeds", "-2"], "--seeds is -2"),
                                   (run.main, ["--threads", "0"], "--threads is 0"), (run.main, ["--out", path], "--out"),
                                   (run.main, ["--shape", "8,9"], "--shape: 8,9"), (run.main, ["--shape", "8"], "--shape: '8'"),
                                   (run.main, ["--router", "top"], "--router"),
                                   (keep.main, ["--steps", "-1"], "--steps is -1")):
            told, status = io.StringIO(), None
            with unittest.mock.patch("sys.argv", ["x", *map(str, words)]), contextlib.redirect_stderr(told):
                try:
                    main()
                except SystemExit as exit:
                    status = exit.code
            check(status == 2 and names in told.getvalue(), f"{words}: {status} {told.getvalue()}")


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    for part in (check_step, check_causal, check_online, check_kept, check_data, check_report, check_refused):
        part()
    harness.report()


main()
