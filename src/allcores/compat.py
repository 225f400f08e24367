"""Names of other libraries, on allcores: `from allcores.compat import Pool` instead of `multiprocessing`."""

from allcores.adapters.multiprocessing import Pool

__all__ = ["Pool"]
