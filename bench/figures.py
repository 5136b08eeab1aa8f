#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The figures of docs/measured.md in one run, as Markdown: figures.py BUILD [OPTIONS]

BUILD is a build directory with -Dbench=enabled. Peers: std::nth_element and what of Highway is installed; with
-Dbench_highway=DIR and -Dbench_x86_simd_sort=DIR, sources of these, their selectors too. --torch names a Python that
can import torch; --aarch64 a build for aarch64, whose instructions are counted under qemu beside AVX2's under valgrind.

All times are medians of samples that were interleaved in rounds with the others of their row; "spread" is the
quartiles' distance over the median, the largest of the row's library figures. What misses its aim is bold.
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent

# route / floor at most, and how many times as fast as the best assembled: what was aimed at.
SEQUENCE = {(32768, 256, 8): (1.35, 4), (32768, 512, 10): (1.35, 4), (8192, 256, 8): (1.6, 4), (4096, 256, 8): (1.6, 4),
            (2048, 128, 8): (1.8, 4), (32768, 128, 8): (1.8, 4), (512, 128, 8): (2.2, 2.5), (512, 64, 8): (2.2, 2.5),
            (128, 64, 8): (3, 2), (64, 60, 4): (3, 2), (16, 256, 8): (3, 2)}


def collect(command):
    """(section, shape) -> what -> (ns, relative spread)."""
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command[0]}: exit {done.returncode}")
    figures = {}
    for row in map(json.loads, done.stdout.splitlines()):
        figures.setdefault((row["section"], (row["tokens"], row["experts"], row["top_k"])), {})[row["what"]] = (
            row["ns"], (row["high"] - row["low"]) / row["ns"])
    return figures


def best(figures, prefix):
    """The fastest of those whose name begins so: name without the prefix, ns."""
    found = [(figure[0], what.removeprefix(prefix)) for what, figure in figures.items() if what.startswith(prefix)]
    return (min(found)[1], min(found)[0]) if found else (None, None)


def spread(figures):
    return max(s for what, (_, s) in figures.items() if not what.startswith(("peer:", "torch:")))


def us(ns):
    """Microseconds, four digits or all before the point."""
    return f"{ns / 1e3:.4g}" if ns < 1e6 else f"{ns / 1e3:.0f}"


def time_text(ns):
    return f"{ns:.1f} ns" if ns < 1000 else f"{us(ns)} us"


def shape_text(shape, budget=True):
    return f"{shape[0]} x {shape[1]}" + (f", {shape[2]}" if budget else "")


def ratio(over, under, form="{:.2f}"):
    return form.format(over / under) if over and under else ""


def mark(value, limit, most):
    """The value, bold where it misses the aim."""
    good = value <= limit if most else value >= limit
    return f"{value:.2f}" if good else f"**{value:.2f}**"


