"""Measures the service from outside on a real Kafka: ``python -m load --help``."""
