"""Protobuf classes compiled from `proto/`. Regenerated, never edited."""
