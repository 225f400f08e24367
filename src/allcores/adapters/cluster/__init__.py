"""Pools whose workers are nodes of a cluster, whatever cluster it is.

A pool's driver has a `ClusterBackend`, which sends requests to nodes. On each, `node.exchange` carries them out with a
pool that has the node's cores. A `Cluster` (Dask's, Ray's) knows which nodes there are, and how bytes get to them.
"""
