"""Everything that is asked of Kafka beside the consumer, by clients of its own; never on the loop's thread."""

from delayed_consumer.probe.client_check import check_client_config
from delayed_consumer.probe.cluster import Probe, Rights, missing_topics

__all__ = ["Probe", "Rights", "check_client_config", "missing_topics"]
