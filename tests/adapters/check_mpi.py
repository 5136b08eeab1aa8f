# SPDX-License-Identifier: MIT
"""Ranks as MPI processes: check_mpi.py MPIRUN CHECK_MPI [COMMAND]. Their lists are those of one machine, the command's files too;
what one rank fails at all return; a rank that is killed ends the others."""
import json
import os
import struct
import subprocess
import sys
import tempfile
import time

mpirun, check_mpi, *command = sys.argv[1:]
# More processes than cores, root in a container, and shared memory alone: nothing leaves the machine.
environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                   OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_mpi_yield_when_idle="1",
                   OMPI_MCA_btl="self,vader", OMPI_MCA_plm_rsh_agent="sh", PRTE_MCA_rmaps_default_mapping_policy=":oversubscribe")
seed = os.environ.get("SEQTOPK_TEST_SEED") or str(int(time.time()))


def run(ranks, *words, timeout=300, shared="1"):
    return subprocess.run([mpirun, "-n", str(ranks), *words], env=dict(environment, SEQTOPK_MPI_SHARED=shared), timeout=timeout,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def good(ranks, *words, shared="1"):
    done = run(ranks, *words, shared=shared)
    if done.returncode:
        sys.exit(f"{ranks} ranks, {words}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def check_cases():
    for ranks in (1, 2, 3, 5, 8):
        print(good(ranks, check_mpi, "--cases", "20", "--seed", seed), end="")
    for ranks in (2, 8):
        print("by messages: ", good(ranks, check_mpi, "--cases", "20", "--seed", seed, shared="0"), end="")


def check_failure():
    told = good(3, check_mpi, "--fail", "1")
    assert told.count("rank 1 of the team") == 2 and "scratch has 64 bytes" in told, told


def check_death():
    for shared in "1", "0":
        begin = time.time()
        done = run(3, check_mpi, "--cases", "40", "--seed", "1", "--die", "1", timeout=60, shared=shared)
        assert done.returncode != 0, done.stdout
        print(f"a rank killed: the others ended {time.time() - begin:.1f} s after the start")


def sampled(rows, ranks):
    """The rows of which the ranks' samples are (src/team/rank.c), for up to 1,024 rows of each: to mislead them."""
    def scatter(i):
        i = (i ^ i >> 16) * 0x7FEB352D % 2**32
        i = (i ^ i >> 15) * 0x846CA68B % 2**32
        return i ^ i >> 16

    places = set()
    for r in range(ranks):
        first, own = rows * r // ranks, rows * (r + 1) // ranks - rows * r // ranks
        for i in range(16):
            begin = own * i // 16
            places.add(first + begin + scatter(i) % (own * (i + 1) // 16 - begin))
    return places


def write(path, rows, columns, seed, bad=None, high=()):
    """A float32 .npy file of rows that no NumPy is needed for; those of `high` have larger values."""
    values, state = [], seed
    for _ in range(rows * columns):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        values.append((state >> 40) / 2**22 - 2.0)
    for row in high:
        values[row * columns : (row + 1) * columns] = [value + 8 for value in values[row * columns : (row + 1) * columns]]
    if bad is not None:
        values[bad * columns] = float("nan")
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}"
    header += " " * (63 - (len(header) + 10) % 64) + "\n"
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        file.write(struct.pack(f"<{len(values)}f", *values))


def check_command(directory):
    file, words = f"{directory}/logits.npy", ["--top-k", "4", "--min", "1", "--max", "6", "--lengths", "700,0,1,299"]
    write(file, 1000, 32, 7)
    subprocess.run([*command, "route", file, *words, "--out", f"{directory}/one"], check=True, stdout=subprocess.DEVNULL)
    told = good(4, *command, "route", file, *words, "--team", "mpi", "--json", "--out", f"{directory}/four")
    assert told.count('"collective_ns"') == 4, told
    names = os.listdir(f"{directory}/one")
    assert len(names) == 6 and sorted(names) == sorted(os.listdir(f"{directory}/four"))
    for name in names:
        with open(f"{directory}/one/{name}", "rb") as one, open(f"{directory}/four/{name}", "rb") as four:
            assert one.read() == four.read(), name
    write(file, 1000, 32, 7, bad=613)
    done = run(4, *command, "route", file, *words, "--team", "mpi")
    assert done.returncode == 1 and "613" in done.stderr, done.stderr
    with open(file, "r+b") as short:  # some rank's rows are missing
        short.truncate(os.path.getsize(file) - 8)
    done = run(4, *command, "route", file, *words, "--team", "mpi")
    assert done.returncode == 1 and "is truncated" in done.stderr, done.stderr
    done = run(2, *command, "route", f"{directory}/none.npy", *words, "--team", "mpi")
    assert done.returncode == 1 and "none.npy" in done.stderr, done.stderr
    print("the command: 4 processes write what one does")


def check_count_all(directory):
    """A sample that misleads costs more all-reduces, of which --count-all knows nothing."""
    file, words = f"{directory}/misleading.npy", ["--top-k", "4", "--min", "1", "--max", "6", "--score", "logits"]
    write(file, 1000, 32, 7, high=sampled(1000, 2))
    subprocess.run([*command, "route", file, *words, "--out", f"{directory}/whole"], check=True, stdout=subprocess.DEVNULL)
    rounds = []
    for more in [], ["--count-all"]:
        told = good(2, *command, "route", file, *words, "--team", "mpi", *more, "--json", "--out", f"{directory}/both")
        rounds.append(max(rank["allreduces"] for rank in json.loads(told)["ranks"]))
        for name in os.listdir(f"{directory}/whole"):
            with open(f"{directory}/whole/{name}", "rb") as one, open(f"{directory}/both/{name}", "rb") as two:
                assert one.read() == two.read(), name
    assert rounds[0] > 3 >= rounds[1], rounds
    print(f"the command: {rounds[0]} all-reduces where the sample misleads, {rounds[1]} with --count-all")


check_cases()
check_failure()
check_death()
if command:
    with tempfile.TemporaryDirectory() as directory:
        check_command(directory)
        check_count_all(directory)
