"""An LLM response cache that stands beside Envoy as an ext_proc sidecar."""

__version__ = "0.1.0"
