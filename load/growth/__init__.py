"""What the service costs as something grows: ``python -m load growth``."""
