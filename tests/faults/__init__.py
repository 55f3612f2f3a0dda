"""Proof that nothing is lost: ``python -m tests.faults`` kills, starves and cuts off the real commands, and compares."""
