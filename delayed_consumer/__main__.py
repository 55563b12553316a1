"""`python -m delayed_consumer` is `delayed-consumer`."""

from delayed_consumer.cli import main

main()
