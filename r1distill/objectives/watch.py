"""What happens beside the training steps: progress, metrics.jsonl, checkpoints by the clock, and Ctrl-C.

The first Ctrl-C lets the step under way end, saves a checkpoint and stops; a second one stops at once (the last
checkpoint then counts). Of several processes each gets it twice, from the terminal or scheduler and from torchrun, so there
a second one counts only after some seconds.
"""

from __future__ import annotations

import json
import math
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from transformers import TrainerCallback

from r1distill.ledger import read_lines, write_atomic
from r1distill.show import Progress, Show

CHECKPOINT_EVERY_S = 300.0
"""A kill costs at most so many seconds of training."""
STATE_FILE = "trainer_state.json"
COUNTS_FILE = "r1distill.json"
"""What was counted up to a checkpoint, in its folder: rows of metrics.jsonl may be older (logging_steps)."""
SECOND_INTERRUPT_S = 10.0
"""With several processes a further interrupt within so many seconds is the launcher's echo of the first."""
TOLD_VALIDATIONS = 10
"""So many validations are told to people, spread over the training."""


class Metric(msgspec.Struct, frozen=True):
    """One row of metrics.jsonl: a logged training step, or a validation (loss null)."""

    step: int
    epoch: float
    loss: float | None
    """Nats per labelled token, mean over the steps since the row before."""
    eval_loss: float | None
    """Nats per labelled token over val.jsonl."""
    learning_rate: float | None
    labelled_tokens: int
    """Trained on since the first step."""
    elapsed_s: float
    """Since the first step, without the time between an interruption and its resumption."""


class Counts(msgspec.Struct, frozen=True):
    """What was trained up to a checkpoint."""

    labelled_tokens: int
    elapsed_s: float


