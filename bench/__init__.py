"""One program per claim, each measured against what it is compared with in one interleaved run (bench/README.md)."""
