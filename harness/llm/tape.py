"""Tapes: the completions of one run, kept by (request, occurrence), and the files that hold them.

A tape is the completions of one run, because occurrences are counted per run. It is read from one
of two places and written to the first:

    calls.jsonl     one line per call: {"tape": 1, "key", "occurrence", "request", "text", "usage",
                    "seconds", "finish_reason", "model"}; the last line of a (key, occurrence) holds
    a run folder    events.jsonl and blobs/ of a run that the harness made (docs/architecture.md)

For a whole comparison the tapes lie in the same tree as its runs: PATH/<run>/ with <run> like
runs/matmul/ksearch/seed-0. So a recording has the shape of a comparison folder, and a comparison
folder is a recording.

Covered: a torn last line (a recording that was killed) is ignored, and cut off when recording
continues. Not covered: two processes that write one tape; keys and headers, which never reach one.
"""

from __future__ import annotations

import gzip
import json
import os
import threading
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, cast, get_args

from harness.errors import LogError, UsageError
from harness.llm.client import FinishReason, Reply, Request, request_from_json
from harness.types import JsonObject, Usage, canonical_json, content_hash

TAPE_FORMAT = 1
CALLS = "calls.jsonl"
EVENTS = "events.jsonl"

_writing = threading.Lock()  # a run with two models has two tape objects on one file


@dataclass(frozen=True)
class Call:
    """One completion of a tape."""

    request: Request
    occurrence: int
    reply: Reply


class Tape:
    """The completions of one run, in memory; with `file`, new ones are appended to it.

    Thread-safe. Appending writes one line at once and forces it to the disk: a paid reply is not
    lost to a crash.
    """

    def __init__(self, calls: Iterable[Call] = (), *, file: Path | None = None) -> None:
        self._calls = {(c.request.key, c.occurrence): c for c in calls}
        self._file = file
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._calls)

    def calls(self) -> list[Call]:
        """Every completion, in the order of the tape."""
        with self._lock:
            return list(self._calls.values())

    def find(self, request: Request, occurrence: int) -> Reply | None:
        """The recorded reply, or None."""
        with self._lock:
            call = self._calls.get((request.key, occurrence))
        return call.reply if call else None

    def add(self, call: Call) -> None:
        """Keep one more completion. Raises LogError if it cannot be written."""
        with self._lock, _writing:
            if self._file is not None:
                _append(self._file, canonical_json(_call_to_json(call)))
            self._calls[call.request.key, call.occurrence] = call


def open_tape(root: Path, run: str, *, write: bool) -> Tape:
    """The tape of one run. run: its path in the comparison ("" for a lone run).

    Looked for in root/<run>, then in `root` itself (one run's folder, or a lone tape); `root` may
    also be a calls.jsonl. Of a folder, the run log and calls.jsonl are read, in this order. With
    `write`, new completions go to root/<run>/calls.jsonl, which is made when the first one comes.

    Raises LogError if there is nothing to read and `write` is off, or if a file is unreadable.
    """
    if write:
        if root.is_file():
            raise UsageError(f"{root} is a file; recording needs a folder, one tape for each run.")
        return Tape(_read_folder(root / run), file=root / run / CALLS)
    if root.is_file():
        return Tape(_read_calls(root))
    for folder in dict.fromkeys((root / run, root)):
        if (folder / CALLS).is_file() or (folder / EVENTS).is_file():
            return Tape(_read_folder(folder))
    raise LogError(
        f"There is no tape for {run or 'this run'} in {root}: neither {CALLS} nor {EVENTS} in "
        f"{root / run}. Give the folder of a recording (LLM=record:PATH) or of a comparison with "
        "the same tasks, arms and seeds."
    )


def _read_folder(folder: Path) -> Iterator[Call]:
    if (folder / EVENTS).is_file():
        yield from _read_run(folder)
    if (folder / CALLS).is_file():
        yield from _read_calls(folder / CALLS)


