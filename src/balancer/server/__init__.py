"""The clients' side: connections, requests, who may come in, and the process that serves them."""
