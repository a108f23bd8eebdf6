"""The entry point of ``image-features``: dispatch, exit codes, standard streams and signals."""

from __future__ import annotations

import io
import logging
import os
import sys
from contextlib import suppress
from typing import NoReturn

from pipeline.commands import COMMANDS
from pipeline.commands.base import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_PUBLISHED,
    EXIT_USAGE,
)
from pipeline.commands.parser import parse
from pipeline.runners.quiet import hush
from pipeline.signals import end_children, stop_on_signals
from transforms.allocator import share_one_heap
from transforms.errors import Refused, RunFailed, UserError
from transforms.names import printable, printable_lines
from transforms.no_pandas import skip_pandas

# The commands that do a run or a step of it.
STEPS = frozenset({"extract", "plan", "publish"})
# The commands that go on where an earlier start of them has stopped.
RESUMABLE = STEPS | {"train"}
_RESUMES = " Run the same command again: it resumes the run."


def command() -> NoReturn:
    """Run ``main`` as the console script, in a process of its own that signals may end."""
    _open_closed_streams()
    stop_on_signals(_how_to_go_on)
    try:
        code = main(own_process=True)
    except SystemExit as asked:
        # ``--help`` and ``--version`` exit in this way.
        code = asked.code if isinstance(asked.code, int) else EXIT_PUBLISHED
    with suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    # All output is written. Skip the unloading of Arrow, Beam and the engines: on Python 3.13
    # the end of their threads once aborted the process ("terminate called without an active
    # exception"), and its exit code was lost.
    end_children()
    os._exit(code)


def _how_to_go_on() -> str:
    """Say what to do after a signal, for the command of this process."""
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    return _RESUMES if command in RESUMABLE else ""


def _open_closed_streams() -> None:
    """Open ``/dev/null`` for each standard stream that a scheduler closed.

    Otherwise the next file that is opened would get the number of that stream.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with suppress(OSError):
                os.fstat(number)
                # Another open file already has this number.
                continue
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
            stream = open(number, "w" if number else "r", encoding="utf-8")  # noqa: PTH123, SIM115
            setattr(sys, name, stream)


def main(argv: list[str] | None = None, own_process: bool = False) -> int:
    """Run one command line, and print every error in one line.

    Args:
        argv: The words after ``image-features``; ``None`` takes those of this process.
        own_process: Whether nothing else runs in this process, before or after.

    Returns:
        The exit code: 0 published or nothing new, 1 failed or refused, 2 invalid usage,
            130 interrupted by Ctrl-C.
    """
    hush()
    share_one_heap()
    _print_any_name()
    _log_to_stderr(logging.INFO)
    command = ""
    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
        command = arguments.command
        _log_to_stderr(vars(arguments).pop("log_level", logging.INFO))
        if own_process and command in STEPS:
            skip_pandas()
        return _RUN[arguments.command](arguments)
    except UserError as error:
        return _complain(str(error), EXIT_USAGE)
    except (Refused, RunFailed) as error:
        return _complain(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        return _complain(f"stopped.{_RESUMES * (command in RESUMABLE)}", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has closed it, as `| head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PUBLISHED
    except Exception as error:
        if os.environ.get("IMAGE_FEATURES_DEBUG"):
            raise
        if _is_storage_error(error):
            return _complain(f"{error}. Fix that, then run the same command again.", EXIT_FAILED)
        text = f"{type(error).__name__}: {str(error).strip()[:500]}"
        return _complain(
            f"{text} (set IMAGE_FEATURES_DEBUG=1 to see where it comes from)", EXIT_FAILED
        )


class _Printable(logging.Formatter):
    """Formats messages so that the names in them cannot control the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message with its control characters escaped."""
        return printable_lines(super().format(record))


def _print_any_name() -> None:
    """Let standard output and error escape what their encoding lacks, as under ``LC_ALL=C``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _log_to_stderr(level: int) -> None:
    """Log our own messages to standard error, without those of libraries.

    Libraries warn of everything that they did not find, and raise their errors anyway.

    Args:
        level: The least level of messages to log.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(message)s"))
    if not os.environ.get("IMAGE_FEATURES_DEBUG"):
        handler.addFilter(lambda record: record.name.partition(".")[0] in _OURS)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for name in _OURS:
        logging.getLogger(name).setLevel(level)


def _is_storage_error(error: Exception) -> bool:
    """Tell whether an error comes from the storage."""
    # Not imported at the top, since it imports Arrow.
    from transforms.storage import StorageError

    return isinstance(error, StorageError)


def _complain(message: str, code: int) -> int:
    """Print an error message and return the exit code."""
    print(f"image-features: {printable(message)}", file=sys.stderr)
    return code


_OURS = ("pipeline", "transforms")
_RUN = {command.name: command.run for command in COMMANDS}

if __name__ == "__main__":
    command()
