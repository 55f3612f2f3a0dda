"""What ``benchmarks/performance.py`` is made of: contenders that are given work in turn, the parts, the page."""
