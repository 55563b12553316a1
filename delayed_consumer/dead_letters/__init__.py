"""`delayed-consumer dead-letters`: lists, shows and replays what is in DEAD_LETTER_TOPIC; needs no running service."""
