"""One script a library: `python -m ganzoo_speed.drivers.NAME SETTING` plays rounds on demand in that library's own
environment (see `answer`)."""
