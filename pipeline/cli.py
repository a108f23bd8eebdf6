"""The process of ``image-features``: dispatch, exit codes, standard streams and signals."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import NoReturn

from pipeline.commands import COMMANDS
from pipeline.commands.base import EXIT_FAILED, EXIT_PUBLISHED, EXIT_USAGE
from pipeline.commands.parser import parse
from pipeline.runners.quiet import hush
from pipeline.signals import stop_on_signals
from transforms.allocator import share_one_heap
from transforms.errors import Refused, RunFailed, UserError
from transforms.names import printable, printable_lines


def command() -> NoReturn:
    """The console script: ``main`` in a process of its own, which signals may end."""
    _open_closed_streams()
    stop_on_signals()
    try:
        code = main()
    except SystemExit as asked:  # --help
        code = asked.code if isinstance(asked.code, int) else EXIT_PUBLISHED
    with suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    # All is written. Unloading Arrow, Beam and the engines is left out: on Python 3.13 their
    # threads' end aborted the process once ("terminate called without an active exception") and
    # with it its exit code.
    os._exit(code)


def _open_closed_streams() -> None:
    """Let standard streams that a scheduler closed lead nowhere; else the next file opened would get their number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with suppress(OSError):
                os.fstat(number)
                # Something else has the number already
                continue
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8"))  # noqa: PTH123, SIM115


def main(argv: list[str] | None = None) -> int:
    """Run a command line; returns the exit code: 0 published or nothing new, 1 failed or refused, 2 usage."""
    hush()
    share_one_heap()
    _log_to_stderr()
    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
        return _RUN[arguments.command](arguments)
    except UserError as error:
        return _complain(str(error), EXIT_USAGE)
    except (Refused, RunFailed) as error:
        return _complain(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        return _complain("stopped. Run the same command again: it resumes the run.", 130)
    except BrokenPipeError:
        # The reader of our output went away, as `| head` does
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
    """Messages whose names obey no terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


def _log_to_stderr() -> None:
    """Our own messages.

    Libraries warn of all that they did not find, and what they fail with is raised anyway.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(message)s"))
    if not os.environ.get("IMAGE_FEATURES_DEBUG"):
        handler.addFilter(
            lambda record: record.name.partition(".")[0] in ("pipeline", "transforms")
        )
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _is_storage_error(error: Exception) -> bool:
    from transforms.storage import StorageError  # not at the top: it imports Arrow

    return isinstance(error, StorageError)


def _complain(message: str, code: int) -> int:
    print(f"image-features: {printable(message)}", file=sys.stderr)
    return code


_RUN = {command.name: command.run for command in COMMANDS}

if __name__ == "__main__":
    command()
