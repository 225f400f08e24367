"""The first job: every module of the standard library, measured on all cores. `python -m allcores.demo`."""
