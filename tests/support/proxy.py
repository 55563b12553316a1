"""A TCP proxy in front of a broker that knows where requests and answers begin: one can arrive late, wait, or lie."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

from load.broker import Broker, free_ports

METADATA, END_TXN, TXN_OFFSET_COMMIT = 3, 26, 28
FLEXIBLE_METADATA = 9  # from this version on
INVALID_PRODUCER_EPOCH, PRODUCER_FENCED = 47, 90

_SIZE = struct.Struct(">i")
_REQUEST = struct.Struct(">hhi")  # api key, its version, correlation id
_END_TXN_ANSWER = struct.Struct(">iih")  # correlation id, throttle time, error


class HoldingProxy:
    """Passes everything on, but for one request after `delay_next` or `hold_next`, and answers after `name_no_broker`.

    The broker must advertise the proxy's address, or clients leave it after their first question.
    """

    def __init__(self, port: int, broker_port: int) -> None:
        self._broker_port = broker_port
        self._listener = socket.create_server(("127.0.0.1", port))
        self._delayed: int | None = None
        self._held: int | None = None
        self._late: tuple[socket.socket, bytes] | None = None
        self._nameless = False
        self._questions: set[tuple[socket.socket, int]] = set()  # about the cluster, not answered yet
        self._informed: set[socket.socket] = set()  # the connections that brought an answer to one
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

    def name_no_broker(self) -> None:
        """As a broker that stops, again and again: of the answers about the cluster that a connection brings the first
        one is true, so that its client knows a broker; the second names none, and ends the connection."""
        self._nameless = True

    def name_brokers(self) -> None:
        """The broker says again what it says."""
        self._nameless = False

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
                self._note_question(frame, broker)
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

    def _note_question(self, frame: bytes, broker: socket.socket) -> None:
        api_key, version, correlation_id = _REQUEST.unpack_from(frame, _SIZE.size)
        if api_key == METADATA:
            assert version >= FLEXIBLE_METADATA, version
            self._questions.add((broker, correlation_id))

    def _without_brokers(self, frame: bytes, broker: socket.socket) -> bytes | None:
        """None: it is another answer, or it is left as it is."""
        question = (broker, *_SIZE.unpack_from(frame, _SIZE.size))
        if question not in self._questions:
            return None
        self._questions.discard(question)
        if broker not in self._informed or not self._nameless:
            self._informed.add(broker)
            return None
        return without_brokers(frame)

    def _answers(self, client: socket.socket, broker: socket.socket) -> None:
        with suppress(OSError):
            while (frame := _frame(broker)) is not None:
                self._note_late_answer(frame, broker)
                nameless = self._without_brokers(frame, broker)
                with suppress(OSError):
                    client.sendall(nameless or frame)
                if nameless:
                    break
        _end(client)


@contextmanager
def proxied_broker() -> Iterator[tuple[HoldingProxy, str]]:
    """A broker behind one, and the address under which all of its clients go through the proxy."""
    [port] = free_ports(1)
    bootstrap = f"127.0.0.1:{port}"
    broker = Broker({"advertised.listeners": f"PLAINTEXT://{bootstrap}"})
    with HoldingProxy(port, broker.port) as proxy, broker:
        yield proxy, bootstrap


def without_brokers(frame: bytes) -> bytes:
    """The same answer about the cluster, of the protocol's flexible versions, with an empty list of brokers."""
    start = _SIZE.size + 4 + 1 + 4  # correlation id, no tags, throttle time
    count, end = _varint(frame, start)
    for _ in range(count - 1):
        host_bytes, end = _varint(frame, end + 4)  # its id
        rack_bytes, end = _varint(frame, end + host_bytes - 1 + 4)  # its port
        tags, end = _varint(frame, end + max(0, rack_bytes - 1))
        assert not tags
    answer = frame[_SIZE.size : start] + b"\1" + frame[end:]
    return _SIZE.pack(len(answer)) + answer


def _varint(frame: bytes, start: int) -> tuple[int, int]:
    """And where it ends."""
    value, shift = 0, 0
    while True:
        byte = frame[start]
        value |= (byte & 0x7F) << shift
        start, shift = start + 1, shift + 7
        if byte < 0x80:
            return value, start


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
