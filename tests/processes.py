"""Several processes that train together, forked from the tests' own."""

import multiprocessing
import os
import pickle
import socket
import sys
import traceback

from flip.train.process_group import start, stop


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ended(log, size, function, *arguments) -> tuple[list[int], str]:
    """Exit codes of `size` processes that call a function, and what they wrote to standard error."""
    context, port = multiprocessing.get_context("fork"), free_port()

    def body(rank):
        with open(log, "a") as file:
            os.dup2(file.fileno(), 2)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        name_process(rank, size, port)
        function(*arguments)

    children = [context.Process(target=body, args=(rank,)) for rank in range(size)]
    for one in children:
        one.start()
    for one in children:
        one.join(120)
    return [one.exitcode for one in children], log.read_text()


def name_process(rank, size, port):
    """As torchrun does."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}


def child(sender, function, rank, size, port, arguments):
    name_process(rank, size, port)
    try:
        world = start(minutes=2)
        # As bytes: tensors would otherwise travel as shared memory, which ends with this process.
        sender.send((pickle.dumps(function(world, *arguments)), None))
        stop(world)
    except BaseException:
        sender.send((None, traceback.format_exc()))


def together(size, function, *arguments) -> list:
    """What `function(world, *arguments)` gives on each of `size` processes, by rank."""
    context, port = multiprocessing.get_context("fork"), free_port()
    pipes = [context.Pipe(duplex=False) for _ in range(size)]
    children = [
        context.Process(target=child, args=(sender, function, rank, size, port, arguments))
        for rank, (_, sender) in enumerate(pipes)
    ]
    for one in children:
        one.start()
    results = []
    for receiver, _ in pipes:
        assert receiver.poll(120), "a process does not answer"
        results.append(receiver.recv())
    for one in children:
        one.join()
    assert not any(error for _, error in results), "\n".join(error for _, error in results if error)
    return [pickle.loads(result) for result, _ in results]
