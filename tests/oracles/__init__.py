"""Our codes against those of other libraries, which CI installs: `pip install -e '.[oracles]'`."""
