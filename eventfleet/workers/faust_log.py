"""The logger of our subclasses of Faust's services, among those of Faust, which are silent.

Faust gives a class the logger of its module, and writes a traceback there of each error that ends
it. We report errors ourselves, once, where it is known what they end.
"""

import logging

FAUST_LOGGER = logging.getLogger("faust.eventfleet")
