"""A pool whose nodes are batch jobs of SLURM."""

import sys

from dask_jobqueue import SLURMCluster

import allcores


def square(n):
    return n * n


def slurm(jobs):
    """Each job is one node with all of its cores: one process of Dask, with one pool."""
    cluster = SLURMCluster(
        queue="normal",
        cores=16,
        processes=1,
        memory="64GB",
        walltime="02:00:00",
        python=sys.executable,
        job_extra_directives=["--exclusive"],
    )
    cluster.scale(jobs=jobs)
    if jobs:
        cluster.wait_for_workers(1)
    return cluster


if __name__ == "__main__":
    with slurm(jobs=10) as cluster, allcores.Pool(10, backend="dask", address=cluster) as pool:
        print(sum(pool.imap(square, range(1_000_000))))
