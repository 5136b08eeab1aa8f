# SPDX-License-Identifier: MIT
"""Ranks far apart: far_ranks.py MPIRUN CHECK_MPI [--ranks N] [--tokens T] [--mtu BYTES].

Each process is in a network namespace of its own, and every frame between them is delayed by 1 ms, then by 20, before it arrives.
The kernel's netem would do that; many have none, so the wire is this program, which passes frames between TAP devices. Their
lists must be those of one machine, and with 20 ms all collectives of a route must end within four round trips. (1 ms is little
where processes wait for cores: that is only told.) Ranks go before other programs of the machine, since what takes a
core from a rank for some milliseconds is no distance. Needs root, ip, and /dev/net/tun; says so and ends with 77 where there are none.
"""
import argparse
import fcntl
import heapq
import os
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
MARK = f"sq{os.getpid()}"


def ip(*words, quiet=False):
    subprocess.run(["ip", *words], check=not quiet, stderr=subprocess.DEVNULL if quiet else None)


class Wire(threading.Thread):
    """All frames from each TAP device to the one that they are for, or to all others, so many seconds later."""

    def __init__(self, devices, delay):
        super().__init__(daemon=True)
        self.devices, self.delay, self.late, self.ended = devices, delay, [], False

    def run(self):
        # Ranks poll while they wait, on all cores that there are; a wire does not wait for them.
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        poll, due, homes, turn = select.poll(), [], {}, 0
        for device in self.devices:
            poll.register(device, select.POLLIN)
        while not self.ended:
            wait = max(0.0, due[0][0] - time.monotonic()) * 1e3 if due else 100
            # poll() rounds up to a millisecond: the last part of one is waited for with open eyes.
            for device, _ in poll.poll(wait if wait > 1.2 else 0):
                try:
                    frame = os.read(device, 65600)
                except BlockingIOError:
                    continue
                homes[frame[6:12]] = device
                heapq.heappush(due, (time.monotonic() + self.delay, turn, device, frame))
                turn += 1
            while due and due[0][0] <= time.monotonic():
                at, _, device, frame = heapq.heappop(due)
                self.late.append(time.monotonic() - at)
                to = homes.get(frame[0:6])
                for other in [to] if to is not None else self.devices:
                    if other != device:
                        os.write(other, frame)


def open_device(name):
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return device


def lay_wires(ranks, mtu):
    """Namespaces with a device each; rank r has the address 10.83.0.(r + 1)."""
    devices = []
    for r in range(ranks):
        name = f"{MARK}{r}"
        ip("netns", "add", name)
        devices.append(open_device(name))
        ip("link", "set", name, "netns", name)
        for words in (["link", "set", "lo", "up"], ["link", "set", name, "mtu", str(mtu), "up"],
                      ["addr", "add", f"10.83.0.{r + 1}/24", "dev", name]):
            ip("-n", name, *words)
        # All at once, as most machines send; BBR would spread what is sent over the time of a round trip.
        ip("netns", "exec", name, "sysctl", "-q", "-w", "net.ipv4.tcp_congestion_control=reno")
    return devices


def go_first():
    """A session of its own, which is scheduled before those of others: nice would only compare processes of the same one."""
    os.setsid()
    try:
        with open("/proc/self/autogroup", "w") as file:
            file.write("-20")
    except OSError:  # a kernel without: as all others
        os.nice(-20)


def run(mpirun, directory, ranks, words, timeout=120):
    hosts = ",".join(f"10.83.0.{r + 1}" for r in range(ranks))
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", TMPDIR=directory)
    command = ["ip", "netns", "exec", f"{MARK}0", mpirun, "-n", str(ranks), "--host", hosts, "--map-by", "node",
               "--mca", "plm_rsh_agent", f"{directory}/agent", "--mca", "plm", "rsh", "--mca", "btl", "self,tcp",
               "--mca", "oob_tcp_if_include", "10.83.0.0/24", "--mca", "btl_tcp_if_include", "10.83.0.0/24",
               # Two hosts that are one machine would bind their processes to the same core.
               "--mca", "mpi_yield_when_idle", "1", "--oversubscribe", "--bind-to", "none", *words]
    done = subprocess.run(command, env=environment, timeout=timeout, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, preexec_fn=go_first)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def check(arguments, directory, devices, delay):
    wire = Wire(devices, delay)
    wire.start()
    try:
        same = run(arguments.mpirun, directory, arguments.ranks, [arguments.check_mpi, "--cases", "5", "--seed", "1"])
        told = run(arguments.mpirun, directory, arguments.ranks,
                   [arguments.check_mpi, "--measure", str(arguments.tokens)])
    finally:
        wire.ended = True
        wire.join()
    print(f"{delay * 1e3:g} ms: {same}{told}", end="")
    found = re.search(r"as it is: ([0-9.]+) ms, .*? ([0-9.]+) in collectives", told)
    whole, trips = (float(number) / (2e3 * delay) for number in found.groups())
    late = sorted(wire.late)[len(wire.late) * 9 // 10] * 1e3
    print(f"{delay * 1e3:g} ms: the exchange took {trips:.2f} round trips, with the local pass {whole:.2f}; of {len(wire.late)} "
          f"frames nine in ten were at most {late:.3f} ms late")
    return trips


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mpirun")
    parser.add_argument("check_mpi")
    parser.add_argument("--ranks", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--mtu", type=int, default=1500)
    arguments = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("ip") or not os.path.exists("/dev/net/tun"):
        print("network namespaces need root, ip (iproute2) and /dev/net/tun: skipped")
        return 77
    arguments.check_mpi = os.path.abspath(arguments.check_mpi)
    devices, bad = [], False
    with tempfile.TemporaryDirectory() as directory:
        # What mpirun starts instead of ssh HOST COMMAND: the command in that address's namespace, with a host name of its own.
        with open(f"{directory}/agent", "w") as file:
            file.write(f'#!/bin/sh\nrank=$(( ${{1##*.}} - 1 ))\nshift\n'
                       f'exec ip netns exec {MARK}$rank unshare --uts sh -c "hostname far$rank; $*"\n')
        os.chmod(f"{directory}/agent", 0o700)
        try:
            devices = lay_wires(arguments.ranks, arguments.mtu)
            check(arguments, directory, devices, 0.001)
            bad = check(arguments, directory, devices, 0.02) >= 4
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"no namespaces here ({error}): skipped")
            return 77
        finally:
            for device in devices:
                os.close(device)
            for r in range(arguments.ranks):
                ip("netns", "del", f"{MARK}{r}", quiet=True)
    return bad


sys.exit(main())
