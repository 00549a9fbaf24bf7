"""The control endpoints: status, reload, admin, models, metrics."""
