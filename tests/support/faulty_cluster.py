"""A cluster inside the process whose broker refuses what a test tells it to."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import TracebackType
from typing import Self

import confluent_kafka

PRODUCE, INIT_PRODUCER_ID = 0, 22  # the numbers of these requests in Kafka's protocol
_PRODUCER = 0
_BROKER = 1


class FaultyCluster:
    """librdkafka's own mock, by way of the functions that the client's wheel exports (confluent-kafka 2.16)."""

    def __init__(self) -> None:
        self._library = _library()
        quiet = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(quiet, b"log_level", b"0", None, 0)
        self._handle = self._library.rd_kafka_new(_PRODUCER, quiet, None, 0)
        self._mock = self._library.rd_kafka_mock_cluster_new(self._handle, 1)
        self.bootstrap_servers = self._library.rd_kafka_mock_cluster_bootstraps(self._mock).decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._mock)
        self._library.rd_kafka_destroy(self._handle)

    def create_topic(self, name: str, partitions: int) -> None:
        assert self._library.rd_kafka_mock_topic_create(self._mock, name.encode(), partitions, 1) == 0

    def refuse(self, request: int, *errors: int) -> None:
        """The next requests of this kind get these answers, one each."""
        codes = (ctypes.c_int * len(errors))(*errors)
        self._library.rd_kafka_mock_push_request_errors_array(self._mock, request, len(errors), codes)

    def refuse_late(self, request: int, *answers: tuple[int, int]) -> None:
        """The same, and how many milliseconds after its request each of these answers comes."""
        errors_and_times = [number for answer in answers for number in answer]
        self._library.rd_kafka_mock_broker_push_request_error_rtts(
            ctypes.c_void_p(self._mock),
            _BROKER,
            ctypes.c_int16(request),
            ctypes.c_size_t(len(answers)),
            *errors_and_times,
        )

    def let_pass(self, request: int) -> None:
        """No more of them are refused."""
        self._library.rd_kafka_mock_clear_request_errors(self._mock, request)


def _library() -> ctypes.CDLL:
    """The one that the client has loaded already."""
    [path] = (Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs").glob("librdkafka-*")
    library = ctypes.CDLL(str(path))
    pointer, text, size, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int
    for name, result, *arguments in (
        ("rd_kafka_conf_new", pointer),
        ("rd_kafka_conf_set", number, pointer, text, text, pointer, size),
        ("rd_kafka_new", pointer, number, pointer, pointer, size),
        ("rd_kafka_destroy", None, pointer),
        ("rd_kafka_mock_cluster_new", pointer, pointer, number),
        ("rd_kafka_mock_cluster_destroy", None, pointer),
        ("rd_kafka_mock_cluster_bootstraps", text, pointer),
        ("rd_kafka_mock_topic_create", number, pointer, text, number, number),
        ("rd_kafka_mock_push_request_errors_array", None, pointer, ctypes.c_int16, size, pointer),
        ("rd_kafka_mock_clear_request_errors", None, pointer, ctypes.c_int16),
        ("rd_kafka_mock_broker_push_request_error_rtts", number),  # it takes any number of them
    ):
        function = getattr(library, str(name))
        function.restype, function.argtypes = result, arguments
    return library
