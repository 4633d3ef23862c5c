"""Checkpoints of a run in progress: written beside the training, each whole or not there at all."""

import io
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from flip.files import atomic


def snapshot(state):
    """A copy in main memory, which training goes on without changing."""
    return tree_map(lambda x: x.detach().to("cpu", copy=True) if isinstance(x, Tensor) else x, state)


class Checkpoints:
    """The newest `keep` states of a run, by samples seen; one process writes, all read.

    A write goes on while training does. One that fails (a full disk) is an error at the next `save` or at `close`, and
    leaves the earlier ones whole.
    """

    def __init__(self, folder: Path, keep: int, writes: bool = True):
        self.folder, self.keep, self.writes = Path(folder), keep, writes
        self.pool = ThreadPoolExecutor(1, "checkpoint")
        self.pending: Future | None = None

    def there(self) -> list[Path]:
        """Newest first."""
        return sorted(self.folder.glob("checkpoint-*.pt"), reverse=True)

    def save(self, samples: int, state: dict) -> None:
        """Begins to write; waits only for an earlier write that has not ended."""
        self.wait()
        if self.writes:
            self.pending = self.pool.submit(self._write, samples, snapshot(state))

    def _write(self, samples: int, state: dict) -> None:
        with atomic(self.folder / f"checkpoint-{samples:015d}.pt") as file:
            torch.save(state, file)
        for path in self.there()[self.keep :]:
            path.unlink()

    def wait(self) -> None:
        """Until the last write has ended.

        Raises:
            ValueError: it failed; what to do.
        """
        pending, self.pending = self.pending, None
        try:
            if pending:
                pending.result()
        except (OSError, RuntimeError) as error:
            cause = error.__context__ or error  # torch says where in its file, the system why
            raise ValueError(
                f"{self.folder}: no checkpoint could be written ({cause}); make room there and start again: training "
                "goes on from the newest whole one"
            ) from None

    def close(self) -> None:
        self.wait()
        self.pool.shutdown()

    def newest(self) -> dict | None:
        """The newest state that can be read, in main memory; None where there is none.

        Raises:
            ValueError: there are some, and the disk has spoilt them all.
        """
        for path in (paths := self.there()):
            try:
                return torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
            except Exception as error:  # spoilt bytes make the reader fail in any way
                print(f"{path}: cannot be read ({error}); the one before it is taken", file=sys.stderr)
        if paths:
            raise ValueError(f"{self.folder}: none of its checkpoints can be read; delete it to train from the start")
        return None