def _read_calls(file: Path) -> Iterator[Call]:
    for number, data in _json_lines(file):
        try:
            if data["tape"] != TAPE_FORMAT:
                raise LogError(
                    f"{file}, line {number}: tape format {data['tape']}, expected {TAPE_FORMAT}. "
                    "Read it with the version of the harness that wrote it."
                )
            yield _call_from_json(data)
        except (KeyError, TypeError, ValueError) as error:
            raise _broken(file, number, error) from error


def _read_run(folder: Path) -> Iterator[Call]:
    """The completions in a run's log."""
    file = folder / EVENTS
    for number, event in _json_lines(file):
        if event.get("kind") != "llm":
            continue
        try:
            request = request_from_json(json.loads(_read_blob(folder, event["request"])))
            usage = Usage(
                event["prompt_tokens"],
                event["completion_tokens"],
                event["reasoning_tokens"],
                event["dollars"],
                event["estimated"],
            )
            yield Call(
                request,
                event["occurrence"],
                Reply(
                    _read_blob(folder, event["reply"]),
                    usage,
                    event["seconds"],
                    _finish_reason(event["finish_reason"]),
                    event["model"],
                ),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _broken(file, number, error) from error


def _json_lines(file: Path) -> list[tuple[int, JsonObject]]:
    """The objects of a JSON-lines file with their line numbers. A last line without an end is
    torn and ignored."""
    try:
        content = file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
    except OSError as error:
        raise LogError(f"Cannot read {file}: {error.strerror}. Check the path.") from error
    found = []
    for number, line in enumerate(whole.split(b"\n")[:-1], 1):
        try:
            data = json.loads(line)
        except ValueError as error:
            raise _broken(file, number, error) from error
        if not isinstance(data, dict):
            raise _broken(file, number, "not a JSON object")
        found.append((number, data))
    return found


def _broken(file: Path, number: int, why: object) -> LogError:
    return LogError(
        f"{file}, line {number} is not a line of this format ({why}). It was changed after it was "
        "written: restore the file, or remove it and record again."
    )


def _read_blob(folder: Path, name: str) -> str:
    file = folder / "blobs" / name[:2] / f"{name}.gz"
    try:
        content = gzip.decompress(file.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise LogError(f"Cannot read the blob {file}: {error}. Restore the run folder.") from error
    if content_hash(content) != name:
        raise LogError(f"The blob {file} does not hold what its name says. Restore the run folder.")
    return content.decode("utf-8")


def _ends_with_a_line(stream: BinaryIO) -> bool:
    if stream.seek(0, os.SEEK_END) == 0:
        return True
    stream.seek(-1, os.SEEK_END)
    return stream.read(1) == b"\n"


def _append(file: Path, line: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a+b") as stream:
            if not _ends_with_a_line(stream):
                stream.seek(0)
                stream.truncate(stream.read().rfind(b"\n") + 1)
            stream.write(line.encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise LogError(
            f"Cannot write the tape {file}: {error.strerror}. Free space or change its "
            "permissions; what was recorded so far is kept."
        ) from error


def _call_to_json(call: Call) -> JsonObject:
    return {
        "tape": TAPE_FORMAT,
        "key": call.request.key,
        "occurrence": call.occurrence,
        "request": call.request.to_json(),
        "text": call.reply.text,
        "usage": asdict(call.reply.usage),
        "seconds": call.reply.seconds,
        "finish_reason": call.reply.finish_reason,
        "model": call.reply.model,
    }


def _call_from_json(data: JsonObject) -> Call:
    request = request_from_json(data["request"])
    if request.key != data["key"]:
        raise ValueError("the key is not the request's")
    reply = Reply(
        data["text"],
        Usage(**data["usage"]),
        data["seconds"],
        _finish_reason(data["finish_reason"]),
        data["model"],
    )
    return Call(request, data["occurrence"], reply)


def _finish_reason(text: str) -> FinishReason:
    if text not in get_args(FinishReason):
        raise ValueError(f"unknown finish reason {text!r}")
    return cast(FinishReason, text)
