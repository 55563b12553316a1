"""A TCP proxy in front of a broker that knows where a request begins, and can let one of them arrive late or wait."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType

END_TXN, TXN_OFFSET_COMMIT = 26, 28
INVALID_PRODUCER_EPOCH, PRODUCER_FENCED = 47, 90

_SIZE = struct.Struct(">i")
_REQUEST = struct.Struct(">hhi")  # api key, its version, correlation id
_END_TXN_ANSWER = struct.Struct(">iih")  # correlation id, throttle time, error


class HoldingProxy:
    """Passes everything on, but for one request after `delay_next` or `hold_next`.

    The broker must advertise the proxy's address, or clients leave it after their first question.
    """

    def __init__(self, port: int, broker_port: int) -> None:
        self._broker_port = broker_port
        self._listener = socket.create_server(("127.0.0.1", port))
        self._delayed: int | None = None
        self._held: int | None = None
        self._late: tuple[socket.socket, bytes] | None = None
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self.held = threading.Event()
        self.release = threading.Event()
        self.answered = threading.Event()
        self.late_error: int | None = None
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def __enter__(self) -> HoldingProxy:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # `close` alone does not end the wait for a client
        self._listener.close()
        for one in self._sockets:
            _end(one)

    def delay_next(self, api_key: int) -> None:
        """The next request of this kind arrives just before the second one, whatever becomes of its sender.

        ``held`` is set when there is one, ``answered`` when the broker has answered it, with ``late_error``.
        """
        self._delayed = api_key

    def hold_next(self, api_key: int) -> None:
        """The next request of this kind, and all behind it on its connection, waits for ``release`` to be set.

        ``held`` is set when there is one.
        """
        self._held = api_key

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                try:
                    broker = socket.create_connection(("127.0.0.1", self._broker_port))
                except OSError:
                    client.close()  # it is not there yet, or not any more
                    continue
                self._sockets.append(broker)
                threading.Thread(target=self._requests, args=(client, broker), daemon=True).start()
                threading.Thread(target=self._answers, args=(client, broker), daemon=True).start()

    def _requests(self, client: socket.socket, broker: socket.socket) -> None:
        with suppress(OSError):
            while (frame := _frame(client)) is not None:
                if self._is_delayed(frame, broker):
                    return  # what its sender has to say after it is of no interest, and its connection stays open
                self._wait_if_held(frame)
                broker.sendall(frame)
        _end(broker)

    def _wait_if_held(self, frame: bytes) -> None:
        with self._lock:
            if _api_key(frame) != self._held:
                return
            self._held = None
        self.held.set()
        assert self.release.wait(60), "the test does not let the held request go"

    def _is_delayed(self, frame: bytes, broker: socket.socket) -> bool:
        with self._lock:
            if _api_key(frame) != self._delayed:
                return False
            if self._late is None:
                self._late = broker, frame
                self.held.set()
                return True
            self._delayed = None
            late_broker, late_frame = self._late
            late_broker.sendall(late_frame)
        assert self.answered.wait(20), "the broker does not answer the late request"
        return False

    def _note_late_answer(self, frame: bytes, broker: socket.socket) -> None:
        if self._late is None or broker is not self._late[0]:
            return
        _, _, asked = _REQUEST.unpack_from(self._late[1], _SIZE.size)
        (answered,) = _SIZE.unpack_from(frame, _SIZE.size)
        if answered == asked:
            *_, error = _END_TXN_ANSWER.unpack_from(frame, _SIZE.size)
            self.late_error = error
            self.answered.set()

    def _answers(self, client: socket.socket, broker: socket.socket) -> None:
        with suppress(OSError):
            while (frame := _frame(broker)) is not None:
                self._note_late_answer(frame, broker)
                with suppress(OSError):
                    client.sendall(frame)
        _end(client)


def _api_key(frame: bytes) -> int:
    api_key: int = _REQUEST.unpack_from(frame, _SIZE.size)[0]
    return api_key


def _frame(source: socket.socket) -> bytes | None:
    """The next request or answer with its size; None at the end of the stream."""
    size = _exactly(source, _SIZE.size)
    if size is None:
        return None
    body = _exactly(source, _SIZE.unpack(size)[0])
    return None if body is None else size + body


def _exactly(source: socket.socket, count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        part = source.recv(count - len(parts))
        if not part:
            return None
        parts += part
    return bytes(parts)


def _end(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
