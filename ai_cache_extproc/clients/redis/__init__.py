"""The one Redis client: pipelined connections of our own, discovery by redis-py."""
