"""Results of pure functions, kept on the disk: none is computed twice, in this program or another."""
