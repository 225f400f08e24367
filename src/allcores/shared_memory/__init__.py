"""Large items, results and shared objects in memory that parent and workers both map: both ends of the mechanism."""
