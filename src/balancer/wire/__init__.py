"""The words of the APIs that are acted on: requests, answers, streams and errors. Everything else is carried along unread."""
