"""Several processes over Gloo, forked from this process as torchrun would start them."""

import itertools
import os
import socket
import sys

from tiny import write_recipes

from kd.cli import main


def write_plain(folder):
    """The tiny recipes without BatchNorm and dropout: an image's gradient does not depend on the others."""
    path = write_recipes(folder)
    nets = (folder / "nets.py").read_text()
    (folder / "nets.py").write_text(
        nets.replace("nn.BatchNorm2d(", "nn.GroupNorm(2, ").replace("nn.Dropout(0.2)", "nn.Identity()")
    )
    return path


NUMBERS = itertools.count(50 * os.getpid())  # no other worker of pytest counts where this one does


def free_port():
    """A port below those that the system hands out: nothing takes it before it is used."""
    return next(port for number in NUMBERS if is_free(port := 20_000 + number % 12_000))


def is_free(port):
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def start(world, work):
    """Fork `world` processes that call `work(rank)` and exit with the status that it returns; their ids."""
    port = free_port()
    children = []
    for rank in range(world):
        child = os.fork()
        if child == 0:
            status = 99
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
            try:
                status = work(rank) or 0
            finally:
                os._exit(status)
        children.append(child)
    return children


def statuses(children):
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def kd(folder, *arguments):
    """The work of a process that runs the command line: it appends to `out<rank>` and writes `err<rank>`."""

    def work(rank):
        with (folder / f"out{rank}").open("a") as out, (folder / f"err{rank}").open("w") as err:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.stdout, sys.stderr = out, err  # pytest's are others
            return main(["run", str(folder / "student.yaml"), "--trust", "--runs", str(folder / "runs"), *arguments])

    return work


def the_run(folder):
    (run_dir,) = (folder / "runs").glob("student-*/seed0")
    return run_dir
