"""The parts of the measurement: each measures (``measure``) and writes its section of the page (``section``)."""
