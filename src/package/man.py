#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Man pages of the commands, made of what their --help says: man.py FOLDER VERSION SEQTOPK...

SEQTOPK is the command, after a wrapper if it needs one. --check: whether the pages in FOLDER have all of that, and nothing
that groff warns of.
"""

import pathlib
import re
import shutil
import subprocess
import sys

COMMANDS = ["", "route", "decode", "bench", "info", "models", "tune", "tune show", "tune verify", "tune merge", "tune export",
            "tune key"]
ABOUT = {
    "": "CPU routing for Mixture-of-Experts models",
    "tune export": "write a tuning file anew",
    "tune key": "print what this machine's tuning file is known by",
    "tune merge": "put tuning files together",
    "tune show": "show what a tuning file decides",
    "tune verify": "time a sample of a tuning file's decisions again",
}
ITEM = re.compile(r"  (\S.*?)(?:  +(\S.*))?$")


def quoted(text):
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return "\\&" + text if text.startswith(".") else text


def name_of(command):
    return "-".join(["seqtopk", *command.split()])


def blocks_of(text):
    """Runs of lines, between empty ones."""
    return [block.split("\n") for block in re.split(r"\n\n+", text.strip("\n"))]


def page_of(command, text, about, version):
    usage, *rest = text.split("\n", 1)
    name = name_of(command)
    out = [f'.TH {name.upper()} 1 "" "seqtopk {version}" "User Commands"', ".SH NAME", f"{quoted(name)} \\- {quoted(about)}",
           ".SH SYNOPSIS", f".B {quoted(usage.removeprefix('Usage: '))}", ".SH DESCRIPTION"]
    has_options = False
    for block in blocks_of(rest[0]):
        if block[0].startswith("Example"):
            out += [".SH EXAMPLES", ".nf", *map(quoted, block[1:]), ".fi"]
            continue
        if block[0].startswith("Exit status:"):
            out += [".SH EXIT STATUS", *map(quoted, [block[0].removeprefix("Exit status: "), *block[1:]])]
            continue
        is_list = any(line.startswith("  ") for line in block)
        if block[0] == "Commands:":
            out.append(".SH COMMANDS")
            block = block[1:]
        elif is_list and not has_options:
            out.append(".SH OPTIONS")
            has_options = True
            block = block[1:] if block[0] == "Options:" else block
        elif not is_list:
            out.append(".PP")
        for line in block:
            item = ITEM.match(line)
            if item:
                out += [".TP", f".B {quoted(item.group(1))}", quoted(item.group(2) or "")]
            elif is_list and line.endswith(":"):
                out.append(f'.SS "{quoted(line[:-1])}"')
            else:
                out.append(quoted(line))
    others = [name_of(c) for c in COMMANDS if c != command and (not c or c.startswith(command) or command.startswith(c))]
    if others:
        out += [".SH SEE ALSO", ", ".join(f"{quoted(other)}(1)" for other in others)]
    return "\n".join(out) + "\n"


def about_of(command, overview):
    if command in ABOUT:
        return ABOUT[command]
    return re.search(rf"^  {command}  +(.*)$", overview, re.M).group(1)


def words_of(text):
    return sorted(set(re.findall(r"--[a-z][a-z0-9-]+|[A-Za-z]{4,}", text)))


def check(folder, texts):
    wrong = 0
    for command, text in texts.items():
        path = folder / f"{name_of(command)}.1"
        plain = re.sub(r"\\\(aq|\\\(ga|\\&", " ", path.read_text()).replace("\\-", "-")
        missing = [word for word in words_of(text) if word not in plain and word not in ("Usage", "Example", "Examples",
                                                                                         "Exit", "status", "Commands", "Options")]
        if missing:
            print(f"{path.name}: not in it: {missing}")
        warned = ""
        if shutil.which("groff"):
            warned = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", path], capture_output=True, text=True).stderr
            print(warned, end="")
        wrong += bool(missing or warned)
    print(f"{len(texts)} pages, {wrong} wrong")
    return wrong


def main():
    is_check = sys.argv[1] == "--check"
    folder, version, *seqtopk = sys.argv[2:] if is_check else sys.argv[1:]
    folder = pathlib.Path(folder)
    run = lambda command: subprocess.run([*seqtopk, *command.split(), "--help"], capture_output=True, text=True)
    texts = {command: run(command).stdout for command in COMMANDS}
    texts = {command: text for command, text in texts.items() if text} # without hwloc nothing is timed, nor verified
    if is_check:
        return 1 if check(folder, texts) else 0
    for command in COMMANDS:
        text = texts.get(command, f"Usage: seqtopk {command} [OPTIONS]\nThis build cannot time kernels: it was made without hwloc.")
        (folder / f"{name_of(command)}.1").write_text(page_of(command, text, about_of(command, texts[""]), version))
    return 0


if __name__ == "__main__":
    sys.exit(main())