class Watch(TrainerCallback):  # type: ignore[misc]
    """The trainer's only callback of ours; `metrics` holds the rows of metrics.jsonl."""

    def __init__(
        self,
        path: Path,
        show: Show,
        checkpoint_every_s: float = CHECKPOINT_EVERY_S,
        writes: bool = True,
        processes: int = 1,
    ) -> None:
        self.path, self.show, self.every_s, self.writes = path, show, checkpoint_every_s, writes
        self.processes = processes
        self.metrics: list[Metric] = []
        self.labelled_tokens = 0
        self.interrupted = False
        self._interrupted_at = 0.0
        self._told_share = -1
        self._before_s = 0.0
        self._progress: Progress | None = None
        self._started = self._saved = time.monotonic()

    def resume_at(self, checkpoint: Path, step: int) -> None:
        """Take up the counts of a checkpoint, and metrics.jsonl without its rows behind the checkpoint's step."""
        if self.path.is_file():
            rows = (msgspec.json.decode(line, type=Metric) for _, line in read_lines(self.path))
            self.metrics = [row for row in rows if row.step <= step]
        counts = _counts(checkpoint / COUNTS_FILE)
        if counts is None and self.metrics:  # killed between the checkpoint and its counts
            counts = Counts(self.metrics[-1].labelled_tokens, self.metrics[-1].elapsed_s)
        if counts is not None:
            self.labelled_tokens, self._before_s = counts.labelled_tokens, counts.elapsed_s

    def forget_validation(self, step: int) -> None:
        """Drop what is noted of the validation after `step`, which is made again."""
        self.metrics = [row for row in self.metrics if row.step != step or row.eval_loss is None]

    @property
    def elapsed_s(self) -> float:
        """Seconds of training so far, over all resumptions."""
        return self._before_s + time.monotonic() - self._started

    @contextmanager
    def at_work(self, steps: int) -> Iterator[None]:
        """Show progress and catch Ctrl-C while the trainer runs."""
        with self.show.progress("training, steps", steps) as self._progress, self._catch_interrupt():
            self._started = self._saved = time.monotonic()
            self._write()
            try:
                yield
            finally:
                self._write()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Note the step's figures."""
        logs = logs or {}
        if "loss" not in logs and "eval_loss" not in logs:
            return
        loss, eval_loss, rate = (_number(logs.get(key)) for key in ("loss", "eval_loss", "learning_rate"))
        epoch = round(float(state.epoch or 0), 4)
        self.metrics.append(
            Metric(
                state.global_step,
                epoch,
                loss,
                eval_loss,
                rate,
                self.labelled_tokens,
                round(self.elapsed_s, 3),
            )
        )
        if eval_loss is not None:
            self._tell(state, epoch, eval_loss)

    def _tell(self, state: Any, epoch: float, eval_loss: float) -> None:
        """The first validation of each tenth of the training, and the last."""
        share = TOLD_VALIDATIONS * state.global_step // max(1, state.max_steps)
        if share > self._told_share:
            self._told_share = share
            self.show.note(f"Validation loss after epoch {epoch:g}: {eval_loss:.4f} nats per token.")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Show the progress; ask for a checkpoint when it is time, or when interrupted."""
        loss = next((row.loss for row in reversed(self.metrics) if row.loss is not None), None)
        spent = max(self.elapsed_s, 1e-9)
        detail = f"loss {loss:.3f}, " if loss is not None else ""
        if self._progress:
            self._progress.update(
                state.global_step, f"{detail}{self.labelled_tokens / spent:.0f} labelled tokens/s"
            )
        self.interrupted, due = _agreed(
            args, self.interrupted, time.monotonic() - self._saved >= self.every_s or _is_last(state)
        )
        if self.interrupted:
            control.should_save = control.should_training_stop = True
        elif due:
            control.should_save = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """An interrupt is no end of an epoch, as transformers takes it for: the validation is due after the last step."""
        if self.interrupted and state.global_step < state.max_steps:
            control.should_evaluate = control.should_save = False

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Metrics and counts go to disk with every checkpoint, so that they agree."""
        self._saved = time.monotonic()
        self._write()
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self.writes and checkpoint.is_dir():
            counts = Counts(self.labelled_tokens, round(self.elapsed_s, 3))
            write_atomic(checkpoint / COUNTS_FILE, msgspec.json.encode(counts) + b"\n")

    def _write(self) -> None:
        if self.writes:
            write_atomic(self.path, b"".join(msgspec.json.encode(row) + b"\n" for row in self.metrics))

    @contextmanager
    def _catch_interrupt(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)

        def stop(number: int, frame: Any) -> None:
            now = time.monotonic()
            if self.interrupted:
                if self.processes > 1 and now - self._interrupted_at < SECOND_INTERRUPT_S:
                    return
                raise KeyboardInterrupt
            self.interrupted, self._interrupted_at = True, now
            self.show.note("Stopping after this step and saving a checkpoint; Ctrl-C again stops at once.")

        signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def _is_last(state: Any) -> bool:
    """The last step is always saved: what comes after it may fail (a full disk), and then nothing is trained twice."""
    return bool(state.global_step >= state.max_steps)


def _agreed(args: Any, *wishes: bool) -> list[bool]:
    """What any process wishes, so that all of them do it at the same step: saving waits for everybody."""
    if args.world_size == 1:
        return list(wishes)
    import torch

    flags = torch.tensor(wishes, dtype=torch.int32, device=args.device)
    torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX)
    return [bool(flag) for flag in flags.tolist()]


def last_checkpoint(folder: Path) -> tuple[Path, int] | None:
    """The newest complete checkpoint and its step; unfinished ones (a kill while saving) are removed."""
    found = sorted(
        folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True
    )
    for path in found:
        try:
            # Written last, after weights and optimizer.
            return path, int(json.loads((path / STATE_FILE).read_text(encoding="utf-8"))["global_step"])
        except (OSError, ValueError, KeyError):
            shutil.rmtree(path, ignore_errors=True)
    return None


def _counts(path: Path) -> Counts | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Counts)
    except (OSError, msgspec.DecodeError):
        return None


def _number(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
