"""The two Flower apps of `presspool bench transport`'s stock contestant; nothing is trained.

The server's app makes a round whenever the bench asks for one over a local socket, and says how
long it took and how long the answers were under way; the client's app answers with zeros in the
shapes that it was sent, and says when (on the clock that all processes of a machine share).

Invariant: nothing is imported beside Flower and numpy, for every client process imports it anew.
"""

from __future__ import annotations

import socket
import time

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

PIECE = 250_000  # numbers in an array: 1 MB, as in an adapter of many layers

server = ServerApp()  # in statements of their own: Flower looks for the names in the text
client = ClientApp()


@server.main()
def serve(grid: Grid, context: Context) -> None:
    """Make rounds until told to end."""
    config = context.run_config
    count, megabytes = int(config["outlets"]), int(config["megabytes"])
    with socket.socket(socket.AF_UNIX) as bench:
        bench.connect(str(config["socket"]))
        while len(list(grid.get_node_ids())) < count:
            time.sleep(0.2)
        with bench.makefile("rw") as lines:
            print("ready", file=lines, flush=True)
            for _ in lines:
                print(*_one_round(grid, megabytes), file=lines, flush=True)


def _one_round(grid: Grid, megabytes: int) -> tuple[float, float]:
    """Seconds of the round, and of it since the first answer was ready."""
    arrays = ArrayRecord(
        {
            f"w{n}": Array(np.zeros(PIECE if megabytes else 1, np.float32))
            for n in range(megabytes or 1)
        }
    )
    content = RecordDict({"adapter": arrays})
    began = time.monotonic()
    nodes = list(grid.get_node_ids())
    replies = list(grid.send_and_receive([Message(content, node, "train") for node in nodes]))
    ended = time.monotonic()
    for reply in replies:
        if reply.has_error() or len(reply.content.array_records["adapter"]) != len(arrays):
            raise RuntimeError("an outlet failed")
    ready = min(float(str(reply.content.metric_records["ready"]["at"])) for reply in replies)
    return ended - began, ended - ready


@client.train()
def answer(message: Message, _: Context) -> Message:
    """Zeros, as many as there came."""
    arrays = message.content.array_records["adapter"]
    zeros = {name: Array(np.zeros_like(array.numpy())) for name, array in arrays.items()}
    ready = MetricRecord({"at": time.monotonic()})
    return Message(RecordDict({"adapter": ArrayRecord(zeros), "ready": ready}), reply_to=message)
