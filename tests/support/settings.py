"""Settings that several tests need."""

from __future__ import annotations

# The group notices soon that a member was killed. A session must be longer than some heartbeats.
SHORT_SESSION = {"KAFKA_CONF_SESSION_TIMEOUT_MS": 1500, "KAFKA_CONF_HEARTBEAT_INTERVAL_MS": 300}
