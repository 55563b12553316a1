"""The image of the Dockerfile, built and started without Docker: `make check-container`."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil
import pytest
import yaml

from delayed_consumer.embedded import EmbeddedCluster
from load.broker import free_ports
from tests.conftest import Kafka
from tests.container.dockerfile import ROOT
from tests.container.image import Builder, Image

NEVER_CALLED = {"KAFKA_BOOTSTRAP_SERVERS": "localhost:9", "KAFKA_TOPICS": "orders"}


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    return Builder(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def service(builder: Builder) -> Image:
    image = builder.build("service")
    image.make_read_only()
    return image


@pytest.fixture(scope="module")
def cluster() -> EmbeddedCluster:
    return EmbeddedCluster()


def run(
    image: Image, words: Sequence[str], environment: Mapping[str, str] | None = None, timeout_seconds: float = 30
) -> subprocess.CompletedProcess[str]:
    command = image.command(words, environment or {})
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_seconds, check=False)


def names(package: Path) -> set[str]:
    """Every file of the package, its page and its marker of types included."""
    files = (one for one in package.rglob("*") if one.is_file() and one.suffix != ".pyc")
    return {str(one.relative_to(package)) for one in files}


def process_1(container: subprocess.Popen[str]) -> psutil.Process:
    """The first process inside; the container's own is `unshare`, which waits for it."""
    return psutil.Process(container.pid).children()[0]


@pytest.fixture
def running(service: Image, cluster: EmbeddedCluster) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap_servers,
        "KAFKA_TOPICS": "orders",
        "DELAY_SECONDS": "0.5",
        "HTTP_PORT": str(free_ports(1)[0]),
    }
    cluster.create_topic("orders")
    cluster.produce("orders", b"late", partition=0, timestamp_ms=int(time.time() * 1000))
    cluster.flush()
    command = service.command(service.entrypoint, environment)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as container:
        yield container, environment
        container.kill()


def test_the_user_can_write_nowhere(service: Image) -> None:
    done = run(service, ["sh", "-c", "id -u; id -g; id -G; for d in / /tmp /opt/venv; do touch $d/x && echo $d; done"])
    assert done.stdout.split() == ["10001", "10001", "10001"]


def test_the_version_is_told(service: Image) -> None:
    done = run(service, [*service.entrypoint, "version"])
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "delayed-consumer 0.1.0"), done.stderr


def test_the_settings_are_those_of_the_container(service: Image) -> None:
    done = run(service, [*service.entrypoint, "check-config", "--json"], NEVER_CALLED)
    assert (done.returncode, "0.0.0.0" in done.stdout) == (0, True), done.stderr


def test_without_a_command_a_wrong_setting_ends_the_service_with_78(service: Image) -> None:
    done = run(service, service.entrypoint, NEVER_CALLED | {"DELAY_SECONDS": "soon"})
    assert done.returncode == 78
    assert "DELAY_SECONDS" in done.stderr


def test_the_health_check_fails_where_no_service_runs(service: Image) -> None:
    done = run(service, service.healthcheck, NEVER_CALLED | {"HTTP_PORT": str(free_ports(1)[0])})
    assert done.returncode == 1, done.stderr


def test_process_1_delivers_is_healthy_and_stops_at_sigterm(
    service: Image, running: tuple[subprocess.Popen[str], dict[str, str]]
) -> None:
    container, environment = running
    assert container.stdout is not None
    record = json.loads(container.stdout.readline())
    assert (record["value"], record["delivered_ms"] >= record["due_ms"]) == ("late", True)
    health = run(service, service.healthcheck, environment)
    assert health.returncode == 0, health.stderr
    process_1(container).terminate()
    assert container.wait(timeout=10) == 0


def test_the_installed_package_is_whole_and_compiled(service: Image) -> None:
    (packages,) = Path(service.root, "opt/venv/lib").glob("python3*/site-packages")
    source, installed = names(ROOT / "delayed_consumer"), names(packages / "delayed_consumer")
    assert source == installed
    compiled = {one.name.partition(".")[0] for one in packages.glob("delayed_consumer/**/*.pyc")}
    assert {Path(name).stem for name in source if name.endswith(".py")} <= compiled


def test_the_load_scripts_measure_the_given_cluster_and_leave_a_report(builder: Builder, kafka: Kafka) -> None:
    load = builder.build("load")
    command = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["load"]["command"]
    words = [kafka.bootstrap if word == "kafka:9092" else word for word in command]
    done = run(load, [*load.entrypoint, *words, "--seconds", "5"], timeout_seconds=180)
    assert done.returncode in {0, 1}, done.stderr  # 1: too late for its limits, on a machine that has just built it
    assert Path(load.root, "tmp/load/medium.json").is_file()
