"""The service and what else people use for it, side by side: ``python -m load compare``."""
