"""The admin address: metrics, health and the effective configuration over HTTP."""
