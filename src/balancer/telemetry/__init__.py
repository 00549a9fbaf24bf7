"""What listens to events: the log file, the console and the metrics; and the thread that writes."""
