#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Patched models under transformers.Trainer: losses, checkpoints, and what is saved: check_trainer.py [MODEL...]"""

import argparse
import pathlib
import tempfile

import harness
from harness import check

torch, transformers, np, _ = harness.need("torch", "transformers", "numpy", "accelerate")
import models
import seqtopk.hf

STEPS, SAVED = 6, 3


def rows():
    """Texts that can be learnt: each begins somewhere in a cycle of 61 words, and walks on by its own stride."""
    starts = torch.randint(1, 61, (24, 1), generator=torch.Generator().manual_seed(3))
    ids = (starts + torch.arange(12) * (1 + starts % 3)) % 60 + 1
    return [{"input_ids": row, "labels": row} for row in ids]


def train(model, scope, where, resume=None, **more):
    """The loss of each step that was made. scope None: as the model is, by its own routers."""
    if scope:
        seqtopk.hf.patch(model, scope=scope)
    arguments = transformers.TrainingArguments(
        output_dir=str(where), max_steps=STEPS, save_steps=SAVED, logging_steps=1, per_device_train_batch_size=4,
        learning_rate=3e-3, lr_scheduler_type="constant", seed=7, use_cpu=True, report_to=[], disable_tqdm=True, **more)
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=rows(), eval_dataset=rows()[:8])
    trainer.train(resume_from_checkpoint=resume)
    return [line["loss"] for line in trainer.state.log_history if "loss" in line], trainer.evaluate()["eval_loss"]


def near(a, b, what, tolerance=2e-3):
    check(len(a) == len(b) and np.allclose(a, b, rtol=tolerance, atol=tolerance), f"{what}: {a} and {b}")


def check_losses(kind, where):
    """TopK's losses are the model's own; SeqTopK's go down, go on from a checkpoint, and do without kept activations."""
    stock, stock_eval = train(models.make(kind), None, where / "stock")
    topk, topk_eval = train(models.make(kind), "token", where / "token")
    near([*topk, topk_eval], [*stock, stock_eval], f"{kind}: TopK by Trainer")
    for scope in ("sequence", "online"):
        model = models.make(kind)
        losses, evaluated = train(model, scope, where / scope)
        check(len(losses) == STEPS and losses[-1] < losses[0] and evaluated < losses[0], f"{kind} {scope}: {losses}")
        check(max(abs(a - b) for a, b in zip(losses, stock)) > 1e-4, f"{kind} {scope}: routes as TopK does")
        checkpoint = str(where / scope / f"checkpoint-{SAVED}")
        # Trainer itself reads no experts that save_pretrained has split: transformers 5.24, patched or not.
        other = type(model).from_pretrained(checkpoint)
        resumed, again = train(other, scope, where / scope, resume=checkpoint)
        near(resumed[-(STEPS - SAVED):], losses[SAVED:], f"{kind} {scope}: resumed")
        near([again], [evaluated], f"{kind} {scope}: evaluated after it was resumed")
        check(all(torch.allclose(a, b, atol=1e-4) for a, b in zip(other.state_dict().values(), model.state_dict().values())),
              f"{kind} {scope}: weights after it was resumed")
        frugal, _ = train(models.make(kind), scope, where / (scope + "-frugal"), activation_checkpointing=True)
        near(frugal, losses, f"{kind} {scope}: gradient checkpointing")


@torch.no_grad()
def check_saved(kind, where):
    """A patch leaves nothing in what is saved: it is the model's own format, and loads with or without seqtopk."""
    model, ids = models.make(kind), torch.stack([row["input_ids"] for row in rows()[:3]])
    keys, stock = model.state_dict().keys(), model(ids).logits
    seqtopk.hf.patch(model, scope="sequence")
    patched = model(ids).logits
    check(model.state_dict().keys() == keys, f"{kind}: names of parameters")
    model.save_pretrained(where)
    loaded, info = type(model).from_pretrained(where, output_loading_info=True)
    loaded.eval()
    check(not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], f"{kind}: {info}")
    check(not any(hasattr(m, "_seqtopk") for m in loaded.modules()), f"{kind}: loaded with a patch")
    check(torch.allclose(loaded(ids).logits, stock, atol=1e-5), f"{kind}: loaded, by its own routers")
    seqtopk.hf.patch(loaded, scope="sequence")
    check(torch.allclose(loaded(ids).logits, patched, atol=1e-5), f"{kind}: loaded, and patched")
    check(not torch.allclose(patched, stock, atol=1e-3), f"{kind}: SeqTopK is TopK")


def main():
    transformers.logging.set_verbosity_error()
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=["Olmoe", "Qwen3Moe", "DeepseekV3"])
    for kind in parser.parse_args().models:
        with tempfile.TemporaryDirectory() as directory:
            check_losses(kind, pathlib.Path(directory))
            check_saved(kind, pathlib.Path(directory) / "saved")
    harness.report()


main()
