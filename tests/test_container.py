"""What the Dockerfile and the compose file promise, read from the files; no engine is needed."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatchcase
from typing import Any

import pytest
import yaml

from delayed_consumer.settings import Settings
from load.broker_jars import VERSION
from tests.container.dockerfile import ROOT, Instruction, Stage, stages

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def compose() -> dict[str, Any]:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert isinstance(services, dict)
    return services


def instructions(stage: Stage, name: str) -> list[Instruction]:
    """Those of this name in the stage and in what it is built from, the latest first."""
    own = [one for one in reversed(stage.instructions) if one.name == name]
    base = stages().get(stage.base)
    return own + (instructions(base, name) if base else [])


def seconds(duration: str) -> int:
    assert duration.endswith("s")
    return int(duration.removesuffix("s"))


@pytest.mark.parametrize("service", ["delayed-consumer", "orders-to-http"])
def test_the_service_accepts_what_the_image_and_the_compose_file_set(service: str) -> None:
    given = compose()[service]["environment"]
    variables = {name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for name, value in given.items()}
    in_image = {name: value for one in instructions(stages()["service"], "ENV") for name, value in one.pairs().items()}
    settings = Settings(in_image | variables)
    assert (settings.delay_seconds, settings.http_host) == (60, "0.0.0.0")
    assert all("unencrypted" in warning for warning in settings.warnings()), "within one machine that is meant"


def test_instances_can_be_added_because_none_has_a_name_or_a_port_of_its_own() -> None:
    assert [name for name, service in compose().items() if "container_name" in service] == []
    assert compose()["delayed-consumer"]["ports"] == ["127.0.0.1::8080"]


def test_nothing_is_published_beyond_this_machine() -> None:
    published = [port for service in compose().values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


@pytest.mark.parametrize("service", ["delayed-consumer", "load", "orders-to-http", "receiver"])
def test_a_container_of_ours_gets_no_privileges(service: str) -> None:
    assert compose()[service]["cap_drop"] == ["ALL"]
    assert compose()[service]["security_opt"] == ["no-new-privileges:true"]


def test_the_service_starts_when_its_topic_is_there_and_needs_no_writable_root() -> None:
    service = compose()["delayed-consumer"]
    assert service["read_only"] is True
    assert service["depends_on"] == {"kafka-init": {"condition": "service_completed_successfully"}}


def test_a_delivery_in_flight_gets_its_grace_before_the_engine_kills() -> None:
    grace_seconds = Settings.model_fields["shutdown_grace_seconds"].default
    assert seconds(compose()["delayed-consumer"]["stop_grace_period"]) > grace_seconds


def test_the_kafka_is_the_one_that_the_tests_run_on() -> None:
    images = {service["image"] for service in compose().values() if "image" in service}
    assert images == {f"apache/kafka:{VERSION}"}


def test_every_stage_that_is_built_by_compose_is_in_the_dockerfile() -> None:
    targets = {service["build"]["target"] for service in compose().values() if "build" in service}
    assert targets <= stages().keys()
    assert list(stages())[-1] == "service", "a plain `docker build .` must give the service"


def test_the_image_starts_the_program_that_the_package_installs() -> None:
    service = stages()["service"]
    (program,) = instructions(service, "ENTRYPOINT")[0].exec_form()
    assert program in PROJECT["project"]["scripts"]
    assert instructions(service, "HEALTHCHECK")[0].exec_form() == [program, "healthcheck"]


@pytest.mark.parametrize("stage", ["service", "load"])
def test_a_container_runs_as_a_numbered_user_who_is_not_root(stage: str) -> None:
    user = instructions(stages()[stage], "USER")[0].arguments
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user), "an orchestrator can only tell a number from root"


def test_the_label_has_the_version_of_the_package() -> None:
    labels = instructions(stages()["service"], "LABEL")[0].pairs()
    assert labels["org.opencontainers.image.version"] == PROJECT["project"]["version"]
    assert labels["org.opencontainers.image.licenses"] == PROJECT["project"]["license"]


def test_the_python_of_the_image_is_one_that_the_package_supports() -> None:
    bases = {stage.base for stage in stages().values()} - stages().keys()
    (version,) = {re.sub(r"python:(\d+\.\d+)-.*", r"\1", base) for base in bases}
    assert f"Programming Language :: Python :: {version}" in PROJECT["project"]["classifiers"]


def test_what_the_image_copies_is_sent_to_the_builder() -> None:
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copies = [one.arguments.split() for stage in stages().values() for one in stage.instructions if one.name == "COPY"]
    sources = [source.rstrip("/") for words in copies if not words[0].startswith("--from") for source in words[:-1]]
    assert [source for source in sources if not any(fnmatchcase(source, pattern) for pattern in sent)] == []
