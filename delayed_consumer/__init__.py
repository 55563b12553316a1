"""Reads a Kafka topic N seconds late: never early, about a millisecond late, nothing lost."""

__version__ = "0.1.0"
