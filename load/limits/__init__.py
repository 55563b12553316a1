"""What the service must reach beyond the three scenarios, each measured on a real broker."""
