"""Run the page's server on this machine until it is stopped."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from pipeline.retrieval.searcher import SearchConfig
from transforms.errors import UserError
from transforms.extras import install_command

# No other machine reaches it.
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """What to serve, and where."""

    output: str  # folder or URL of the tables
    port: int = 8000  # 0 for any free one
    search: SearchConfig = field(default_factory=SearchConfig)


class PageServer:
    """Serves the page: ``url`` says where, ``run`` answers until ``stop`` is called.

    Raises:
        UserError: The extra is not installed, the port is taken, or no run has published there.
        StorageError: The output cannot be read.
    """

    def __init__(self, config: ServeConfig) -> None:
        try:
            import uvicorn

            from pipeline.serve.app import make_app
        except ImportError as error:
            raise UserError(f"serve needs a web server. {install_command('serve')}") from error
        from pipeline.serve.images import Pictures
        from pipeline.serve.library import Library

        # Before the table is read, which takes time.
        self._socket = _listen(config.port)
        library = Library(config.output, config.search)
        app = make_app(library, Pictures(library.searcher.storage, config.search.stores))
        self._server = uvicorn.Server(
            uvicorn.Config(
                app, log_level="warning", lifespan="off", ws="none", limit_concurrency=100
            )
        )
        self.url = f"http://{HOST}:{self._socket.getsockname()[1]}/"

    def run(self) -> None:
        """Answer requests until ``stop`` is called, or a signal ends the process."""
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Let ``run`` return, from another thread."""
        self._server.should_exit = True


def _listen(port: int) -> socket.socket:
    if port > 65535:
        raise UserError(f"--port {port}: must be from 0 (any free port) to 65535")
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except OSError as error:
        listening.close()
        raise UserError(
            f"--port {port}: {error.strerror}. Give another port; 0 takes any free one"
        ) from error
    return listening
