"""`delayed-consumer demo`: records that arrive late on purpose (`live`), and what a crash does to them (`crash`)."""
