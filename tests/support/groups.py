"""A consumer group as the brokers see it."""

from __future__ import annotations

from dataclasses import dataclass

from confluent_kafka import ConsumerGroupState

from tests.support.topics import admin


@dataclass(frozen=True)
class Group:
    stable: bool
    members: frozenset[str]
    """The ids that the brokers gave the members: a member that joins anew gets another one."""


def describe(bootstrap: str, group: str) -> Group:
    client = admin(bootstrap)
    described = client.describe_consumer_groups([group], request_timeout=10)[group].result()
    members = frozenset(str(member.member_id) for member in described.members)
    return Group(described.state == ConsumerGroupState.STABLE, members)
