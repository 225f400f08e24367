"""Pipelines: steps over a stream of records, fused into stages that share the cores. See `Pipeline`."""
