#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""docs/examples/engine against the model in PyTorch, byte by byte: check_engine.py ENGINE. With --write it is the model that
writes the engine's expected output, docs/examples/engine/engine.txt: check_engine.py --write"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import harness
from harness import check

torch, np = harness.need("torch", "numpy")
ROOT = harness.HERE.parents[1]
sys.path.insert(0, str(ROOT / "bench" / "quality"))
import data
import keep
import model as models
import routers
import seqtopk
import train

EXPECTED = ROOT / "docs" / "examples" / "engine" / "engine.txt"


def _prompt(logits, k, shape, online, threshold):
    """The first half of each sequence taken together, the rest one by one."""
    sequences, length = shape
    cache = seqtopk.Cache(sequences=sequences, experts=logits.shape[1], k=k, **routers.BOUNDS, **routers.WEIGHTS)
    rows, half = torch.arange(sequences * length).view(shape), length // 2
    ids = torch.full((len(logits), k + 2), -1)
    for part, take in ((rows[:, :half], "joint"), (rows[:, half:], "causal")):
        part = part.flatten()
        ids[part] = cache.step(0, logits[part], (part // length).int(), part % length, take=take, want="padded64").padded_ids64
    return seqtopk.torch.route(logits, k, given_ids=ids, **routers.WEIGHTS)


WAYS = (("TopK", "topk", False), ("SeqTopK offline, prefilled", "seqtopk", False),
        ("SeqTopK online, prefilled", "seqtopk", True), ("SeqTopK online, decoded", "seqtopk", True),
        ("SeqTopK, half of it a prompt", "prompt", True))


def evaluate():
    """(the model's shape, and of each way its name, bits [bytes], experts [bytes, layers])"""
    routers._ROUTES["prompt"] = _prompt
    model, _, _ = models.load(keep.KEPT)
    pieces = data.cut(np.frombuffer(data.SAMPLE.read_bytes(), np.uint8), model.config.length)
    found = []
    for name, router, online in WAYS:
        measured = train.evaluate(model, router, pieces, online)
        found.append((name, measured.losses.numpy(), measured.counts.T.numpy()))
    return model.config, found


def printed(config, found):
    bytes_ = len(found[0][1])
    yield f"{bytes_} bytes in {bytes_ // config.length} sequences; {config.experts} experts, K = {config.k}"
    yield f"{'router':30} {'bits per byte':>13} {'experts a token':>16}"
    for name, bits, experts in found:
        yield f"{name:30} {bits.astype(np.float64).mean():13.4f} {experts.mean():16.3f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", nargs="?", type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    config, found = evaluate()
    text = "\n".join(printed(config, found)) + "\n"
    if args.write:
        EXPECTED.write_text(text)
        return
    for line, wanted in zip(text.splitlines(), EXPECTED.read_text().splitlines(), strict=True):
        words = zip(line.split(), wanted.split(), strict=True)
        near = all(abs(float(a) - float(b)) <= 2e-4 if "." in b else a == b for a, b in words)
        check(near, f"the model: {line}\nstored: {wanted}")
    if args.engine:
        with tempfile.TemporaryDirectory() as where:
            path = pathlib.Path(where) / "figures"
            subprocess.run([args.engine, keep.KEPT, data.SAMPLE, path], check=True, stdout=subprocess.DEVNULL)
            file = np.fromfile(path, np.int32)
        for (name, bits, experts), got in zip(found, np.split(file, len(found)), strict=True):
            got_bits, got_experts = got[:len(bits)].view(np.float32), got[len(bits):].reshape(experts.shape)
            other = (got_experts != experts).any(1)
            far = np.abs(got_bits - bits) > 1e-3
            print(f"{name}: {other.sum()} of {len(bits)} bytes with other experts, {far.sum()} more than 0.001 bits away, "
                  f"the others at most {np.abs(got_bits - bits)[~far].max():.1e}")
            # A logit's last bit may turn a near tie, which changes what follows in its sequence by little.
            check(other.mean() < 2e-3, f"{name}: {other.sum()} bytes have other experts")
            check(far.mean() < 5e-3, f"{name}: {far.sum()} bytes have other bits")
            means = [float(each.mean(dtype=np.float64)) for each in (got_bits, bits)]
            check(abs(means[0] - means[1]) < 1e-4, f"{name}: bits per byte {means}")
    harness.report()


main()
