"""The words of the APIs that are acted on: requests, answers, streams, errors. The rest is carried along unread."""
