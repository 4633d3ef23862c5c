"""Write and read checkpoints of a run in progress: in the background, each complete or not there at all."""

import io
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from flip.data.checksum import checked, read_checked
from flip.files import workspace_inputs


def snapshot(state: dict) -> dict:
    """Copy a state's tensors to main memory, so that training does not change them."""
    return tree_map(lambda x: x.detach().to("cpu", copy=True) if isinstance(x, Tensor) else x, state)


def load_state(path: Path) -> dict:
    """Read a state into main memory.

    Raises:
        ValueError: the file is not what was written.
        OSError: it cannot be read.
    """
    return torch.load(io.BytesIO(read_checked(path, _identity(path))), map_location="cpu", weights_only=True)


def _identity(path: Path) -> str:
    """Return a checkpoint's name and the run whose folder it lies in, so that no other run's can stand in for it."""
    return f"{path.name} {workspace_inputs(path.parent)}"


class Checkpoints:
    """Keep the newest `keep` states of a run, by samples seen; one process writes, all read.

    Writes run in the background. One that fails (a full disk) is an error at the next `save` or `wait`, and leaves the
    earlier checkpoints intact.
    """

    def __init__(self, folder: Path, keep: int, writes: bool = True):
        self.folder, self.keep, self.writes = Path(folder), keep, writes
        self.pool = ThreadPoolExecutor(1, "checkpoint")
        self.pending: Future | None = None
        self.bad: set[Path] = set()

    def paths(self) -> list[Path]:
        """List the checkpoints' files, newest first."""
        return sorted(self.folder.glob("checkpoint-*.pt"), reverse=True)

    def save(self, samples: int, state: dict) -> None:
        """Start to write a state; wait only for an earlier write that has not ended.

        Raises:
            ValueError: as `wait`, for the earlier write.
        """
        self.wait()
        if self.writes:
            self.pending = self.pool.submit(self._write, samples, snapshot(state))

    def _write(self, samples: int, state: dict) -> None:
        path = self.folder / f"checkpoint-{samples:015d}.pt"
        with checked(path, _identity(path)) as file:
            torch.save(state, file)  # type: ignore[arg-type]  # it calls write and flush alone
        self.bad.discard(path)
        good = [one for one in self.paths() if one not in self.bad]
        for one in good[self.keep :] + list(self.bad):
            one.unlink(missing_ok=True)

    def wait(self) -> None:
        """Wait until the last write has ended.

        Raises:
            ValueError: it failed; the message says what to do.
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

    def newest(self) -> dict | None:
        """Read the newest state that is what was written, into main memory; return None where there is none.

        Raises:
            ValueError: there are checkpoints, and none of them can be read.
        """
        for path in (found := self.paths()):
            try:
                return load_state(path)
            except Exception as error:  # of the disk, the digest, or another version of torch
                self.bad.add(path)
                print(f"{path}: cannot be read ({error}); the one before it is taken", file=sys.stderr)
        if found:
            raise ValueError(f"{self.folder}: none of its checkpoints can be read; delete it to train from the start")
        return None
