#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tables and a plot of what run.py measured: report.py RESULTS.json writes report.md and quality.svg beside it."""

import argparse
import json
import pathlib
import statistics

import plot

FORMS = ("offline", "online")
FEW = 0.005  # of the tokens: means over fewer are noise, and are left out


def cpu():
    """What /proc/cpuinfo calls it."""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown CPU"


def spread(values, form):
    """Mean and standard deviation over seeds."""
    text = format(statistics.mean(values), form)
    return f"{text} ± {statistics.stdev(values):.4f}" if len(values) > 1 else text


def groups(runs):
    """(E, K, start) -> router -> seed -> run"""
    found = {}
    for run in runs:
        found.setdefault((run["experts"], run["k"], run["start"]), {}).setdefault(run["router"], {})[run["seed"]] = run
    return found


def differences(by_router, router, form):
    """Bits per byte above TopK's of the same seed, one a seed."""
    topk = by_router["topk"]
    return [run[form]["bits"] - topk[seed][form]["bits"] for seed, run in by_router[router].items()]


def by_experts(runs):
    """Over all seeds: [experts, share of tokens, bits, TopK's bits of the same tokens]."""
    total = {}
    for run in runs:
        for n, share, bits, others in run["by_count"]:
            at = total.setdefault(n, [0.0, 0.0, 0.0])
            for i, value in enumerate((share, share * bits, share * others)):
                at[i] += value
    return [[n, share / len(runs), bits / share, others / share] for n, (share, bits, others) in sorted(total.items())
            if share / len(runs) >= FEW]


def _title(key):
    experts, k, start = key
    return f"E = {experts}, K = {k}, " + ("from scratch" if start == "scratch" else "on from TopK's model")


def _results(key, by_router):
    lines = [f"{_title(key)}; seeds: {len(by_router['topk'])}; steps: {by_router['topk'][0]['steps']}", "",
             "| router | offline: bits per byte | above TopK | experts | online: bits per byte | above TopK | experts |",
             "|---|--:|--:|--:|--:|--:|--:|"]
    for router, by_seed in by_router.items():
        cells = [router]
        for form in FORMS:
            measured = [run[form] for run in by_seed.values()]
            cells += [spread([m["bits"] for m in measured], ".4f"),
                      spread(differences(by_router, router, form), "+.4f") if router != "topk" else "",
                      f"{statistics.mean(m['experts'] for m in measured):.3f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines + [""]


def _experts(key, rows):
    lines = [f"{_title(key)}: tokens by the experts that online SeqTopK gives them (mean of the layers); what less than "
             f"{100 * FEW:g} % have is left out", "",
             "| experts | tokens | bits per byte, SeqTopK | TopK, the same tokens |", "|--:|--:|--:|--:|"]
    lines += [f"| {n:g} | {100 * share:.1f} % | {bits:.3f} | {others:.3f} |" for n, share, bits, others in rows]
    return lines + [""]


def markdown(results):
    threads = "1 thread" if results["threads"] == 1 else f"{results['threads']} threads"
    lines = [f"{results['cpu']}, {threads}, torch {results['torch']}, Python {results['python']}: "
             f"{results['seconds'] / 60:.0f} minutes. {results['bytes']} bytes held out. ± is the standard deviation over seeds.",
             ""]
    found = groups(results["runs"])
    for key, by_router in found.items():
        lines += _results(key, by_router)
    for key, by_router in found.items():
        if key[2] == "scratch" and "seqtopk" in by_router:
            lines += _experts(key, by_experts(list(by_router["seqtopk"].values())))
    return "\n".join(lines)


def write(path):
    results = json.loads(path.read_text())
    text = markdown(results)
    path.with_name("report.md").write_text(text)
    found = groups(results["runs"])
    dots = {_title(key): {router: {form: differences(by_router, router, form) for form in FORMS}
                          for router in by_router if router != "topk"}
            for key, by_router in found.items() if len(by_router) > 1}  # a run may still go on
    curves = {_title(key): by_experts(list(by_router["seqtopk"].values()))
              for key, by_router in found.items() if key[2] == "scratch" and "seqtopk" in by_router}
    path.with_name("quality.svg").write_text(plot.draw(dots, curves))
    print(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=pathlib.Path, help="results.json of run.py")
    path = parser.parse_args().results
    try:
        write(path)
    except OSError as error:
        parser.error(str(error))
    except (KeyError, TypeError, ValueError) as error:
        parser.error(f"{path} is no results.json of run.py: {type(error).__name__} {error}")


if __name__ == "__main__":
    main()