def table(title, columns, rows):
    print(f"\n{title}\n\n| " + " | ".join(columns) + " |")
    print("|---|" + "--:|" * (len(columns) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def sequence(figures):
    rows = []
    for shape, (most_floors, times) in SEQUENCE.items():
        f = figures["sequence", shape]
        route, floor = f["route"][0], best(f, "floor:")[1]
        peer, peer_ns = best(f, "peer:")
        wide, narrow = f.get("route:avx512"), f.get("route:avx2")
        rows.append([shape_text(shape), us(f["read"][0]), us(floor), us(route),
                     mark(route / floor, most_floors, True), f"{most_floors}", f"{peer} {us(peer_ns)}",
                     mark(peer_ns / route, times, False), f"{times}",
                     f"{100 * (f['permuted'][0] / route - 1):.0f} %", ratio(narrow and narrow[0], wide and wide[0]),
                     f"{100 * spread(f):.0f} %"])
    table("SeqTopK (scope sequence), softmax, float32, one thread, token-major lists; microseconds a call:",
          ["T x E, K", "read", "floor", "route", "route / floor", "aim", "best assembled", "times as fast", "aim",
           "by expert too", "AVX2 / AVX-512", "spread"], rows)


def token(figures):
    rows = []
    for (section, shape), f in figures.items():
        if section != "token":
            continue
        route, floor = f["route"][0], best(f, "floor:")[1]
        argsort, topk, both = (f[name][0] if name in f else None
                               for name in ("peer:std_sort", "torch:topk", "torch:softmax + topk"))
        aim = 1.6 if shape[0] > 1 else (3 * floor + 20) / floor
        rows.append([shape_text(shape), time_text(floor), time_text(route), mark(route / floor, aim, True),
                     f"{aim:.2f}", f"{route / shape[0]:.1f}", ratio(argsort, route, "{:.1f}"),
                     ratio(topk, route, "{:.1f}"), ratio(both, route, "{:.1f}"),
                     f"{100 * (f['permuted'][0] / route - 1):.0f} %", f"{100 * spread(f):.0f} %"])
    table("TopK (scope token), softmax, float32, one thread. Times as fast as a route that sorts each row wholly "
          "(aim: 10), as torch.topk on ready probabilities (aim: 30), and as torch.softmax and torch.topk:",
          ["T x E, K", "floor", "route", "route / floor", "aim", "ns a token", "argsort", "torch.topk",
           "with softmax", "by expert too", "spread"], rows)


def length(figures):
    shapes = [shape for section, shape in figures if section == "length"]
    short, long = (figures["length", shape]["route"][0] / shape[0] for shape in shapes)
    rows = []
    for shape in shapes:
        f = figures["length", shape]
        times = (f["read"][0], best(f, "floor:")[1], f["route"][0])
        rows.append([shape_text(shape)] + [f"{ns / shape[0]:.2f}" for ns in times] +
                    [ratio(times[2], times[1]), f"{100 * spread(f):.0f} %"])
    table("Length: SeqTopK, softmax, float32, one thread; ns a token:",
          ["T x E, K", "read", "floor", "route", "route / floor", "spread"], rows)
    reads = [figures["length", shape]["read"][0] / shape[0] for shape in shapes]
    print(f"\nA token of the long sequence costs {mark(long / short, 1.15, True)} times as much to route (aim: at most "
          f"1.15), and {reads[1] / reads[0]:.2f} times as much to read.")


def scores(figures):
    for scope in ("sequence", "token"):
        rows = []
        for (section, shape), f in figures.items():
            if section == "scores":
                times = [f[f"{scope}:{score}"][0] for score in ("softmax", "sigmoid", "sqrtsoftplus", "logits")]
                rows.append([shape_text(shape), us(f["read"][0])] + [us(ns) for ns in times] +
                            [ratio(ns, f["read"][0]) for ns in times[1:]])
        table(f"Scores, scope {scope}, float32, one thread; microseconds, and times the plain read:",
              ["T x E, K", "read", "softmax", "sigmoid", "sqrtsoftplus", "logits", "sigmoid / read",
               "sqrtsoftplus / read", "logits / read"], rows)


def dtypes(figures):
    rows = []
    for scope in ("sequence", "token"):
        for (section, shape), f in figures.items():
            if section == "dtypes":
                times = [f[f"{scope}:{dtype}"][0] / (shape[0] * shape[1]) for dtype in ("f32", "bf16", "f16")]
                rows.append([f"{shape_text(shape)}, {scope}"] + [f"{ns:.4f}" for ns in times] +
                            [mark(ns / times[0], 1, True) for ns in times[1:]])
    table("Types of logits: ns a logit, softmax, one thread (aim: never slower than float32):",
          ["T x E, K, scope", "f32", "bf16", "f16", "bf16 / f32", "f16 / f32"], rows)


def threads(figures):
    rows = []
    for (section, shape), f in figures.items():
        if section.startswith("threads"):
            one, two = f["1"][0], f["2"][0]
            rows.append([shape_text(shape) + section.removeprefix("threads"), us(one), us(two),
                         mark(one / two, 1.85, False), f"{100 * spread(f):.0f} %"])
    table("Threads: SeqTopK, softmax, float32; microseconds (aim: two at least 1.85 times as fast as one):",
          ["T x E, K", "1 thread", "2 threads", "times as fast", "spread"], rows)


# Routers of current models, as `seqtopk bench --model` knows them.
MODELS = ("qwen3", "qwen3-next", "granite-4-h", "gpt-oss", "mixtral", "deepseek-v2", "glm-4.5", "deepseek-v3",
          "deepseek-v4", "kimi-k2", "longcat", "ling-3", "nemotron-3-super", "kimi-k3")


def models(build, seconds):
    def bench(model, tokens, *more):
        command = [build / "seqtopk", "bench", "--model", model, "--shape", tokens, "--seconds", seconds, "--json", *more]
        return json.loads(subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, check=True).stdout)

    rows = []
    for model in MODELS:
        topk = bench(model, 4096, "--scope", "token")
        bounds = ("--min", 1, "--max", min(topk["top_k"] + 2, topk["experts"]))
        sequence = bench(model, 4096, "--scope", "sequence", *bounds)
        small = [bench(model, 64, "--scope", "token"), bench(model, 64, "--scope", "sequence", *bounds)]
        one = bench(model, 1, "--scope", "token")
        cold = bench(model, 1, "--scope", "token", "--cold")
        route, floor = topk["route_ns"] / 4096, topk["floor_ns"] / 4096
        rows.append([f"{model} ({topk['experts']} / {topk['top_k']})", f"{floor:.1f}", f"{route:.1f}",
                     f"{route / floor:.2f}", f"{100 * (topk['route_permuted_ns'] / topk['route_ns'] - 1):.0f} %",
                     f"{sequence['route_ns'] / 4096:.1f}", f"{sequence['route_ns'] / topk['route_ns']:.2f}",
                     *(f"{s['route_ns'] / 64:.1f}" for s in small), f"{one['route_ns']:.0f}",
                     f"{cold['route_ns'] / 1e3:.1f} us"])
    table("Models: float32, one thread, ns a token. T = 4096 and 64 tokens; SeqTopK is one sequence whose tokens get 1 "
          "to K + 2 experts; the floor is that of the model's router (`seqtopk bench --help`); cold: 64 MB are read "
          "between two calls:",
          ["model (E / K)", "floor", "TopK", "TopK / floor", "by expert too", "SeqTopK", "SeqTopK / TopK", "TopK, T = 64",
           "SeqTopK, T = 64", "TopK, T = 1", "cold"], rows)


SECTIONS = {"sequence": sequence, "token": token, "length": length, "scores": scores, "dtypes": dtypes,
            "threads": threads}


def machine(build):
    info = json.loads(subprocess.run([build / "seqtopk", "info", "--json"], stdout=subprocess.PIPE, check=True).stdout)
    caches = ", ".join(f"L{c['level']} {c['type']} {c['bytes'] >> 10} KiB" for c in info["caches"])
    widest = [i["name"] for i in info["isas"] if i["usable"]][-1]
    lscpu = subprocess.run(["lscpu"], stdout=subprocess.PIPE, text=True, check=False).stdout
    facts = dict(line.split(":", 1) for line in lscpu.splitlines() if ":" in line)
    keys = [key for key in ("CPU family", "Model", "Stepping") if key in facts]
    model = ", ".join(f"{key.lower()} {facts[key].strip()}" for key in keys)
    print(f"{info['processor']}{f' ({model})' if model else ''}, {info['processors']} processors, {caches}; "
          f"{widest}; seqtopk {info['version']}.")


def report(arguments):
    sections = arguments.section or [*SECTIONS, "models"]
    os.environ["SEQTOPK_TUNING"] = str(arguments.tuning.resolve()) if arguments.tuning else "none"
    machine(arguments.build)
    for name in sections:
        if name == "models":
            models(arguments.build, arguments.seconds)
            continue
        command = [arguments.build / "bench" / "bench-figures", "--seconds", arguments.seconds, name]
        figures = collect(command)
        if name == "token" and arguments.torch:
            for key, more in collect([arguments.torch, HERE / "peer_torch.py", "--seconds", arguments.seconds]).items():
                figures[key].update(more)
        SECTIONS[name](figures)
        sys.stdout.flush()
    if arguments.aarch64:
        count = [HERE / "instructions" / "count.py", arguments.build, arguments.aarch64]
        counts = subprocess.run(count, stdout=subprocess.PIPE, text=True, check=True).stdout
        print(f"\nInstructions that a route executes:\n\n{counts}", end="")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("--seconds", type=float, default=2, help="for each row of a table (default: 2)")
    parser.add_argument("--section", action="append", choices=[*SECTIONS, "models"], help="only this; may be repeated")
    parser.add_argument("--torch", metavar="PYTHON", help="a Python that can import torch")
    parser.add_argument("--aarch64", metavar="BUILD", type=pathlib.Path, help="count instructions too")
    parser.add_argument("--tuning", metavar="FILE", type=pathlib.Path,
                        help="take kernels by this tuning file (default: by no file)")
    parser.add_argument("--write", metavar="FILE", type=pathlib.Path,
                        help="put them into this file, between the lines <!-- figures --> and <!-- end of figures -->")
    arguments = parser.parse_args()
    if not arguments.write:
        report(arguments)
        return 0
    begin, end = "<!-- figures -->\n", "<!-- end of figures -->\n"
    text = arguments.write.read_text()
    if text.count(begin) != 1 or text.count(end) != 1:
        sys.exit(f"{arguments.write}: has no lines <!-- figures --> and <!-- end of figures -->; write them once each")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        report(arguments)
    head, tail = text.split(begin)[0], text.split(end)[1]
    arguments.write.write_text(f"{head}{begin}{out.getvalue()}{end}{tail}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
